#include "operations.hpp"

#include "kernels/attention_args.h"
#include "kernels/embedding_args.h"
#include "kernels/linear_args.h"
#include "kernels/norm_linear_args.h"
#include "kernels/norm_swiglu_args.h"
#include "kernels/qk_norm_args.h"
#include "kernels/rms_norm_args.h"
#include "kernels/rope_append_args.h"
#include "kernels/silu_mul_args.h"
#include "launch.hpp"

namespace spillway::decoder {
namespace {

constexpr uint32_t kRead = SPILLWAY_ACCESS_READ;
constexpr uint32_t kWrite = SPILLWAY_ACCESS_WRITE;
constexpr uint32_t kBoth = SPILLWAY_ACCESS_READ | SPILLWAY_ACCESS_WRITE;

uint32_t by_dtype(KernelIndex first, DType dtype) { return first + static_cast<uint32_t>(dtype); }

/// What the kernels that work on qkv have in common.
struct Heads {
  uint32_t rows, heads, key_value_heads, head_dim;
  uint64_t qkv_width;
};

Heads read_heads(Launch& launch) {
  Heads h{};
  h.rows = launch.dimension("rows");
  h.heads = launch.dimension("heads");
  h.key_value_heads = launch.dimension("keyValueHeads");
  h.head_dim = launch.dimension("headDim");
  if (h.heads % h.key_value_heads != 0) launch.refuse("heads must be a multiple of keyValueHeads");
  if (__builtin_mul_overflow(uint64_t{h.heads} + 2 * uint64_t{h.key_value_heads}, uint64_t{h.head_dim}, &h.qkv_width)) {
    launch.refuse("qkv is larger than any buffer");
  }
  return h;
}

}  // namespace

Napi::Value embedding(const Napi::CallbackInfo& info) {
  Launch launch(info, "embedding");
  const DType dtype = launch.dtype();
  EmbeddingArgs a{};
  a.rows = launch.dimension("rows");
  a.vocabulary = launch.dimension("vocabulary");
  a.hidden = launch.dimension("hidden");
  a.tokens = launch.tensor<int32_t>("tokens", kRead, {a.rows});
  a.table = launch.tensor("table", kRead, dtype, {a.vocabulary, a.hidden});
  a.y = launch.tensor<float>("y", kWrite, {a.rows, a.hidden});
  return launch.enqueue(by_dtype(k_embedding_f32, dtype), a, cuda::embedding_shape(a));
}

Napi::Value rms_norm(const Napi::CallbackInfo& info) {
  Launch launch(info, "rmsNorm");
  const DType dtype = launch.dtype();
  RmsNormArgs a{};
  a.rows = launch.dimension("rows");
  a.hidden = launch.dimension("hidden");
  a.epsilon = launch.epsilon();
  a.x = launch.tensor<float>("x", kRead, {a.rows, a.hidden});
  a.weight = launch.tensor("weight", kRead, dtype, {a.hidden});
  a.y = launch.tensor<float>("y", kWrite, {a.rows, a.hidden});
  return launch.enqueue(by_dtype(k_rms_norm_f32, dtype), a, cuda::rms_norm_shape(a));
}

Napi::Value linear(const Napi::CallbackInfo& info) {
  Launch launch(info, "linear");
  const DType dtype = launch.dtype();
  LinearArgs a{};
  a.rows = launch.dimension("rows");
  a.inputs = launch.dimension("inputs");
  a.outputs = launch.dimension("outputs");
  a.accumulate = launch.flag("accumulate") ? 1 : 0;
  const cuda::LinearEntry entry = launch.entry<cuda::LinearEntry>(3).value_or(cuda::linear_entry(a));
  MatrixLibrary* library = launch.library();
  a.x = launch.tensor<float>("x", kRead, {a.rows, a.inputs});
  a.weight = launch.tensor("weight", kRead, dtype, {a.outputs, a.inputs});
  a.bias = launch.optional_tensor("bias", kRead, dtype, {a.outputs});
  a.y = launch.tensor<float>("y", a.accumulate ? kBoth : kWrite, {a.rows, a.outputs});
  void* parts = launch.optional_tensor("parts", kWrite, DType::kBF16, {2, a.rows, a.inputs});
  const bool is_for_library = entry == cuda::LinearEntry::kTiles && dtype == DType::kBF16 && a.bias == nullptr;
  if (library != nullptr && parts != nullptr && is_for_library && launch.multiply(*library, a, parts)) {
    return info.Env().Undefined();
  }
  if (parts != nullptr) launch.leave_out_last();
  constexpr KernelIndex kFirst[] = {k_linear_vector_f32, k_linear_few_f32, k_linear_tiles_f32};
  const KernelIndex first = kFirst[static_cast<uint32_t>(entry)];
  return launch.enqueue(by_dtype(first, dtype), a, cuda::linear_shape(a, entry, dtype));
}

Napi::Value norm_linear(const Napi::CallbackInfo& info) {
  Launch launch(info, "normLinear");
  const DType dtype = launch.dtype();
  NormLinearArgs a{};
  a.rows = launch.dimension("rows");
  a.inputs = launch.dimension("inputs");
  a.outputs = launch.dimension("outputs");
  a.epsilon = launch.epsilon();
  a.x = launch.tensor<float>("x", kRead, {a.rows, a.inputs});
  a.norm = launch.tensor("norm", kRead, dtype, {a.inputs});
  a.weight = launch.tensor("weight", kRead, dtype, {a.outputs, a.inputs});
  a.bias = launch.optional_tensor("bias", kRead, dtype, {a.outputs});
  a.y = launch.tensor<float>("y", kWrite, {a.rows, a.outputs});
  return launch.enqueue(by_dtype(k_norm_linear_f32, dtype), a, cuda::norm_linear_shape(a));
}

Napi::Value norm_swiglu(const Napi::CallbackInfo& info) {
  Launch launch(info, "normSwiglu");
  const DType dtype = launch.dtype();
  NormSwigluArgs a{};
  a.rows = launch.dimension("rows");
  a.inputs = launch.dimension("inputs");
  a.ffn = launch.dimension("ffn");
  a.epsilon = launch.epsilon();
  a.x = launch.tensor<float>("x", kRead, {a.rows, a.inputs});
  a.norm = launch.tensor("norm", kRead, dtype, {a.inputs});
  a.weight = launch.tensor("weight", kRead, dtype, {2, a.ffn, a.inputs});
  a.y = launch.tensor<float>("y", kWrite, {a.rows, a.ffn});
  return launch.enqueue(by_dtype(k_norm_swiglu_f32, dtype), a, cuda::norm_swiglu_shape(a));
}

Napi::Value qk_norm(const Napi::CallbackInfo& info) {
  Launch launch(info, "qkNorm");
  const DType dtype = launch.dtype();
  const Heads h = read_heads(launch);
  QkNormArgs a{};
  a.rows = h.rows;
  a.heads = h.heads;
  a.key_value_heads = h.key_value_heads;
  a.head_dim = h.head_dim;
  a.epsilon = launch.epsilon();
  a.qkv = launch.tensor<float>("qkv", kBoth, {h.rows, h.qkv_width});
  a.q_weight = launch.tensor("qWeight", kRead, dtype, {h.head_dim});
  a.k_weight = launch.tensor("kWeight", kRead, dtype, {h.head_dim});
  return launch.enqueue(by_dtype(k_qk_norm_f32, dtype), a, cuda::qk_norm_shape(a));
}

Napi::Value rope_append(const Napi::CallbackInfo& info) {
  Launch launch(info, "ropeAppend");
  const DType dtype = launch.dtype();
  const Heads h = read_heads(launch);
  const uint32_t context = launch.dimension("context");
  if (h.head_dim % 2 != 0) launch.refuse("headDim must be even");
  RopeAppendArgs a{};
  a.rows = h.rows;
  a.heads = h.heads;
  a.key_value_heads = h.key_value_heads;
  a.head_dim = h.head_dim;
  a.context = context;
  a.scaling = launch.number("scaling");
  a.qkv = launch.tensor<float>("qkv", kBoth, {h.rows, h.qkv_width});
  a.position = launch.tensor<int32_t>("position", kRead, {1});
  a.inverse_frequency = launch.tensor<float>("inverseFrequency", kRead, {h.head_dim / 2});
  // Which rows of the cache are written is known only when the work runs: all of it is declared.
  a.keys = launch.tensor("keys", kWrite, dtype, {context, h.key_value_heads, h.head_dim});
  a.values = launch.tensor("values", kWrite, dtype, {context, h.key_value_heads, h.head_dim});
  return launch.enqueue(by_dtype(k_rope_append_f32, dtype), a, cuda::rope_append_shape(a));
}

Napi::Value attention(const Napi::CallbackInfo& info) {
  Launch launch(info, "attention");
  const DType dtype = launch.dtype();
  const Heads h = read_heads(launch);
  const uint32_t context = launch.dimension("context");
  if (h.head_dim > SPILLWAY_ATTENTION_MAX_HEAD_DIM) {
    launch.refuse("headDim is " + std::to_string(h.head_dim) + ", this kernel has room for " +
                  std::to_string(SPILLWAY_ATTENTION_MAX_HEAD_DIM));
  }
  AttentionArgs a{};
  a.rows = h.rows;
  a.heads = h.heads;
  a.key_value_heads = h.key_value_heads;
  a.head_dim = h.head_dim;
  a.context = context;
  a.scale = launch.number("scale");
  a.window = launch.count("window");
  const cuda::AttentionEntry entry = launch.entry<cuda::AttentionEntry>(2).value_or(cuda::attention_entry(a));
  a.qkv = launch.tensor<float>("qkv", kRead, {h.rows, h.qkv_width});
  a.position = launch.tensor<int32_t>("position", kRead, {1});
  a.keys = launch.tensor("keys", kRead, dtype, {context, h.key_value_heads, h.head_dim});
  a.values = launch.tensor("values", kRead, dtype, {context, h.key_value_heads, h.head_dim});
  a.y = launch.tensor<float>("y", kWrite, {h.rows, h.heads, h.head_dim});
  const KernelIndex first = entry == cuda::AttentionEntry::kSplit ? k_attention_split_f32 : k_attention_tiles_f32;
  return launch.enqueue(by_dtype(first, dtype), a, cuda::attention_shape(a, entry));
}

Napi::Value silu_mul(const Napi::CallbackInfo& info) {
  Launch launch(info, "siluMul");
  SiluMulArgs a{};
  a.rows = launch.dimension("rows");
  a.ffn = launch.dimension("ffn");
  a.gate_up = launch.tensor<float>("gateUp", kRead, {a.rows, 2, a.ffn});
  a.y = launch.tensor<float>("y", kWrite, {a.rows, a.ffn});
  return launch.enqueue(k_silu_mul, a, cuda::silu_mul_shape(a));
}

Napi::Value split(const Napi::CallbackInfo& info) {
  Launch launch(info, "split");
  SplitArgs a{};
  a.count = launch.dimension("count");
  a.x = launch.tensor<float>("x", kRead, {a.count});
  a.parts = launch.tensor("parts", kWrite, DType::kBF16, {2, a.count});
  return launch.enqueue(k_split_bf16, a, cuda::split_shape(a));
}

}  // namespace spillway::decoder
