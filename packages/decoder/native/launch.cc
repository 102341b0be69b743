#include "launch.hpp"

#include <cstring>

namespace spillway::decoder {

Launch::Launch(const Napi::CallbackInfo& info, const char* operation) : info_(info), operation_(operation) {
  // The functions that make a Launch exist only once attach() has set the instance.
  api_ = info.Env().GetInstanceData<Instance>()->api;
  stream_ = unbox<spillway_stream>(next(), SPILLWAY_KIND_STREAM);
}

void Launch::refuse(const std::string& message) const {
  throw_invalid(info_.Env(), std::string(operation_) + ": " + message);
}

DType Launch::dtype() {
  const uint32_t code = to_uint32(next(), "dtype");
  if (code >= kDTypes) refuse("dtype must be 0 (f32), 1 (f16) or 2 (bf16)");
  return static_cast<DType>(code);
}

uint32_t Launch::dimension(const char* name) {
  const uint64_t length = to_size(next(), name);
  if (length < 1 || length > 0x7fffffff) refuse(std::string(name) + " must be from 1 to 2^31 - 1");
  return static_cast<uint32_t>(length);
}

uint32_t Launch::count(const char* name) {
  const uint64_t value = to_size(next(), name);
  if (value > 0x7fffffff) refuse(std::string(name) + " must be from 0 to 2^31 - 1");
  return static_cast<uint32_t>(value);
}

float Launch::number(const char* name) {
  const float value = to_float(next(), name);
  if (!std::isfinite(value)) refuse(std::string(name) + " must be a finite number");
  return value;
}

float Launch::epsilon() {
  const float value = number("epsilon");
  if (value < 0) refuse("epsilon must not be negative");
  return value;
}

bool Launch::flag(const char* name) {
  const Napi::Value value = next();
  if (!value.IsBoolean()) refuse(std::string(name) + " must be true or false");
  return value.As<Napi::Boolean>().Value();
}

void* Launch::optional_tensor(const char* name, uint32_t mode, DType dtype, std::initializer_list<uint64_t> shape) {
  if (!info_[next_].IsUndefined()) return tensor(name, mode, dtype, shape);
  next_ += 2;
  return nullptr;
}

uint64_t Launch::operand(const char* name, uint32_t mode, uint64_t element_bytes,
                         std::initializer_list<uint64_t> shape) {
  spillway_buffer* buffer = unbox_buffer(next());
  const uint64_t offset = to_size(next(), name);
  uint64_t bytes = element_bytes;
  for (const uint64_t length : shape) {
    if (__builtin_mul_overflow(bytes, length, &bytes)) refuse(std::string(name) + " is larger than any buffer");
  }
  const spillway_buffer_info buffer_info = describe(api_, buffer);
  if (bytes > buffer_info.bytes || offset > buffer_info.bytes - bytes) {
    refuse(std::string(name) + " takes " + std::to_string(bytes) + " bytes from offset " + std::to_string(offset) +
           ", its buffer has " + std::to_string(buffer_info.bytes));
  }
  if (buffer_info.device_address == 0) {
    refuse(std::string(name) + " lies in memory the device cannot reach: copy it to device memory, or allocate it " +
           "as mapped");
  }
  const uint64_t address = buffer_info.device_address + offset;
  if (address % element_bytes != 0) {
    refuse(std::string(name) + " must start at a multiple of " + std::to_string(element_bytes) +
           " bytes, its offset is " + std::to_string(offset));
  }
  operands_[operand_count_] = {name, address, bytes};
  accesses_[operand_count_] = {buffer, offset, bytes, mode, 0};
  ++operand_count_;
  return address;
}

MatrixLibrary* Launch::library() {
  const Napi::Value value = next();
  if (value.IsUndefined()) return nullptr;
  const auto& libraries = info_.Env().GetInstanceData<Instance>()->libraries;
  const uint64_t number = to_size(value, "library");
  if (number >= libraries.size()) refuse("library is none that was opened");
  return libraries[number].get();
}

void Launch::check_overlaps() const {
  // A kernel's threads run in any order: what one writes, no other may read or write. Addresses, not buffers, are
  // compared: two buffers may lie over the same memory.
  for (uint32_t i = 0; i < operand_count_; ++i) {
    for (uint32_t j = 0; j < i; ++j) {
      const bool written = ((accesses_[i].mode | accesses_[j].mode) & SPILLWAY_ACCESS_WRITE) != 0;
      const bool apart = operands_[i].address + operands_[i].bytes <= operands_[j].address ||
                         operands_[j].address + operands_[j].bytes <= operands_[i].address;
      if (written && !apart) {
        refuse(std::string(operands_[j].name) + " and " + operands_[i].name +
               " overlap, and one of them is written: give it memory of its own");
      }
    }
  }
}

void Launch::launch(uint32_t kernel, const void* arguments, uint32_t bytes, const cuda::LaunchShape& shape,
                    const spillway_access* accesses, uint32_t access_count) {
  const auto* set = static_cast<const KernelSet*>(info_.Data());
  spillway_launch launch{};
  launch.struct_size = sizeof launch;
  launch.access_count = access_count;
  launch.kernel = &set->kernels[kernel];
  launch.arguments = arguments;
  launch.argument_bytes = bytes;
  launch.shared_bytes = shape.shared_bytes;
  for (uint32_t i = 0; i < 3; ++i) {
    launch.grid[i] = shape.grid[i];
    launch.block[i] = i == 0 ? shape.block : 1;
  }
  launch.accesses = accesses;
  check(api_->launch, stream_, &launch);
}

Napi::Value Launch::enqueue(uint32_t kernel, const void* arguments, uint32_t bytes, const cuda::LaunchShape& shape) {
  check_overlaps();
  launch(kernel, arguments, bytes, shape, accesses_, operand_count_);
  return info_.Env().Undefined();
}

spillway_access Launch::access(const char* name, uint32_t mode) const {
  uint32_t i = 0;
  while (std::strcmp(operands_[i].name, name) != 0) ++i;
  spillway_access found = accesses_[i];
  found.mode = mode;
  return found;
}

bool Launch::multiply(MatrixLibrary& library, const LinearArgs& a, void* parts) {
  const MatrixProduct product = {parts, a.weight, a.y, a.rows, a.inputs, a.outputs, a.accumulate != 0};
  if (api_->stream_capturing(stream_) != 0 || !library.may_multiply(product)) return false;
  if (MatrixLibrary::gpu_of(api_, api_->device_of(reinterpret_cast<spillway_object*>(stream_))) != library.gpu()) {
    refuse("the library was opened for another device");
  }
  check_overlaps();
  const SplitArgs split = {a.x, parts, uint64_t{a.rows} * a.inputs};
  const spillway_access splitting[] = {access("x", SPILLWAY_ACCESS_READ), access("parts", SPILLWAY_ACCESS_WRITE)};
  launch(k_split_bf16, &split, sizeof split, cuda::split_shape(split), splitting, 2);
  const uint32_t y_mode = SPILLWAY_ACCESS_WRITE | (a.accumulate ? SPILLWAY_ACCESS_READ : 0);
  return library.multiply(
      api_, stream_, product,
      {access("parts", SPILLWAY_ACCESS_READ), access("weight", SPILLWAY_ACCESS_READ), access("y", y_mode)});
}

}  // namespace spillway::decoder
