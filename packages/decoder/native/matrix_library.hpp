// cuBLASLt where it is installed: products of many rows with bf16 weights, on a GPU.
#pragma once

#include <spillway/abi.h>

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

namespace spillway::decoder {

/// y[rows, outputs] (=|+=) (parts[0] + parts[1])[rows, inputs] · weight[outputs, inputs]ᵀ; y f32, the others bf16.
/// Device addresses.
struct MatrixProduct {
  const void* parts;
  const void* weight;
  float* y;
  uint32_t rows;
  uint32_t inputs;
  uint32_t outputs;
  bool accumulate;
};

/// One GPU's, used on one thread. Opened at run time, for no addon links against CUDA; never closed, for the library
/// keeps state in the context and asks for that to be current when it is destroyed, which may be after the device.
class MatrixLibrary {
 public:
  ~MatrixLibrary();
  MatrixLibrary(const MatrixLibrary&) = delete;
  MatrixLibrary& operator=(const MatrixLibrary&) = delete;

  /// The first of `names` that the system finds and that works on this device; nullptr and the reasons otherwise.
  static std::unique_ptr<MatrixLibrary> open(const spillway_api* api, spillway_device* device,
                                             const std::vector<std::string>& names, std::string& reasons);

  /// The driver's number of the GPU, or -1 when the device is none.
  static int32_t gpu_of(const spillway_api* api, spillway_device* device);

  int32_t gpu() const { return gpu_; }
  /// The one of `names` that was opened.
  const std::string& name() const { return name_; }
  /// With its version, for people.
  const std::string& description() const { return description_; }

  /// Whether multiply() may be tried: what it takes is aligned, and it was not told before that there is no way.
  bool may_multiply(const MatrixProduct& product) const;

  /// Enqueues the product; accesses are those of parts, weight and y. False, and nothing enqueued, when the library has
  /// no way to compute it. Not while capturing: the library may load code.
  bool multiply(const spillway_api* api, spillway_stream* stream, const MatrixProduct& product,
                const spillway_access (&accesses)[3]);

 private:
  struct Functions;
  struct Plan;
  struct Work;
  // rows, inputs, outputs
  using Shape = std::tuple<uint32_t, uint32_t, uint32_t>;

  MatrixLibrary();
  const Plan* plan(const MatrixProduct& product);
  // Work of a stream: `state` is this, or a Work.
  static spillway_status create_handle(void* state, void* stream);
  static spillway_status enqueue_product(void* state, void* stream);

  std::unique_ptr<Functions> functions_;
  void* handle_ = nullptr;
  int32_t gpu_ = -1;
  std::string name_;
  std::string description_;
  // Null: there is no way. To look one up takes the library longer than all else.
  std::map<Shape, std::unique_ptr<Plan>> plans_;
};

}  // namespace spillway::decoder
