import { testDevice } from '@spillway/conformance'
import { describe, test } from 'vitest'
import { cudaAbilities, describeOnCuda, openCuda } from './on-cuda.js'

describeOnCuda('the cuda device', () => {
  testDevice({ describe, test, openDevice: openCuda, can: cudaAbilities })
})
