// A kernel that reads and writes what a test says, whatever was declared for it.
#pragma once

#include <spillway/napi.hpp>

#include "kernels/touch_arguments.hpp"

namespace abi_probe {

/// Walks the ranges in order. A read folds every byte and its position into a running hash, which starts as the seed; a
/// write writes bytes made of the hash and their positions; both: reads all of the range, then writes it. With
/// `parallel` inside parallel_for, to the same result.
extern const spillway_kernel kTouch;

/// touch(stream, ranges, handles, declared, parallel, seed): `ranges` is a BigUint64Array of [address, bytes, mode]…,
/// `declared` one of [offset, bytes, mode]… for each of the buffers in `handles`.
Napi::Value touch(const Napi::CallbackInfo& info);

/// address(buffer): the device's address of a buffer; 0 when it has none.
Napi::Value address(const Napi::CallbackInfo& info);

}  // namespace abi_probe
