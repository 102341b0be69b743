// The decode graph is waited for where its logits are, not where it ends (packages/decoder/src/evaluator.ts).
import { setTimeout } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { disposeAll, MiB, pinned, uniform } from '../../packages/device/test/device-rig.js'
import { describeOnCuda, onCuda } from './on-cuda.js'

describeOnCuda('an external record', () => {
  test('opens at its place in each replay, before the rest of the graph is done', () =>
    onCuda(async (device) => {
      const [main, side, reader] = [device.createStream(), device.createStream(), device.createStream()]
      const [ready, fork, join] = [device.createEvent(), device.createEvent(), device.createEvent()]
      const [input, output] = [await pinned(device, MiB), await pinned(device, MiB)]
      // Eighty milliseconds of the link come after the record, twenty beside it.
      const large = await pinned(device, 1024 * MiB)
      const rest = device.allocate(large.bytes, { tag: 'rest' })
      const slot = device.allocate(MiB, { tag: 'slot' })
      main.beginCapture()
      main.copy(slot, input)
      main.record(fork)
      side.wait(fork)
      side.copy(rest, large)
      side.record(join)
      main.copy(output, slot)
      main.record(ready, { external: true })
      main.wait(join)
      for (let copy = 0; copy < 4; copy++) main.copy(rest, large)
      const graph = main.endCapture()
      let ended = 0
      for (let replay = 1; replay <= 6; replay++) {
        input.write(new Uint8Array(MiB).fill(replay))
        output.write(new Uint8Array(MiB).fill(0xee))
        main.launch(graph)
        const end = main.synchronize().then(() => ended++)
        reader.wait(ready)
        await reader.synchronize()
        // Neither too early nor by the record of the replay before.
        expect(uniform(output.read())).toBe(replay)
        await setTimeout(5)
        expect(ended).toBeLessThan(replay)
        // Others are launched while the one before runs.
        if (replay % 2 === 0) await end
      }
      await main.synchronize()
      await disposeAll(main, side, reader, ready, fork, join, input, output, large, rest, slot, graph)
    }))
})
