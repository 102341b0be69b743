// The packages as they are built: what is measured is what is published. One place names their files, so that the
// benchmarks need no package of their own and run wherever the tree was copied to.
export {
  configure,
  createOffloader,
  formatBytes,
  isSpillwayError,
  loadNative,
  messageOf,
  none,
} from '../../packages/core/dist/index.js'
export { Kernels, loadModel, moduleSpecs, readConfig } from '../../packages/decoder/dist/index.js'
export { cudaStatus, openDevice, systemMemory, withAllocatorSettings } from '../../packages/device/dist/index.js'
export { default as prefetch } from '../../packages/prefetch/dist/index.js'
