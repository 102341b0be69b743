// The groups of tests, and the measurements.
#pragma once

#include "verdict.hpp"

namespace spillway::cuda_test {

class Kernels;

void test_elements(Kernels& kernels, Verdict& verdict);
/// `few`: a part of the cases, for runs under a checker, which takes a hundred times as long.
void test_linear(Kernels& kernels, Verdict& verdict, bool few);
void test_attention(Kernels& kernels, Verdict& verdict, bool few);
/// Writes JSON; `cublas` is the path of cuBLAS, or empty.
void measure(Kernels& kernels, const std::string& json, const std::string& cublas);

}  // namespace spillway::cuda_test
