// Gather and scatter: a list of tensors goes from strided places in device memory to others, such as from where kernels
// made them into a slab, in one launch of a kernel.
#pragma once

#include <cstdint>
#include <spillway/abi.hpp>
#include <vector>

namespace spillway::prefetch {

/// Steps are bytes from one index to the next.
struct TensorDimension {
  uint64_t length;
  uint64_t from_step;
  uint64_t to_step;
};

/// Every element of one tensor, from its place in one buffer to its place in another.
struct TensorMove {
  spillway_buffer* from;
  uint64_t from_offset;
  spillway_buffer* to;
  uint64_t to_offset;
  uint64_t element_bytes;  // a power of two
  std::vector<TensorDimension> dimensions;
};

/// Enqueues the moves; a long list takes several launches. Bytes between elements are neither read nor written. Each
/// place is written once, but where a tensor has the same steps on both sides its elements may share bytes. Different
/// tensors must not write the same bytes. Throws StatusError, before the first launch:
///   INVALID_ARGUMENT  a place outside of its buffer, or that the device cannot reach; bytes that are read and written;
///                     a layout that puts several elements at one place
///   NOT_SUPPORTED     a layout of more than 6 dimensions that cannot be joined
/// and what a launch is refused with: NO_KERNELS where the addon has no device code for this GPU.
void gather_scatter(const spillway_api* api, spillway_stream* stream, const std::vector<TensorMove>& tensors);

}  // namespace spillway::prefetch
