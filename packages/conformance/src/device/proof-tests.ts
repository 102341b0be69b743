import { isSpillwayError } from '@spillway/core'
import { ensure, ensureAtLeast, ensureCode, ensureCoded, ensureSame } from '../assert.js'
import type { DeviceAbilities, DeviceOptions, DeviceUnderTest, FailurePoint, OpenDevice } from '../device-under-test.js'

export interface ProofTest {
  readonly name: string
  readonly level: number
  run(openDevice: OpenDevice): Promise<void>
}

const memoryLimitBytes = 16 * 2 ** 20
const abilities = { check: 'checker', failures: 'failures' } as const

/** That the device is what `can` says: neither less, nor more, so that no proof is left out by mistake. */
export function abilityTest(can: DeviceAbilities): ProofTest {
  return {
    name: 'the device can what can says, no less and no more',
    level: 1,
    async run(openDevice) {
      await withDevice(openDevice, {}, async ({ type }) => {
        for (const [ability, present] of Object.entries(can)) {
          ensure(present || type !== 'host', `a host device can do everything; leave can.${ability} out`)
        }
      })
      for (const ability of ['check', 'failures'] as const) {
        const member = abilities[ability]
        try {
          await withDevice(openDevice, { check: true }, async (device) => {
            const has = device[member] !== undefined
            ensure(
              has === can[ability],
              `can.${ability} is ${can[ability]}, and the device has ${has ? 'a' : 'no'} ${member}`,
            )
          })
        } catch (error) {
          if (can[ability] || !isSpillwayError(error)) throw error
        }
      }
    },
  }
}

/** That its proofs prove something: planted mistakes are found, and nothing else. */
export function proofTests(can: DeviceAbilities): readonly ProofTest[] {
  return [
    abilityTest(can),
    ...(can.check ? checkerTests : []),
    ...(can.adversarial ? adversarialTests : []),
    ...(can.failures ? failureTests : []),
  ]
}

const checkerTests: readonly ProofTest[] = [
  {
    name: 'the checker finds a missing wait in a single run, and nothing in a program that waits',
    level: 1,
    async run(openDevice) {
      await withDevice(openDevice, { check: true }, async (device) => {
        ensureSame(await onload(device, true), true, 'whether a program that waits reads the right bytes')
        ensureSame(kindsOf(device), [], 'violations of a program that waits')
        await onload(device, false)
        const kinds = kindsOf(device)
        ensure(kinds.includes('read-after-write'), `violations of a program that does not wait are ${kinds.join()}`)
        ensureSame(kindsOf(device), [], 'violations, taken a second time')
      })
    },
  },
  {
    name: 'violations that nobody took make dispose reject',
    level: 1,
    async run(openDevice) {
      const device = await openDevice({ memoryLimitBytes, check: true })
      await onload(device, false)
      await ensureCode('SPILLWAY_ORDER_VIOLATION', 'dispose with violations that nobody took', () => device.dispose())
      ensure(device.disposed, 'the device is closed nevertheless')
    },
  },
]

const adversarialTests: readonly ProofTest[] = [
  {
    name: 'a missing wait gives wrong bytes under some seed; a program that waits is right under every one',
    level: 1,
    async run(openDevice) {
      const wrong = { waits: 0, forgets: 0 }
      for (let adversarialSeed = 0; adversarialSeed < 32; adversarialSeed++) {
        for (const waits of [true, false]) {
          // Only bytes are judged here: the checker would find the mistake by itself.
          await withDevice(openDevice, { check: false, adversarialSeed }, async (device) => {
            if (!(await onload(device, waits))) wrong[waits ? 'waits' : 'forgets']++
          })
        }
      }
      ensureSame(wrong.waits, 0, 'seeds for which a program that waits is wrong')
      ensureAtLeast(wrong.forgets, 1, 'seeds for which a program that does not wait is wrong')
    },
  },
]

