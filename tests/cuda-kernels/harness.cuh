// What the tests and measurements share: kernels loaded and launched as @spillway/device does it (driver API, one
// argument struct by value), guarded buffers, float64 references.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "../../packages/decoder/native/cuda/element.cuh"
#include "../../packages/decoder/native/cuda/launch_shape.hpp"
#include "verdict.hpp"

namespace spillway::cuda_test {

using namespace decoder::cuda;

inline void check(cudaError_t status, const char* what, int line) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "line %d: %s: %s\n", line, what, cudaGetErrorString(status));
  std::exit(2);
}
inline void check(CUresult status, const char* what, int line) {
  if (status == CUDA_SUCCESS) return;
  std::fprintf(stderr, "line %d: %s: CUresult %d\n", line, what, static_cast<int>(status));
  std::exit(2);
}
#define CHECK(call) ::spillway::cuda_test::check((call), #call, __LINE__)

/// A driver function, without linking to the driver: the machine that builds has none.
template <typename Function>
Function driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  CHECK(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found));
  return reinterpret_cast<Function>(function);
}

class Kernels {
 public:
  explicit Kernels(const std::string& folder) {
    CHECK(cudaFree(nullptr));
    const auto load = driver_function<decltype(&cuModuleLoad)>("cuModuleLoad");
    for (const char* name : {"embedding", "rms_norm", "rope_append", "silu_mul", "narrow", "linear_vector",
                             "linear_few", "linear_tiles", "attention", "attention_tiles"}) {
      CUmodule module;
      const std::string path = folder + "/" + name + ".fatbin";
      if (std::FILE* file = std::fopen(path.c_str(), "rb")) {
        std::fclose(file);
        CHECK(load(&module, path.c_str()));
        modules_[name] = module;
      }
    }
    get_function_ = driver_function<decltype(&cuModuleGetFunction)>("cuModuleGetFunction");
    set_attribute_ = driver_function<decltype(&cuFuncSetAttribute)>("cuFuncSetAttribute");
    launch_ = driver_function<decltype(&cuLaunchKernel)>("cuLaunchKernel");
  }

  template <typename Arguments>
  void launch(const std::string& name, const LaunchShape& shape, const Arguments& arguments, cudaStream_t stream = 0) {
    Arguments copy = arguments;
    size_t bytes = sizeof copy;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &copy, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    CHECK(launch_(function(name, shape.shared_bytes), shape.grid[0], shape.grid[1], shape.grid[2], shape.block, 1, 1,
                  shape.shared_bytes, stream, nullptr, extra));
    ++launches;
  }

  uint64_t launches = 0;

 private:
  CUfunction function(const std::string& name, uint32_t shared_bytes) {
    auto known = functions_.find(name);
    if (known == functions_.end()) {
      // An image is named after its entry points, without the dtype.
      std::string image = name == "silu_mul" ? name : name.substr(0, name.rfind('_'));
      if (image == "linear") image = "linear_vector";
      CUfunction function;
      CHECK(get_function_(&function, modules_.at(image), name.c_str()));
      known = functions_.emplace(name, function).first;
    }
    if (shared_bytes > 48 << 10) {
      CHECK(set_attribute_(known->second, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                           static_cast<int>(shared_bytes)));
    }
    return known->second;
  }

  std::map<std::string, CUmodule> modules_;
  std::map<std::string, CUfunction> functions_;
  decltype(&cuModuleGetFunction) get_function_;
  decltype(&cuFuncSetAttribute) set_attribute_;
  decltype(&cuLaunchKernel) launch_;
};

template <typename Element>
inline const char* dtype_name() {
  return std::is_same_v<Element, float> ? "f32" : std::is_same_v<Element, Float16> ? "f16" : "bf16";
}
template <typename Element>
inline constexpr Storage storage_of() {
  return std::is_same_v<Element, float>     ? Storage::kF32
         : std::is_same_v<Element, Float16> ? Storage::kF16
                                            : Storage::kBF16;
}

