#include "matrix_library.hpp"

#include <dlfcn.h>

#include <new>
#include <spillway/abi.hpp>
#include <type_traits>

namespace spillway::decoder {
namespace {

// cublasLt.h of CUDA 12 and 13; the library's binary interface, spelled out for machines that build without CUDA.
using Status = int32_t;
constexpr Status kSuccess = 0;
constexpr int32_t kCompute32F = 68, kFloat32 = 0, kBFloat16 = 14;
constexpr int32_t kTransposeA = 3;      // CUBLASLT_MATMUL_DESC_TRANSA
constexpr int32_t kTransposed = 1;      // CUBLAS_OP_T
constexpr int32_t kWorkspaceBytes = 1;  // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
constexpr int32_t kFirstAlignment = 5;  // CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES; then B, C, D
constexpr uint32_t kAlignment = 16;
constexpr size_t kMostPlans = 4096;

struct Algorithm {
  uint64_t data[8];
};
struct Found {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int32_t reserved[4];
};

const spillway_cuda_api* cuda_of(const spillway_api* api, spillway_device* device) {
  return static_cast<const spillway_cuda_api*>(
      api->extension(device, SPILLWAY_EXTENSION_CUDA, sizeof(spillway_cuda_api)));
}

bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % kAlignment == 0; }

}  // namespace

struct MatrixLibrary::Functions {
  Status (*create)(void** handle);
  size_t (*version)();
  Status (*description_create)(void** description, int32_t compute, int32_t scale);
  Status (*description_set)(void* description, int32_t attribute, const void* value, size_t bytes);
  Status (*description_destroy)(void* description);
  Status (*layout_create)(void** layout, int32_t type, uint64_t rows, uint64_t columns, int64_t stride);
  Status (*layout_destroy)(void* layout);
  Status (*preference_create)(void** preference);
  Status (*preference_set)(void* preference, int32_t attribute, const void* value, size_t bytes);
  Status (*preference_destroy)(void* preference);
  Status (*find)(void* handle, void* description, void* a, void* b, void* c, void* d, void* preference, int32_t wanted,
                 Found* found, int32_t* count);
  Status (*multiply)(void* handle, void* description, const void* alpha, const void* a, void* a_layout, const void* b,
                     void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,
                     const Algorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream);

  bool load(void* library) {
    const auto find_function = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    return find_function(create, "cublasLtCreate") && find_function(version, "cublasLtGetVersion") &&
           find_function(description_create, "cublasLtMatmulDescCreate") &&
           find_function(description_set, "cublasLtMatmulDescSetAttribute") &&
           find_function(description_destroy, "cublasLtMatmulDescDestroy") &&
           find_function(layout_create, "cublasLtMatrixLayoutCreate") &&
           find_function(layout_destroy, "cublasLtMatrixLayoutDestroy") &&
           find_function(preference_create, "cublasLtMatmulPreferenceCreate") &&
           find_function(preference_set, "cublasLtMatmulPreferenceSetAttribute") &&
           find_function(preference_destroy, "cublasLtMatmulPreferenceDestroy") &&
           find_function(find, "cublasLtMatmulAlgoGetHeuristic") && find_function(multiply, "cublasLtMatmul");
  }
};

/// How one shape's parts are multiplied. To the library, whose matrices lie column by column, y is weightᵀ · x.
struct MatrixLibrary::Plan {
  const Functions& functions;
  void* description = nullptr;
  void* weight = nullptr;
  void* x = nullptr;
  void* y = nullptr;
  Algorithm algorithm{};

  explicit Plan(const Functions& library) : functions(library) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (description != nullptr) functions.description_destroy(description);
    for (void* layout : {weight, x, y}) {
      if (layout != nullptr) functions.layout_destroy(layout);
    }
  }

  /// Whether the library has a way that needs no memory besides.
  bool find(void* handle, const MatrixProduct& p) {
    if (functions.description_create(&description, kCompute32F, kFloat32) != kSuccess ||
        functions.description_set(description, kTransposeA, &kTransposed, sizeof kTransposed) != kSuccess ||
        functions.layout_create(&weight, kBFloat16, p.inputs, p.outputs, p.inputs) != kSuccess ||
        functions.layout_create(&x, kBFloat16, p.inputs, p.rows, p.inputs) != kSuccess ||
        functions.layout_create(&y, kFloat32, p.outputs, p.rows, p.outputs) != kSuccess) {
      return false;
    }
    void* preference = nullptr;
    if (functions.preference_create(&preference) != kSuccess) return false;
    const uint64_t none = 0;
    bool set = functions.preference_set(preference, kWorkspaceBytes, &none, sizeof none) == kSuccess;
    for (int32_t i = 0; i < 4; ++i) {
      set =
          set && functions.preference_set(preference, kFirstAlignment + i, &kAlignment, sizeof kAlignment) == kSuccess;
    }
    Found found{};
    int32_t count = 0;
    const bool is_found =
        set && functions.find(handle, description, weight, x, y, y, preference, 1, &found, &count) == kSuccess &&
        count > 0 && found.state == kSuccess;
    functions.preference_destroy(preference);
    algorithm = found.algorithm;
    return is_found;
  }
};

struct MatrixLibrary::Work {
  MatrixLibrary& library;
  const MatrixProduct& product;
  Status status;
  bool was_enqueued;
};

