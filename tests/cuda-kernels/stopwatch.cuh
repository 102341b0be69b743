// Times of captured launches: graph replays between two events, so that nothing of the host is in them.
#pragma once

#include <algorithm>
#include <functional>

#include "harness.cuh"

namespace spillway::cuda_test {

/// Work captured once; `launches` is what one replay does.
class Recording {
 public:
  Recording(uint32_t launches, const std::function<void(cudaStream_t, uint32_t)>& launch) : launches_(launches) {
    CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&start_));
    CHECK(cudaEventCreate(&stop_));
    launch(stream_, 0);  // first use: loads the kernel, which a capture does not allow
    CHECK(cudaStreamSynchronize(stream_));
    CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    for (uint32_t i = 0; i < launches; ++i) launch(stream_, i);
    cudaGraph_t graph;
    CHECK(cudaStreamEndCapture(stream_, &graph));
    CHECK(cudaGraphInstantiate(&graph_, graph, 0));
    CHECK(cudaGraphDestroy(graph));
    microseconds();
  }
  Recording(const Recording&) = delete;
  ~Recording() {
    cudaGraphExecDestroy(graph_);
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
    cudaStreamDestroy(stream_);
  }

  /// Of one launch, the mean over one replay.
  double microseconds() {
    CHECK(cudaEventRecord(start_, stream_));
    CHECK(cudaGraphLaunch(graph_, stream_));
    CHECK(cudaEventRecord(stop_, stream_));
    CHECK(cudaEventSynchronize(stop_));
    float milliseconds;
    CHECK(cudaEventElapsedTime(&milliseconds, start_, stop_));
    return 1e3 * milliseconds / launches_;
  }

 private:
  uint32_t launches_;
  cudaStream_t stream_;
  cudaEvent_t start_, stop_;
  cudaGraphExec_t graph_;
};

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Medians of both, measured in the order A B B A, so that what drifts drifts for both.
inline std::pair<double, double> abba(Recording& a, Recording& b, uint32_t rounds = 7) {
  std::vector<double> of_a, of_b;
  for (uint32_t i = 0; i < rounds; ++i) {
    of_a.push_back(a.microseconds());
    of_b.push_back(b.microseconds());
    of_b.push_back(b.microseconds());
    of_a.push_back(a.microseconds());
  }
  return {median(of_a), median(of_b)};
}

/// The limit: reads and does next to nothing else. Sums are written, or the reads would be left out.
static __global__ void __launch_bounds__(512) read_memory(const uint4* from, uint64_t count, uint32_t* to) {
  uint32_t sum = 0;
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + 3 * step < count; i += 4 * step) {
    uint4 v[4];
#pragma unroll
    for (uint32_t u = 0; u < 4; ++u) v[u] = load_streaming(from + i + u * step);
#pragma unroll
    for (uint32_t u = 0; u < 4; ++u) sum += v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  for (; i < count; i += step) sum += load_streaming(from + i).x;
  if (sum == 0x12345678) *to = sum;
}

/// Pseudo-random bf16 of about ±1, made on the device: gigabytes of them.
static __global__ void fill_bf16(uint64_t count, BFloat16* to) {
  const uint64_t step = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    to[i] = __float2bfloat16_rn(static_cast<float>(static_cast<int32_t>(x >> 32)) * 0x1p-31f);
  }
}

}  // namespace spillway::cuda_test
