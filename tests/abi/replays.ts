import type { Graph } from '@spillway/core'
import { handleOf, type NativeDevice } from '@spillway/device'
import { expect } from 'vitest'
import { disposeAll } from '../../packages/device/test/device-rig.js'
import { probe } from './abi-probe.js'

/** Which streams hear of which launches; any device. */
export async function checkReplays(device: NativeDevice): Promise<void> {
  const [main, joined, idle, elsewhere] = Array.from({ length: 4 }, () => device.createStream())
  const streams = [main!, joined!, idle!, elsewhere!]
  const [fork, join] = [device.createEvent(), device.createEvent()]
  const buffer = device.allocate(64, { tag: 'a' })
  const heard = (): number[] => streams.map((stream) => probe.replays(handleOf(stream)))

  /** On `main`, and on `joined` where asked. */
  const capture = (forks: boolean): Graph => {
    main!.beginCapture()
    main!.fill(buffer, 1, { bytes: 32 })
    if (forks) {
      main!.record(fork)
      joined!.wait(fork)
      joined!.fill(buffer, 2, { offset: 32 })
      joined!.record(join)
      main!.wait(join)
    }
    return main!.endCapture()
  }
  const [alone, both] = [capture(false), capture(true)]
  expect(heard()).toEqual([0, 0, 0, 0])
  main!.launch(alone)
  expect(heard()).toEqual([1, 0, 0, 0])
  await main!.synchronize()
  // Whichever stream it is launched on, and before it is done.
  elsewhere!.launch(both)
  expect(heard()).toEqual([2, 1, 0, 0])
  elsewhere!.launch(both)
  elsewhere!.launch(alone)
  expect(heard()).toEqual([4, 2, 0, 0])
  await elsewhere!.synchronize()
  // A graph keeps what it needs of a stream that is gone.
  await joined!.dispose()
  main!.launch(both)
  await main!.synchronize()
  expect(probe.replays(handleOf(main!))).toBe(5)
  await disposeAll(main!, idle!, elsewhere!, fork, join, buffer, alone, both)
}
