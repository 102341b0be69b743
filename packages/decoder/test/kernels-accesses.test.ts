// The kernels on a device that checks what each touches against what its launch declares; closing it fails if it found
// something.
import { openDevice } from '@spillway/device'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { Kernels } from '../src/kernels.js'
import { testElements } from './kernels-element-cases.js'
import { testLinear } from './kernels-linear-cases.js'
import { testNormProducts } from './kernels-norm-product-cases.js'
import { KernelRig } from './kernels-rig.js'

const rig = new KernelRig(() => openDevice('host', { memoryLimitBytes: 256 * 2 ** 20, check: true }))
beforeAll(() => rig.open())
afterEach(() => rig.clear())
afterAll(() => rig.close())

const subject = { rig, kernels: new Kernels(), sameForAnyRows: true, linearTolerance: () => 2e-6 }
testLinear(subject)
testNormProducts(subject)
testElements(subject)
