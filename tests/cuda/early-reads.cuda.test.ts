// The product of one row reads its weight before the kernels ahead of it are done. One of them may have written it.
import { expect, test } from 'vitest'
import { Kernels } from '../../packages/decoder/src/kernels.js'
import { differences, type Tensor } from '../../packages/decoder/test/kernels-rig.js'
import { openRig } from './kernels-on-cuda.js'
import { describeOnCuda } from './on-cuda.js'

// So large that the kernel which writes it is still at its end while many blocks of the one behind have begun.
const [inputs, outputs] = [4096, 2048]
const rounds = 20

describeOnCuda('a weight that is read early', () => {
  const rig = openRig({ aligned: true })
  const kernels = new Kernels()

  test.each([
    ['by the kernel ahead', 0],
    ['by a kernel further ahead', 3],
    ['by one so far ahead that nobody remembers', 100],
  ])('is whole when it was written %s, enqueued and replayed', async (_, between) => {
    const x = await rig.uploadRandom('f32', [1, inputs])
    const sources = [
      await rig.uploadRandom('f32', [outputs, 2 * inputs]),
      await rig.uploadRandom('f32', [outputs, 2 * inputs]),
    ]
    const weight = rig.poisoned('f32', [outputs, inputs])
    const small = await rig.uploadRandom('f32', [1, 2 * 64])
    const scratch = rig.poisoned('f32', [1, 64])
    const y = (): Tensor['view'] => rig.poisoned('f32', [1, outputs])

    const write = (source: Tensor): void => kernels.siluMul(rig.stream, { gateUp: source.view, y: weight })
    const pause = (): void => kernels.siluMul(rig.stream, { gateUp: small.view, y: scratch })
    const multiply = (to: Tensor['view']): void => kernels.linear(rig.stream, { x: x.view, weight, y: to })

    const expected: Float64Array[] = []
    for (const source of sources) {
      write(source)
      await rig.stream.synchronize()
      const to = y()
      multiply(to)
      expected.push(await rig.download(to))
    }
    expect(differences(expected[0]!, expected[1]!)).toBeGreaterThan(outputs / 2)

    const found = Array.from({ length: 2 * rounds }, y)
    const enqueue = (): void => {
      for (const [i, to] of found.entries()) {
        write(sources[i % 2]!)
        for (let k = 0; k < between; k++) pause()
        multiply(to)
      }
    }
    const wrong = async (): Promise<number> => {
      const counts = []
      for (const [i, to] of found.entries()) counts.push(differences(await rig.download(to), expected[i % 2]!))
      return counts.reduce((sum, count) => sum + count, 0)
    }
    enqueue()
    expect(await wrong()).toBe(0)

    for (const { buffer, offset } of found) rig.stream.fill(buffer, 0xff, { offset, bytes: 4 * outputs })
    rig.stream.beginCapture()
    enqueue()
    const graph = rig.stream.endCapture()
    rig.stream.launch(graph)
    expect(await wrong()).toBe(0)
    await graph.dispose()
  })
})