template <typename Element>
Element rounded(double value) {
  if constexpr (std::is_same_v<Element, float>) return static_cast<float>(value);
  if constexpr (std::is_same_v<Element, Float16>) return __float2half_rn(static_cast<float>(value));
  if constexpr (std::is_same_v<Element, BFloat16>) return __float2bfloat16_rn(static_cast<float>(value));
}
inline double exact(float value) { return value; }
inline double exact(Float16 value) { return __half2float(value); }
inline double exact(BFloat16 value) { return __bfloat162float(value); }

inline std::mt19937_64& random_engine() {
  static std::mt19937_64 engine(20261121);
  return engine;
}

constexpr uint8_t kPoison = 0xff;  // NaN in every dtype
constexpr size_t kGuard = 256;

/// Device memory between guards that nothing may write, `shift` elements behind a 16-byte boundary; poisoned.
template <typename Element>
class Buffer {
 public:
  explicit Buffer(size_t count, size_t shift = 0) : count_(count), before_(kGuard + shift * sizeof(Element)) {
    CHECK(cudaMalloc(&memory_, bytes()));
    poison();
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(memory_); }

  Element* data() const { return reinterpret_cast<Element*>(memory_ + before_); }
  size_t size() const { return count_; }
  void poison() { CHECK(cudaMemset(memory_, kPoison, bytes())); }
  void upload(const std::vector<Element>& values) {
    CHECK(cudaMemcpy(data(), values.data(), count_ * sizeof(Element), cudaMemcpyHostToDevice));
  }
  std::vector<Element> download() const {
    std::vector<uint8_t> all(bytes());
    CHECK(cudaMemcpy(all.data(), memory_, bytes(), cudaMemcpyDeviceToHost));
    const size_t end = before_ + count_ * sizeof(Element);
    for (size_t i = 0; i < all.size(); ++i) {
      if ((i < before_ || i >= end) && all[i] != kPoison) {
        std::fprintf(stderr, "a kernel wrote outside its buffer, at byte %ld of %zu\n",
                     static_cast<long>(i) - static_cast<long>(before_), count_ * sizeof(Element));
        std::exit(3);
      }
    }
    std::vector<Element> values(count_);
    std::memcpy(values.data(), all.data() + before_, count_ * sizeof(Element));
    return values;
  }

 private:
  size_t bytes() const { return before_ + count_ * sizeof(Element) + kGuard; }
  size_t count_, before_;
  uint8_t* memory_ = nullptr;
};

template <typename Element>
std::vector<Element> random_values(size_t count, double scale = 1) {
  std::normal_distribution<double> normal(0, scale);
  std::vector<Element> values(count);
  for (Element& value : values) value = rounded<Element>(normal(random_engine()));
  return values;
}

/// References are computed by the device, in float64, by one thread for each value: nothing in common with the kernels.
template <typename Function>
__global__ void each(uint64_t count, double* to, Function function) {
  const uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < count) to[i] = function(i);
}
template <typename Function>
std::vector<double> reference(uint64_t count, Function function) {
  double* to;
  CHECK(cudaMalloc(&to, count * sizeof(double)));
  each<<<static_cast<uint32_t>((count + 127) / 128), 128>>>(count, to, function);
  CHECK(cudaGetLastError());
  std::vector<double> values(count);
  CHECK(cudaMemcpy(values.data(), to, count * sizeof(double), cudaMemcpyDeviceToHost));
  cudaFree(to);
  return values;
}

inline const auto kExact = [](auto value) { return exact(value); };

/// Runs twice over poisoned outputs: the same bits both times.
template <typename Element, typename Run>
std::vector<Element> run_twice(Verdict& verdict, const std::string& name, Buffer<Element>& y, const Run& run) {
  y.poison();
  run();
  CHECK(cudaDeviceSynchronize());
  const auto first = y.download();
  y.poison();
  run();
  CHECK(cudaDeviceSynchronize());
  const auto second = y.download();
  verdict.require("same bits twice", name,
                  std::memcmp(first.data(), second.data(), first.size() * sizeof(Element)) == 0);
  return first;
}

}  // namespace spillway::cuda_test
