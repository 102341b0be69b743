import { testBackend } from '@spillway/conformance'
import { type ConfiguredBackend, configure, createAutoBackend, none } from '@spillway/core'
import prefetch from '@spillway/prefetch'
import { describe, test } from 'vitest'
import { pool } from '../../packages/conformance/test/backends/pool.js'
import { ring } from '../../packages/conformance/test/backends/ring.js'
import { cudaAbilities, describeOnCuda, openCuda } from './on-cuda.js'

const backends: readonly ConfiguredBackend[] = [
  configure(none),
  configure(prefetch, { groupSize: 1 }),
  configure(prefetch, { groupSize: 3, numInGroup: 2, prefetchStep: 3 }),
  configure(prefetch, { groupSize: 1, prefetchStep: 8 }),
  configure(createAutoBackend({ loadPrefetch: async () => prefetch, options: prefetch.options })),
  configure(ring),
  configure(pool),
]

describeOnCuda('on the cuda device', () => {
  for (const backend of backends) {
    const gathers = backend.backend.name === prefetch.name
    testBackend({ describe, test, backend, gathers, openDevice: openCuda, can: cudaAbilities })
  }
})
