import { addon, type NativeTable } from './addon.js'

export type { NativeHandle, NativeTable } from './addon.js'
export {
  type AllocatorSettings,
  currentAllocatorSettings,
  type ResolvedAllocatorSettings,
  withAllocatorSettings,
} from './allocator-settings.js'
export { NativeDeviceBuffer, NativeHostBuffer } from './buffer.js'
export { NativeDevice } from './device.js'
export type { FailureInjection, FailurePoint, InjectedFailure } from './failure-injection.js'
export type { HostAllocationOptions } from './host-allocation.js'
export type { HostMemoryReport } from './host-memory.js'
export { type KernelAccess, type KernelLaunch, NativeKernel } from './kernel.js'
export { MemoryPool, type NativeDeviceAllocation } from './memory-pool.js'
export type {
  MemoryBlock,
  MemoryEvent,
  MemorySegment,
  MemorySnapshot,
  MemoryStatistics,
  MemoryStats,
  MemoryTrace,
} from './memory-report.js'
export {
  type MemoryTraceFile,
  type MemoryTraceFileOptions,
  type TracedDevice,
  writeMemoryTrace,
} from './memory-trace-file.js'
export { handleOf } from './native-object.js'
export {
  type CudaStatus,
  cudaDriverCalls,
  cudaStatus,
  type OpenDeviceOptions,
  openDevice,
  type PretendedCapabilities,
  systemMemory,
} from './open-device.js'
export type { OrderChecker } from './order-checker.js'
export type { CheckedOperation, OrderViolation, OrderViolationKind } from './order-violation.js'
export { NativeEvent, NativeGraph, NativeStream } from './stream.js'
export { AddressRange, PhysicalMemory, VirtualMemory } from './virtual-memory.js'

/** The C function table, for another addon's handshake (native/include/spillway/napi.hpp: attach_api). */
export function attach(): NativeTable {
  return addon().attach()
}
