import { type BackendContext, type OffloaderSteps, type PlacementBackend, warn } from '@spillway/core'
import { loadAddon } from './native-ring.js'
import { checkPrefetchConfig, type PrefetchConfig, prefetchOptions } from './options.js'
import { PrefetchSteps } from './prefetch-steps.js'

export { type PrefetchConfig, prefetchOptions } from './options.js'

/** Offloads layers to host memory and copies each into a device slot before it runs. */
const prefetch: PlacementBackend<PrefetchConfig> = Object.freeze({
  name: 'prefetch',
  apiVersion: 1 as const,
  role: 'placement' as const,
  supports: Object.freeze({ offloads: true, graphs: true, unpinned: true, kernels: false, reload: false }),
  options: prefetchOptions,
  async create(context: BackendContext, config: PrefetchConfig): Promise<OffloaderSteps> {
    for (const { code, message } of checkPrefetchConfig(config)) warn(code, message)
    return new PrefetchSteps(loadAddon(), context, config)
  },
})
export default prefetch
