// Programs whose kernels touch what they did not declare.
import type { OrderViolationKind } from '@spillway/device'
import { launchTouch } from '../abi/abi-probe.js'
import { type PlantedBug, page, rig, slotBytes } from './planted-bug.js'

type Modes = 'read' | 'write' | 'read-write'

interface Case {
  readonly name: string
  readonly kind: OrderViolationKind
  readonly names: readonly string[]
  /** The secret access, and whether its buffer is declared otherwise. */
  readonly touch: { readonly offset: number; readonly bytes: number; readonly mode: Modes; readonly other?: boolean }
  readonly declared: { readonly offset: number; readonly bytes: number; readonly mode: Modes }
}

const cases: readonly Case[] = [
  {
    name: 'reads a buffer it did not declare',
    kind: 'undeclared-read',
    names: ["'output' of 16384 bytes, byte 128"],
    touch: { other: true, offset: 128, bytes: 8, mode: 'read' },
    declared: { offset: 0, bytes: slotBytes, mode: 'read' },
  },
  {
    name: 'writes a buffer it did not declare',
    kind: 'undeclared-write',
    names: ["'output' of 16384 bytes, byte 128"],
    touch: { other: true, offset: 128, bytes: 8, mode: 'write' },
    declared: { offset: 0, bytes: slotBytes, mode: 'read' },
  },
  {
    name: 'reads bytes outside of its range, in the same page',
    kind: 'undeclared-read',
    names: ["'result' of 64 bytes"],
    touch: { offset: 200, bytes: 4, mode: 'read' },
    declared: { offset: 0, bytes: 200, mode: 'read' },
  },
  {
    name: 'reads bytes outside of its range, in another page',
    kind: 'undeclared-read',
    names: ["'slot' of 16384 bytes, byte 8292"],
    touch: { offset: 2 * page + 100, bytes: 4, mode: 'read' },
    declared: { offset: 0, bytes: 200, mode: 'read' },
  },
  {
    name: 'writes bytes outside of its range, in the same page',
    kind: 'undeclared-write',
    names: ["'slot' of 16384 bytes, bytes 5000 to 5015"],
    touch: { offset: 5000, bytes: 16, mode: 'write' },
    declared: { offset: 4500, bytes: 500, mode: 'read-write' },
  },
  {
    name: 'writes bytes that it declared to read',
    kind: 'undeclared-write',
    names: ["'slot' of 16384 bytes, byte 300"],
    touch: { offset: 300, bytes: 8, mode: 'write' },
    declared: { offset: 0, bytes: slotBytes, mode: 'read' },
  },
  {
    name: 'reads bytes that it declared to write',
    kind: 'undeclared-read',
    names: ["'result' of 64 bytes"],
    touch: { offset: 300, bytes: 8, mode: 'read' },
    declared: { offset: 0, bytes: slotBytes, mode: 'write' },
  },
]

// `parallel`: inside of parallel_for too.
const programs = cases.flatMap(({ name, kind, names, touch, declared }) =>
  [false, true].map(
    (parallel): PlantedBug => ({
      name: `a kernel that ${name}${parallel ? ', in parallel_for' : ''}`,
      kinds: [kind],
      names: ['touch on stream 1 (normal)', ...names],
      async program(device, mended) {
        const { compute, slot, output, end } = await rig(device)
        const result = device.allocate(64, { tag: 'result' })
        compute.fill(slot, 1)
        compute.fill(output, 2)
        const { other, ...range } = touch
        const secret = { ...range, buffer: other ? output : slot }
        launchTouch(compute, {
          parallel,
          touch: [secret, { buffer: result, mode: 'write' }],
          declare: [{ buffer: slot, ...declared }, { buffer: result, mode: 'write' }, ...(mended ? [secret] : [])],
        })
        await compute.synchronize()
        await result.dispose()
        await end()
      },
    }),
  ),
)

export const declarationBugs: readonly PlantedBug[] = [
  ...programs,
  {
    name: 'a kernel that writes to an address that is no memory of the device',
    kinds: ['undeclared-write'],
    names: ['touch on stream 1 (normal)', 'no memory of the device'],
    async program(device, mended) {
      const { compute, output, end } = await rig(device)
      launchTouch(compute, {
        touch: [
          mended
            ? { buffer: output, offset: 64, bytes: 8, mode: 'write' }
            : { address: 0x1000n, bytes: 8, mode: 'write' },
          { buffer: output, offset: 0, bytes: 8, mode: 'write' },
        ],
      })
      await end()
    },
  },
]
