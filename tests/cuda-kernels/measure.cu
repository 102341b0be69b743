// Times at the shapes of Llama 3 8B, beside the limits in the same run: reading as many bytes, and cuBLAS.
#include <dlfcn.h>

#include "cases.hpp"
#include "stopwatch.cuh"

namespace spillway::cuda_test {
namespace {

constexpr uint64_t kWeightBytes = 4ull << 30;  // many times the second-level cache: rotated through, it is never in it
constexpr uint32_t kHidden = 4096, kFfn = 14336, kQkv = 6144, kVocabulary = 128256;

struct Memory {
  BFloat16* weights;
  float *x, *y;
  uint32_t* sink;
  int32_t* position;

  Memory() {
    CHECK(cudaMalloc(&weights, kWeightBytes));
    fill_bf16<<<4096, 256>>>(kWeightBytes / 2, weights);
    CHECK(cudaMalloc(&x, 256 << 20));
    CHECK(cudaMalloc(&y, 1 << 30));
    CHECK(cudaMalloc(&sink, 4));
    CHECK(cudaMalloc(&position, 4));
    std::vector<float> values = random_values<float>(1 << 20);
    for (uint32_t i = 0; i < 64; ++i) {
      CHECK(cudaMemcpy(x + (size_t{i} << 20), values.data(), 4 << 20, cudaMemcpyHostToDevice));
    }
    CHECK(cudaMemset(y, 0, 1 << 30));
  }
};

struct Linear {
  const char* name;
  uint32_t inputs, outputs;
};

LinearArgs linear_args(const Memory& m, const Linear& s, uint32_t rows, uint32_t number) {
  const uint64_t elements = uint64_t{s.inputs} * s.outputs, copies = kWeightBytes / 2 / elements;
  return {m.x, m.weights + number % copies * elements, nullptr, m.y, rows, s.inputs, s.outputs, 0};
}

const char* entry_name(LinearEntry entry) {
  return entry == LinearEntry::kVector ? "linear_bf16"
         : entry == LinearEntry::kFew  ? "linear_few_bf16"
                                       : "linear_tiles_bf16";
}

void measure_reading(Memory& m, std::FILE* json, double& gigabytes_per_second) {
  Recording whole(4, [&](cudaStream_t stream, uint32_t) {
    read_memory<<<132 * 4, 512, 0, stream>>>(reinterpret_cast<const uint4*>(m.weights), kWeightBytes / 16, m.sink);
  });
  std::vector<double> times;
  for (uint32_t i = 0; i < 9; ++i) times.push_back(whole.microseconds());
  gigabytes_per_second = kWeightBytes / median(times) * 1e-3;
  std::printf("device read, 4 GiB: %.0f GB/s\n", gigabytes_per_second);
  std::fprintf(json, "{\n  \"device_read_gb_per_s\": %.1f,\n  \"linear\": [", gigabytes_per_second);
}

void measure_linear(Kernels& kernels, Memory& m, std::FILE* json, double limit) {
  const Linear shapes[] = {{"o_proj", kHidden, kHidden},       {"qkv_proj", kHidden, kQkv},
                           {"one of gate, up", kHidden, kFfn}, {"gate_up_proj", kHidden, 2 * kFfn},
                           {"down_proj", kFfn, kHidden},       {"head", kHidden, kVocabulary}};
  const char* separator = "\n";
  for (const uint32_t rows : {1u, 2u, 4u, 8u, 16u}) {
    for (const Linear& s : shapes) {
      const uint64_t bytes = uint64_t{s.inputs} * s.outputs * 2;
      const uint32_t launches = static_cast<uint32_t>(kWeightBytes / bytes);
      LinearEntry entry{};
      Recording ours(launches, [&](cudaStream_t stream, uint32_t i) {
        const LinearArgs a = linear_args(m, s, rows, i);
        entry = linear_entry(a);
        kernels.launch(entry_name(entry), linear_shape(a, entry, Storage::kBF16), a, stream);
      });
      Recording reading(launches, [&](cudaStream_t stream, uint32_t i) {
        const LinearArgs a = linear_args(m, s, rows, i);
        read_memory<<<132 * 4, 512, 0, stream>>>(static_cast<const uint4*>(a.weight), bytes / 16, m.sink);
      });
      const auto [read_us, our_us] = abba(reading, ours);
      const double rate = bytes / our_us * 1e-3;
      std::printf(
          "rows %2u %-16s %6u to %6u %-16s %8.2f us %6.0f GB/s, %5.1f %% of the read rate, %5.1f %% of reading as "
          "much\n",
          rows, s.name, s.inputs, s.outputs, entry_name(entry), our_us, rate, 100 * rate / limit,
          100 * read_us / our_us);
      std::fprintf(json,
                   "%s    {\"rows\": %u, \"name\": \"%s\", \"inputs\": %u, \"outputs\": %u, \"kernel\": \"%s\", "
                   "\"us\": %.3f, \"gb_per_s\": %.1f, \"of_device_read\": %.4f, \"same_bytes_read_us\": %.3f}",
                   separator, rows, s.name, s.inputs, s.outputs, entry_name(entry), our_us, rate, rate / limit,
                   read_us);
      separator = ",\n";
    }
  }
  std::fprintf(json, "\n  ],\n");
}

/// cublasGemmEx, found at run time: y = x · weightᵀ, all row by row as ours, x in bf16.
class Cublas {
 public:
  explicit Cublas(const std::string& path) {
    void* library = path.empty() ? nullptr : dlopen(path.c_str(), RTLD_NOW);
    if (!library) return;
    const auto create = reinterpret_cast<int (*)(void**)>(dlsym(library, "cublasCreate_v2"));
    set_stream_ = reinterpret_cast<int (*)(void*, cudaStream_t)>(dlsym(library, "cublasSetStream_v2"));
    set_workspace_ = reinterpret_cast<int (*)(void*, void*, size_t)>(dlsym(library, "cublasSetWorkspace_v2"));
    multiply_ = reinterpret_cast<Multiply>(dlsym(library, "cublasGemmEx"));
    CHECK(cudaMalloc(&workspace_, 64 << 20));
    if (create(&handle_) != 0) handle_ = nullptr;
  }
  bool there() const { return handle_ != nullptr; }
  void run(cudaStream_t stream, const LinearArgs& a, const BFloat16* x) {
    constexpr int kBFloat16 = 14, kFloat32 = 0, kCompute32 = 68;
    const float one = 1, zero = 0;
    set_stream_(handle_, stream);
    set_workspace_(handle_, workspace_, 64 << 20);
    const int status = multiply_(handle_, 1, 0, a.outputs, a.rows, a.inputs, &one, a.weight, kBFloat16, a.inputs, x,
                                 kBFloat16, a.inputs, &zero, a.y, kFloat32, a.outputs, kCompute32, -1);
    if (status != 0) std::fprintf(stderr, "cublasGemmEx: %d\n", status), std::exit(2);
  }

