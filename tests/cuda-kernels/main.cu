// kernel_test <folder of fatbins> [--few] [--no-tests] [--json <file>] [--cublas <libcublas.so>]
#include "cases.hpp"
#include "harness.cuh"

int main(int count, char** arguments) {
  using namespace spillway::cuda_test;
  std::string folder = count > 1 ? arguments[1] : ".", json, cublas;
  bool few = false, tests = true;
  for (int i = 2; i < count; ++i) {
    const std::string option = arguments[i];
    if (option == "--few") few = true;
    if (option == "--no-tests") tests = false;
    if (option == "--json" && i + 1 < count) json = arguments[++i];
    if (option == "--cublas" && i + 1 < count) cublas = arguments[++i];
  }
  Kernels kernels(folder);
  Verdict verdict;
  if (tests) {
    test_elements(kernels, verdict);
    test_linear(kernels, verdict, few);
    test_attention(kernels, verdict, few);
    verdict.print();
    std::printf("%u failures, %llu launches\n", verdict.failures(), static_cast<unsigned long long>(kernels.launches));
    std::fflush(stdout);
  }
  if (!json.empty()) measure(kernels, json, cublas);
  return verdict.failures() == 0 ? 0 : 1;
}
