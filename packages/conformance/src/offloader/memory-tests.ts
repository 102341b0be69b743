import {
  type OffloaderStats,
  type OffloaderSteps,
  ownParameters,
  type Parameter,
  parameterAlignmentBytes,
  slabLayout,
} from '@spillway/core'
import { ensure, ensureAtLeast, ensureAtMost, ensureCode, ensureSame } from '../assert.js'
import { Engine } from '../engine.js'
import { largeModel, model } from '../model.js'
import { ObservedBackend } from '../observed-backend.js'
import type { Rig } from '../rig.js'
import type { RigTest, Subject } from '../subject.js'

/** Where the bytes are, held against the device's counters: equal outputs do not prove that anything was offloaded. */
export const memoryTests: readonly RigTest[] = [
  {
    name: 'bytes and storage kinds are what the statistics say',
    level: 1,
    async run(rig, subject) {
      const { configured, layers, supports } = subject
      const observed = new ObservedBackend(configured)
      const engine = await Engine.load(rig, { backends: [observed.configured], specs: model(layers) })
      await checkStorage(rig, engine)
      await engine.ready()
      const stats = await checkStorage(rig, engine)
      // Some decide only when they see the sizes, and say so then.
      const offloads = (observed.steps as OffloaderSteps).offloads ?? supports.offloads
      if (offloads) ensureAtLeast(stats.offloadedBytes, 1, 'offloadedBytes, since it says that it offloads')
      else ensureSame(stats.offloadedBytes, 0, 'offloadedBytes, since it says that it offloads nothing')
      await engine.forward()
      // What a forward does not count.
      const still = ({ offloadedBytes, residentBytes, slotBytes, pinned }: OffloaderStats) => ({
        offloadedBytes,
        residentBytes,
        slotBytes,
        pinned,
      })
      ensureSame(still(await checkStorage(rig, engine)), still(stats), 'statistics after a forward')
      await engine.finish()
    },
  },
  {
    name: 'device memory is what the statistics say, at its peak too',
    level: 1,
    async run(rig, { configured, layers }) {
      const pieceBytes = await rig.pieceBytes()
      // Several pieces each, so that a hidden copy of a layer cannot pass for rounding.
      const layerBytes = Math.ceil((8 * pieceBytes) / 4096) * 4096
      const engine = await Engine.load(rig, {
        backends: [configured],
        specs: largeModel(layers, Math.min(layerBytes, 2 ** 20)),
      })
      await checkDeviceMemory(rig, engine, pieceBytes)
      await engine.ready()
      await checkDeviceMemory(rig, engine, pieceBytes)
      for (let round = 0; round < 2; round++) await engine.forward()
      const most = await checkDeviceMemory(rig, engine, pieceBytes)
      ensureAtMost(rig.device.budget.peakBytes, most, 'the most device bytes ever in use, against the statistics')
      ensureSame(engine.offloader.stats().peakDeviceBytes, rig.device.budget.peakBytes, 'peakDeviceBytes')
      await engine.finish()
    },
  },
  {
    name: 'with pinning on, host memory is pinned in exact size',
    level: 1,
    run: (rig, subject) => checkPinning(rig, subject, 'on'),
  },
  {
    name: 'with pinning off, no byte is pinned, and everything works',
    level: 1,
    run: (rig, subject) => checkPinning(rig, subject, 'off'),
  },
]