 private:
  using Multiply = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int,
                           const void*, void*, int, int, int, int);
  void* handle_ = nullptr;
  void* workspace_ = nullptr;
  int (*set_stream_)(void*, cudaStream_t) = nullptr;
  int (*set_workspace_)(void*, void*, size_t) = nullptr;
  Multiply multiply_ = nullptr;
};

void measure_tiles(Kernels& kernels, Memory& m, std::FILE* json, const std::string& cublas_path) {
  Cublas cublas(cublas_path);
  BFloat16* x;
  CHECK(cudaMalloc(&x, 128 << 20));
  fill_bf16<<<1024, 256>>>(64 << 20, x);
  std::fprintf(json, "  \"tiles\": [");
  const char* separator = "\n";
  for (const uint32_t rows : {64u, 128u, 512u, 1024u, 2048u}) {
    for (const Linear& s : {Linear{"o_proj", kHidden, kHidden},
                            {"qkv_proj", kHidden, kQkv},
                            {"gate_up_proj", kHidden, 2 * kFfn},
                            {"down_proj", kFfn, kHidden}}) {
      const double operations = 2.0 * rows * s.inputs * s.outputs;
      Recording ours(8, [&](cudaStream_t stream, uint32_t i) {
        const LinearArgs a = linear_args(m, s, rows, i);
        kernels.launch("linear_tiles_bf16", linear_shape(a, LinearEntry::kTiles, Storage::kBF16), a, stream);
      });
      double cublas_us = 0, our_us = 0;
      if (cublas.there()) {
        Recording theirs(8,
                         [&](cudaStream_t stream, uint32_t i) { cublas.run(stream, linear_args(m, s, rows, i), x); });
        std::tie(cublas_us, our_us) = abba(theirs, ours);
      } else {
        our_us = abba(ours, ours).second;
      }
      std::printf("rows %4u %-14s %8.1f us %6.1f TFLOP/s, cuBLAS %8.1f us: %5.1f %% of it\n", rows, s.name, our_us,
                  operations / our_us * 1e-6, cublas_us, 100 * cublas_us / our_us);
      std::fprintf(json,
                   "%s    {\"rows\": %u, \"name\": \"%s\", \"us\": %.2f, \"tflop_per_s\": %.1f, \"cublas_us\": %.2f}",
                   separator, rows, s.name, our_us, operations / our_us * 1e-6, cublas_us);
      separator = ",\n";
    }
  }
  for (const char* dtype : {"f16", "f32"}) {
    const Storage storage = dtype[1] == '1' ? Storage::kF16 : Storage::kF32;
    const Linear s{"o_proj", kHidden, kHidden};
    Recording ours(4, [&](cudaStream_t stream, uint32_t) {
      const LinearArgs a = linear_args(m, s, 1024, 0);
      kernels.launch(std::string("linear_tiles_") + dtype, linear_shape(a, LinearEntry::kTiles, storage), a, stream);
    });
    const double us = abba(ours, ours, 3).second;
    std::printf("rows 1024 o_proj %s %8.1f us %6.1f TFLOP/s\n", dtype, us, 2.0 * 1024 * kHidden * kHidden / us * 1e-6);
    std::fprintf(json, ",\n    {\"rows\": 1024, \"name\": \"o_proj %s\", \"us\": %.2f}", dtype, us);
  }
  std::fprintf(json, "\n  ],\n");
}

void measure_attention(Kernels& kernels, Memory& m, std::FILE* json, double limit) {
  std::fprintf(json, "  \"attention\": [");
  const char* separator = "\n";
  struct Shape {
    uint32_t rows, context;
  };
  for (const Shape s : {Shape{1u, 128u},
                        {1u, 2048u},
                        {1u, 8192u},
                        {1u, 32768u},
                        {8u, 2048u},
                        {16u, 2048u},
                        {64u, 2048u},
                        {1024u, 1024u},
                        {1024u, 8192u}}) {
    const uint32_t rows = s.rows, context = s.context;
    const int32_t position = static_cast<int32_t>(context - rows);
    CHECK(cudaMemcpy(m.position, &position, 4, cudaMemcpyHostToDevice));
    const uint64_t cache = uint64_t{context} * 8 * 128, copies = kWeightBytes / 4 / cache;
    for (const AttentionEntry entry : {AttentionEntry::kSplit, AttentionEntry::kTiles}) {
      if (entry == AttentionEntry::kSplit && rows > 64) continue;
      const char* name = entry == AttentionEntry::kSplit ? "attention_bf16" : "attention_tiles_bf16";
      Recording ours(rows > 64 ? 4 : 32, [&](cudaStream_t stream, uint32_t i) {
        const AttentionArgs a{m.x,
                              m.position,
                              m.weights + i % copies * 2 * cache,
                              m.weights + (i % copies * 2 + 1) * cache,
                              m.y,
                              rows,
                              32,
                              8,
                              128,
                              context,
                              0.088f};
        kernels.launch(name, attention_shape(a, entry), a, stream);
      });
      const double us = abba(ours, ours, 3).second, bytes = 4.0 * cache;
      const double operations = 4.0 * 32 * 128 * rows * (context - rows / 2.0);
      std::printf("attention rows %4u of %5u %-20s %8.2f us %6.0f GB/s (%4.1f %% of the read rate) %6.1f TFLOP/s\n",
                  rows, context, name, us, bytes / us * 1e-3, 100 * bytes / us * 1e-3 / limit, operations / us * 1e-6);
      std::fprintf(json,
                   "%s    {\"rows\": %u, \"context\": %u, \"kernel\": \"%s\", \"us\": %.2f, \"cache_gb_per_s\": %.1f}",
                   separator, rows, context, name, us, bytes / us * 1e-3);
      separator = ",\n";
    }
  }
  std::fprintf(json, "\n  ],\n");
}

void measure_elements(Kernels& kernels, Memory& m, std::FILE* json) {
  CHECK(cudaMemset(m.position, 0, 4));
  std::fprintf(json, "  \"elements_us\": {");
  const char* separator = "\n";
  const auto report = [&](const char* name, uint32_t rows, const std::function<void(cudaStream_t)>& launch) {
    Recording ours(64, [&](cudaStream_t stream, uint32_t) { launch(stream); });
    const double us = abba(ours, ours, 3).second;
    std::printf("%-12s rows %4u %8.2f us\n", name, rows, us);
    std::fprintf(json, "%s    \"%s %u\": %.2f", separator, name, rows, us);
    separator = ",\n";
  };
  for (const uint32_t rows : {1u, 1024u}) {
    const EmbeddingArgs embedding{m.position, m.weights, m.y, 1, kVocabulary, kHidden, 0};
    if (rows == 1)
      report("embedding", 1,
             [&](cudaStream_t s) { kernels.launch("embedding_bf16", embedding_shape(embedding), embedding, s); });
    const RmsNormArgs norm{m.x, m.weights, m.y, rows, kHidden, 1e-5f, 0};
    report("rms_norm", rows, [&](cudaStream_t s) { kernels.launch("rms_norm_bf16", rms_norm_shape(norm), norm, s); });
    const RopeAppendArgs rope{m.y, m.position, m.x, m.weights, m.weights + (64 << 20), rows, 32, 8, 128, 2048, 1};
    report("rope_append", rows,
           [&](cudaStream_t s) { kernels.launch("rope_append_bf16", rope_append_shape(rope), rope, s); });
    const SiluMulArgs silu{m.x, m.y, rows, kFfn};
    report("silu_mul", rows, [&](cudaStream_t s) { kernels.launch("silu_mul", silu_mul_shape(silu), silu, s); });
  }
  std::fprintf(json, "\n  }\n}\n");
}

}  // namespace

void measure(Kernels& kernels, const std::string& path, const std::string& cublas) {
  std::FILE* json = std::fopen(path.c_str(), "w");
  if (!json) std::fprintf(stderr, "cannot write %s\n", path.c_str()), std::exit(2);
  Memory memory;
  double limit;
  measure_reading(memory, json, limit);
  measure_linear(kernels, memory, json, limit);
  measure_tiles(kernels, memory, json, cublas);
  measure_attention(kernels, memory, json, limit);
  measure_elements(kernels, memory, json);
  std::fclose(json);
}

}  // namespace spillway::cuda_test
