#include "operation.hpp"

#include <cstring>

#include "host_device.hpp"

namespace spillway::device::host {

CopyOperation::CopyOperation(HostBuffer& to, uint64_t to_offset, HostBuffer& from, uint64_t from_offset, uint64_t bytes)
    : to_offset_(to_offset), from_offset_(from_offset), bytes_(bytes) {
  buffers_.emplace_back(&to);
  buffers_.emplace_back(&from);
}

void CopyOperation::run(HostDevice& device, uint32_t priority) const { run_part(device, priority, 0, bytes_); }

// Within one memory, parts could overwrite what later parts still have to read.
uint64_t CopyOperation::divisible_bytes() const {
  return buffers_[0]->on_device() == buffers_[1]->on_device() ? 0 : bytes_;
}

void CopyOperation::run_part(HostDevice& device, uint32_t priority, uint64_t begin, uint64_t end) const {
  const HostBuffer& to = *buffers_[0];
  const HostBuffer& from = *buffers_[1];
  uint8_t* target = to.data() + to_offset_ + begin;
  const uint8_t* source = from.data() + from_offset_ + begin;
  const uint64_t bytes = end - begin;
  const bool last = end == bytes_;
  Counters& counters = device.counters();
  auto turn = device.execution_turn();
  if (to.on_device() == from.on_device()) {
    std::memmove(target, source, bytes);
    (to.on_device() ? counters.device_to_device_bytes : counters.host_to_host_bytes)
        .fetch_add(bytes, std::memory_order_relaxed);
  } else if (to.on_device()) {
    device.link_to_device().transfer(target, source, bytes, priority);
    if (last) counters.count_to_device(to.tag(), bytes_);
  } else {
    device.link_to_host().transfer(target, source, bytes, priority);
    if (!last) return;
    counters.device_to_host_bytes.fetch_add(bytes_, std::memory_order_relaxed);
    counters.device_to_host_copies.fetch_add(1, std::memory_order_relaxed);
  }
}

std::vector<Access> CopyOperation::accesses() const {
  return {{buffers_[0].get(), to_offset_, bytes_, SPILLWAY_ACCESS_WRITE},
          {buffers_[1].get(), from_offset_, bytes_, SPILLWAY_ACCESS_READ}};
}

FillOperation::FillOperation(HostBuffer& to, uint64_t offset, uint64_t bytes, uint8_t value)
    : offset_(offset), bytes_(bytes), value_(value) {
  buffers_.emplace_back(&to);
}

void FillOperation::run(HostDevice& device, uint32_t) const {
  auto turn = device.execution_turn();
  std::memset(buffers_[0]->data() + offset_, value_, bytes_);
}

std::vector<Access> FillOperation::accesses() const {
  return {{buffers_[0].get(), offset_, bytes_, SPILLWAY_ACCESS_WRITE}};
}

void PoisonOperation::run(HostDevice& device, uint32_t) const {
  auto turn = device.execution_turn();
  std::memset(data_, kFreshPoison, bytes_);
}

LaunchOperation::LaunchOperation(const spillway_launch& launch, std::vector<Held<HostBuffer>> buffers)
    : kernel_(launch.kernel),
      arguments_((launch.argument_bytes + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t)) {
  buffers_ = std::move(buffers);
  if (launch.argument_bytes > 0) std::memcpy(arguments_.data(), launch.arguments, launch.argument_bytes);
  std::memcpy(grid_, launch.grid, sizeof grid_);
  std::memcpy(block_, launch.block, sizeof block_);
  for (uint32_t i = 0; i < launch.access_count; ++i) {
    const spillway_access& access = launch.accesses[i];
    accesses_.push_back({buffers_[i].get(), access.offset, access.bytes, access.mode});
  }
}

namespace {
struct TwinCall {
  ThreadPool* pool;
  uint32_t priority;
};

void twin_parallel_for(const spillway_twin_context* context, uint64_t count, uint64_t grain, ThreadPool::Body body,
                       void* state) {
  auto* call = static_cast<TwinCall*>(context->internal);
  call->pool->parallel_for(call->priority, count, grain, body, state);
}
}  // namespace

void LaunchOperation::run(HostDevice& device, uint32_t priority) const {
  TwinCall call{&device.pool(), priority};
  spillway_twin_context context{};
  context.struct_size = sizeof context;
  context.threads = call.pool->threads();
  std::memcpy(context.grid, grid_, sizeof grid_);
  std::memcpy(context.block, block_, sizeof block_);
  context.parallel_for = twin_parallel_for;
  context.internal = &call;
  if (device.twin_check()) {
    auto turn = device.execution_turn();
    device.twin_check()->run(*this, context, kernel_->host_twin, arguments_.data());
  } else {
    kernel_->host_twin(&context, arguments_.data());
  }
  device.counters().launches.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace spillway::device::host
