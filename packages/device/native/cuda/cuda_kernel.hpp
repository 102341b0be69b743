// A kernel of an image that a program brings at run time: a cubin, a fatbin or PTX.
#pragma once

#include <mutex>
#include <string>

#include "../object.hpp"
#include "driver.hpp"

namespace spillway::device::cuda {

class CudaDevice;

class CudaKernel final : public Object {
 public:
  /// image: its bytes; PTX as text. Throws INVALID_ARGUMENT, NO_KERNELS.
  CudaKernel(CudaDevice& device, const std::string& image, std::string name);
  ~CudaKernel() override;
  const std::string& name() const { return name_; }
  /// Able to take that much dynamic shared memory.
  FunctionHandle function(uint32_t shared_bytes);

 private:
  CudaDevice& cuda();
  const std::string name_;
  ModuleHandle module_ = nullptr;
  FunctionHandle function_ = nullptr;
  std::mutex mutex_;
  uint32_t shared_bytes_;  // that it may ask for
};

}  // namespace spillway::device::cuda
