#pragma once

#include <spillway/napi.hpp>

namespace spillway::device::binding {

/// Exact up to 2^53.
inline Napi::Number number(Napi::Env env, uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

}  // namespace spillway::device::binding
