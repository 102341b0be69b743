// One launch: reads the call's arguments in order, checks every operand against its buffer, collects the accesses.
#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <spillway/napi.hpp>
#include <string>
#include <vector>

#include "cuda/launch_shape.hpp"
#include "kernel_set.hpp"
#include "matrix_library.hpp"

namespace spillway::decoder {

/// The addon's state in one environment.
struct Instance {
  const spillway_api* api = nullptr;
  // JavaScript knows them by their place here. Few, and kept: MatrixLibrary says why.
  std::vector<std::unique_ptr<MatrixLibrary>> libraries;
};

/// Lives for one call, on the JavaScript thread. All its methods throw coded errors that name the kernel and operand.
/// `info.Data()` is the KernelSet that the function was made for.
class Launch {
 public:
  /// Reads the stream.
  Launch(const Napi::CallbackInfo& info, const char* operation);

  DType dtype();
  /// 1 … 2^31 - 1.
  uint32_t dimension(const char* name);
  /// 0 … 2^31 - 1.
  uint32_t count(const char* name);
  /// A finite number.
  float number(const char* name);
  /// Of a norm: a finite number, not negative.
  float epsilon();
  bool flag(const char* name);
  /// One of `known` ways to compute the same, or nothing where the number given is 0: whichever is fastest.
  template <typename Entry>
  std::optional<Entry> entry(uint32_t known) {
    const uint32_t number = to_uint32(next(), "entry");
    if (number > known) refuse("entry must be from 0 to " + std::to_string(known));
    return number == 0 ? std::nullopt : std::optional(static_cast<Entry>(number - 1));
  }

  /// The device address of a tensor of this shape that the kernel reads, writes or both.
  template <typename Element>
  Element* tensor(const char* name, uint32_t mode, std::initializer_list<uint64_t> shape) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the ABI gives addresses as numbers
    return reinterpret_cast<Element*>(operand(name, mode, sizeof(Element), shape));
  }
  void* tensor(const char* name, uint32_t mode, DType dtype, std::initializer_list<uint64_t> shape) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): as above
    return reinterpret_cast<void*>(operand(name, mode, dtype == DType::kF32 ? 4 : 2, shape));
  }
  /// The library that the next argument, a number of Instance::libraries, names; nullptr when it is undefined.
  MatrixLibrary* library();
  /// nullptr when the argument is undefined.
  void* optional_tensor(const char* name, uint32_t mode, DType dtype, std::initializer_list<uint64_t> shape);

  /// Takes the operand read last from what enqueue() declares.
  void leave_out_last() { --operand_count_; }
  /// Enqueues the product by a library, x split into `parts` before. False, and y not touched, when the
  /// library has no way to compute it, or may not now: the stream is being captured.
  bool multiply(MatrixLibrary& library, const LinearArgs& arguments, void* parts);

  /// Throws `message`, with the operation's name before it.
  [[noreturn]] void refuse(const std::string& message) const;

  /// Whichever form of the kernel the device will run: host twins know no shapes.
  template <typename Arguments>
  Napi::Value enqueue(uint32_t kernel, const Arguments& arguments, const cuda::LaunchShape& shape) {
    return enqueue(kernel, &arguments, sizeof arguments, shape);
  }

 private:
  struct Operand {
    const char* name;
    uint64_t address;
    uint64_t bytes;
  };
  static constexpr uint32_t kMaxOperands = 5;

  uint64_t operand(const char* name, uint32_t mode, uint64_t element_bytes, std::initializer_list<uint64_t> shape);
  Napi::Value enqueue(uint32_t kernel, const void* arguments, uint32_t bytes, const cuda::LaunchShape& shape);
  void check_overlaps() const;
  void launch(uint32_t kernel, const void* arguments, uint32_t bytes, const cuda::LaunchShape& shape,
              const spillway_access* accesses, uint32_t access_count);
  /// Of the operand that was read under this name.
  spillway_access access(const char* name, uint32_t mode) const;
  Napi::Value next() { return info_[next_++]; }

  const Napi::CallbackInfo& info_;
  const char* operation_;
  const spillway_api* api_;
  spillway_stream* stream_;
  size_t next_ = 0;
  uint32_t operand_count_ = 0;
  Operand operands_[kMaxOperands];
  spillway_access accesses_[kMaxOperands];
};

}  // namespace spillway::decoder
