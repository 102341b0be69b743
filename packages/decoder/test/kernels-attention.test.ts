import { afterAll, afterEach, beforeAll, describe } from 'vitest'
import { Kernels } from '../src/kernels.js'
import { testAttention } from './kernels-attention-cases.js'
import { KernelRig, type KernelSubject } from './kernels-rig.js'
import { testWindow } from './kernels-window-cases.js'

const rig = new KernelRig()
beforeAll(() => rig.open())
afterEach(() => rig.clear())
afterAll(() => rig.close())

describe.each(Kernels.instructionSets())('%s twins', (instructionSet) => {
  const subject: KernelSubject = {
    rig,
    kernels: new Kernels({ instructionSet }),
    sameForAnyRows: true,
    linearTolerance: () => 2e-6,
  }
  testAttention(subject)
  testWindow(subject)
})
