// The addon's functions: each checks its operands, fills its argument struct and enqueues one launch.
#pragma once

#include <spillway/napi.hpp>

namespace spillway::decoder {

// Arguments: the stream, the kernel's numbers, then a buffer and an offset in bytes for each tensor, as kernels.ts
// passes them.
Napi::Value embedding(const Napi::CallbackInfo& info);
Napi::Value rms_norm(const Napi::CallbackInfo& info);
Napi::Value linear(const Napi::CallbackInfo& info);
Napi::Value norm_linear(const Napi::CallbackInfo& info);
Napi::Value norm_swiglu(const Napi::CallbackInfo& info);
Napi::Value qk_norm(const Napi::CallbackInfo& info);
Napi::Value rope_append(const Napi::CallbackInfo& info);
Napi::Value attention(const Napi::CallbackInfo& info);
Napi::Value silu_mul(const Napi::CallbackInfo& info);
Napi::Value split(const Napi::CallbackInfo& info);

}  // namespace spillway::decoder