/** Storage of every parameter, summed up; host memory is of exactly that storage, with room for alignment. */
async function checkStorage(rig: Rig, engine: Engine) {
  const own = ownOf(engine)
  const sums = { device: 0, mapped: 0, pinned: 0, pageable: 0 }
  let paddingBytes = 0
  for (const [module, parameters] of own) {
    for (const [i, parameter] of parameters.entries()) {
      const bytes = slabLayout([parameter]).bytes
      ensure(Object.hasOwn(sums, parameter.storage), `${module}.${parameter.name} has the storage ${parameter.storage}`)
      sums[parameter.storage] += bytes
      paddingBytes += i === 0 ? 1 : parameterAlignmentBytes
    }
  }
  const stats = engine.offloader.stats()
  const what = 'summed over the storage of all parameters'
  ensureSame(stats.residentBytes, sums.device, `residentBytes, ${what}`)
  ensureSame(stats.offloadedBytes, sums.mapped + sums.pinned + sums.pageable, `offloadedBytes, ${what}`)
  const { hostBytes } = rig.held()
  for (const storage of ['mapped', 'pinned', 'pageable'] as const) {
    ensureAtLeast(hostBytes[storage], sums[storage], `live ${storage} host bytes, against the parameters there`)
    const most = sums[storage] + (sums[storage] > 0 ? paddingBytes : 0)
    ensureAtMost(
      hostBytes[storage],
      most,
      `live ${storage} host bytes, against the parameters there and their alignment`,
    )
  }
  return stats
}

/** Device bytes in use are those of the statistics and what rounding adds. Returns the most they may be. */
async function checkDeviceMemory(rig: Rig, engine: Engine, pieceBytes: number): Promise<number> {
  const { residentBytes, slotBytes } = engine.offloader.stats()
  const { handles, deviceBytes } = rig.held()
  const parameters = ownOf(engine).flatMap(([, list]) => list).length
  const roundingBytes = (handles['device-buffer'] ?? 0) * pieceBytes + parameters * parameterAlignmentBytes
  const most = residentBytes + slotBytes + roundingBytes
  ensureAtLeast(deviceBytes, residentBytes + slotBytes, 'device bytes in use, against residentBytes + slotBytes')
  ensureAtMost(deviceBytes, most, 'device bytes in use, against residentBytes + slotBytes and rounding')
  return most
}

function ownOf(engine: Engine): [module: string, parameters: Parameter[]][] {
  return [...engine.offloader.modules].map(([module, { spec, parameters }]) => [
    module,
    ownParameters(spec).map(({ name }) => parameters.get(name)!),
  ])
}

async function checkPinning(rig: Rig, subject: Subject, pin: 'on' | 'off'): Promise<void> {
  const { configured, layers, supports } = subject
  const options = { backends: [configured], specs: model(layers), pin }
  if (pin === 'on' && !rig.device.capabilities.pinnedMemory) {
    await ensureCode('SPILLWAY_PIN_UNSUPPORTED', 'pin: on, where the device cannot pin', () =>
      Engine.create(rig, options),
    )
    return
  }
  if (pin === 'off' && !supports.unpinned) {
    await ensureCode('SPILLWAY_PIN_REQUIRED', 'pin: off, since supports.unpinned is false', () =>
      Engine.create(rig, options),
    )
    return
  }
  // The suite's own staging memory is pinned: it is counted apart.
  const pinnedBytes = () => rig.device.counters().pinnedBytes
  const engine = await Engine.create(rig, options)
  ensureSame(engine.offloader.pin.pin, pin === 'on', 'pin.pin')
  const check = async (when: string): Promise<void> => {
    await rig.compute.synchronize()
    const { hostBytes } = rig.held()
    if (pin === 'off') ensureSame(hostBytes.pinned, 0, `pinned bytes ${when}, with pinning off`)
    else ensureSame(hostBytes.pageable, 0, `pageable bytes ${when}, with pinning on`)
  }
  await check('of a new offloader')
  await engine.wrap(options.specs)
  await check('after wrapModules')
  await engine.ready()
  await check('after postInit')
  const reading = rig.keep(await engine.reading())
  const own = pinnedBytes()
  for (let round = 0; round < 2; round++) {
    engine.offloader.forward(rig.compute, (scope) => reading.enqueue(scope, rig.compute))
    if (pin === 'off')
      ensureSame(pinnedBytes(), own, 'pinned bytes in a forward, with pinning off, the test’s own apart')
    await rig.compute.synchronize()
    reading.check(`forward ${round + 1}`)
  }
  await reading.dispose()
  const stats = await engine.settledStats()
  ensureSame(stats.pinned.pin, pin === 'on', 'stats().pinned.pin')
  await check('after two forwards')
  if (pin === 'on') await checkStorage(rig, engine)
  await engine.finish()
}