const failureTests: readonly ProofTest[] = [
  {
    name: 'an injected failure strikes once, where it was armed, with a code',
    level: 1,
    async run(openDevice) {
      const strikes: [FailurePoint, string, (device: DeviceUnderTest) => Promise<unknown>][] = [
        ['allocation', 'SPILLWAY_OUT_OF_MEMORY', async (device) => device.allocate(1, { tag: 'test' }).dispose()],
        ['event', 'SPILLWAY_', async (device) => device.createEvent().dispose()],
        ['stream', 'SPILLWAY_', async (device) => device.createStream().dispose()],
      ]
      for (const [at, code, call] of strikes) {
        await withDevice(openDevice, {}, async (device) => {
          const failures = device.failures!
          failures.arm({ at, number: 2 })
          await call(device)
          ensure(!failures.fired, `the failure at the second ${at} struck at the first`)
          await ensureStrikes(at, code, () => call(device))
          ensure(failures.fired, `fired after the failure at ${at} struck`)
          await call(device)
          failures.arm({ at, number: 1 })
          failures.disarm()
          await call(device)
        })
        await withDevice(openDevice, { injectFailure: { at, number: 1 } }, async (device) => {
          await ensureStrikes(at, code, () => call(device))
          await call(device)
        })
      }
      await withDevice(openDevice, {}, async ({ failures }) => {
        for (const wrong of [{ at: 'nowhere', number: 1 }, { at: 'copy', number: 0 }, {}]) {
          await ensureCode('SPILLWAY_INVALID_ARGUMENT', `arming ${JSON.stringify(wrong)}`, () =>
            failures!.arm(wrong as never),
          )
        }
      })
    },
  },
]

async function ensureStrikes(at: FailurePoint, code: string, call: () => Promise<unknown>): Promise<void> {
  let error: unknown
  try {
    await call()
  } catch (thrown) {
    error = thrown
  }
  ensureCoded(error, `what the injected failure at ${at} throws`)
  ensure(error.code.startsWith(code), `the injected failure at ${at} has the code ${error.code}`)
}

async function withDevice(
  openDevice: OpenDevice,
  options: DeviceOptions,
  body: (device: DeviceUnderTest) => Promise<void>,
): Promise<void> {
  const device = await openDevice({ memoryLimitBytes, ...options })
  try {
    await body(device)
  } finally {
    device.checker?.takeViolations()
    await device.dispose()
  }
}

function kindsOf({ checker }: DeviceUnderTest): string[] {
  return (checker?.takeViolations() ?? []).map(({ kind }) => kind)
}

/** Two onloads into one slot, a reader after each; whether both readers saw their own. */
async function onload(device: DeviceUnderTest, waits: boolean): Promise<boolean> {
  const bytes = 16 * 1024
  const [copies, compute] = [device.createStream({ priority: 'high' }), device.createStream()]
  const event = device.createEvent()
  const slot = device.allocate(bytes, { tag: 'slot' })
  const storage = device.capabilities.pinnedMemory ? 'pinned' : 'pageable'
  const slabs = [await device.allocateHost(bytes, { storage }), await device.allocateHost(bytes, { storage })]
  const seen = [await device.allocateHost(bytes, { storage }), await device.allocateHost(bytes, { storage })]
  for (const [i, slab] of slabs.entries()) slab.write(new Uint8Array(bytes).fill(i + 1))
  for (const [i, slab] of slabs.entries()) {
    if (waits) {
      compute.record(event)
      copies.wait(event)
    }
    copies.copy(slot, slab)
    if (waits) {
      copies.record(event)
      compute.wait(event)
    }
    compute.copy(seen[i]!, slot)
  }
  await compute.synchronize()
  await copies.synchronize()
  const right = seen.every((buffer, i) => buffer.read().every((byte) => byte === i + 1))
  await Promise.all([copies, compute, event, slot, ...slabs, ...seen].map((handle) => handle.dispose()))
  return right
}