MatrixLibrary::MatrixLibrary() : functions_(std::make_unique<Functions>()) {}
MatrixLibrary::~MatrixLibrary() = default;

int32_t MatrixLibrary::gpu_of(const spillway_api* api, spillway_device* device) {
  const spillway_cuda_api* cuda = cuda_of(api, device);
  if (cuda == nullptr) return -1;
  spillway_cuda_info info{};
  info.struct_size = sizeof info;
  check(cuda->info, device, &info);
  return info.device;
}

std::unique_ptr<MatrixLibrary> MatrixLibrary::open(const spillway_api* api, spillway_device* device,
                                                   const std::vector<std::string>& names, std::string& reasons) {
  const spillway_cuda_api* cuda = cuda_of(api, device);
  if (cuda == nullptr) {
    reasons = "the device is no NVIDIA GPU";
    return nullptr;
  }
  spillway_stream* created = nullptr;
  check(api->stream_create, device, SPILLWAY_PRIORITY_NORMAL, &created);
  const auto stream = Reference<spillway_stream>::adopt(api, created);
  for (const std::string& name : names) {
    if (!reasons.empty()) reasons += "; ";
    // Local: where the program has loaded another copy, as PyTorch brings one, each keeps to its own.
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      reasons += dlerror();
      continue;
    }
    std::unique_ptr<MatrixLibrary> opened(new MatrixLibrary());
    if (!opened->functions_->load(library)) {
      reasons += name + " lacks functions of cuBLASLt";
      continue;
    }
    // What it makes belongs to the context, which is current in a stream's work only.
    check(cuda->enqueue, stream.get(), nullptr, 0u, create_handle, opened.get());
    if (opened->handle_ == nullptr) {
      reasons += name + " does not work with this driver or GPU";
      continue;
    }
    const size_t version = opened->functions_->version();
    opened->gpu_ = gpu_of(api, device);
    opened->name_ = name;
    opened->description_ = "cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) +
                           "." + std::to_string(version % 100) + ", " + name;
    return opened;
  }
  return nullptr;
}

spillway_status MatrixLibrary::create_handle(void* state, void*) {
  auto* self = static_cast<MatrixLibrary*>(state);
  if (self->functions_->create(&self->handle_) != kSuccess) self->handle_ = nullptr;
  return SPILLWAY_STATUS_OK;
}

bool MatrixLibrary::may_multiply(const MatrixProduct& p) const {
  if (!is_aligned(p.parts) || !is_aligned(p.weight) || !is_aligned(p.y)) return false;
  // So the second part is aligned too.
  if (p.inputs * sizeof(uint16_t) % kAlignment != 0 || p.outputs * sizeof(float) % kAlignment != 0) return false;
  const auto known = plans_.find({p.rows, p.inputs, p.outputs});
  return known == plans_.end() || known->second != nullptr;
}

bool MatrixLibrary::multiply(const spillway_api* api, spillway_stream* stream, const MatrixProduct& product,
                             const spillway_access (&accesses)[3]) {
  Work work{*this, product, kSuccess, false};
  spillway_device* device = api->device_of(reinterpret_cast<spillway_object*>(stream));
  check(cuda_of(api, device)->enqueue, stream, accesses, 3u, enqueue_product, &work);
  if (work.status != kSuccess) {
    throw StatusError(SPILLWAY_STATUS_INTERNAL, "linear",
                      description_ + " did not take a product it had offered to compute (status " +
                          std::to_string(work.status) + "): load the model with matrixLibrary 'none'");
  }
  return work.was_enqueued;
}

const MatrixLibrary::Plan* MatrixLibrary::plan(const MatrixProduct& p) {
  const Shape shape = {p.rows, p.inputs, p.outputs};
  const auto known = plans_.find(shape);
  if (known != plans_.end()) return known->second.get();
  // Prompts have any number of rows.
  if (plans_.size() >= kMostPlans) plans_.clear();
  auto made = std::make_unique<Plan>(*functions_);
  if (!made->find(handle_, p)) made = nullptr;
  return plans_.emplace(shape, std::move(made)).first->second.get();
}

spillway_status MatrixLibrary::enqueue_product(void* state, void* stream) {
  auto& work = *static_cast<Work*>(state);
  MatrixLibrary& library = work.library;
  const MatrixProduct& p = work.product;
  const Plan* plan = nullptr;
  try {
    plan = library.plan(p);
  } catch (const std::bad_alloc&) {
    return SPILLWAY_STATUS_OUT_OF_MEMORY;
  }
  if (plan == nullptr) return SPILLWAY_STATUS_OK;
  const auto* first = static_cast<const uint16_t*>(p.parts);
  const float one = 1, old = p.accumulate ? 1 : 0;
  const auto add = [&](const uint16_t* part, const float* of_y) {
    return library.functions_->multiply(library.handle_, plan->description, &one, p.weight, plan->weight, part, plan->x,
                                        of_y, p.y, plan->y, p.y, plan->y, &plan->algorithm, nullptr, 0, stream);
  };
  work.status = add(first, &old);
  if (work.status == kSuccess) work.status = add(first + uint64_t{p.rows} * p.inputs, &one);
  work.was_enqueued = work.status == kSuccess;
  return SPILLWAY_STATUS_OK;
}

}  // namespace spillway::decoder
