import { fileURLToPath } from 'node:url'
import { type ConfiguredBackend, configure, none } from '@spillway/core'
import { loadModel, type Model } from '@spillway/decoder'
import { type NativeDevice, type OpenDeviceOptions, openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'
import { describe, expect, test, vi } from 'vitest'

const fixture = (name: string): string =>
  fileURLToPath(new URL(`../../packages/decoder/test/fixtures/${name}`, import.meta.url))
const maxTokens = 12
const memoryLimitBytes = 2 ** 22

interface Part {
  readonly directory: string
  readonly offload: ConfiguredBackend
  readonly prompt: readonly number[]
}

const parts: readonly [Part, Part] = [
  {
    directory: fixture('llama-f32'),
    offload: configure(prefetch, { groupSize: 1, numInGroup: 1, prefetchStep: 1 }),
    prompt: [0, 5, 6, 7],
  },
  { directory: fixture('qwen2-bf16'), offload: configure(none), prompt: [3, 9, 4] },
]

async function onDevice<T>(options: OpenDeviceOptions, use: (device: NativeDevice) => Promise<T>): Promise<T> {
  const device = await openDevice('host', { memoryLimitBytes, ...options })
  try {
    const result = await use(device)
    const left = (): unknown => Object.entries(device.counters().liveHandles).filter(([, count]) => count > 0)
    await vi.waitFor(() => expect(left()).toEqual([]), { timeout: 10_000, interval: 2 })
    expect(device.budget.usedBytes).toBe(0)
    return result
  } finally {
    // Rejects with what the checker found.
    await device.dispose()
  }
}

const load = (device: NativeDevice, { directory, offload }: Part): Promise<Model> =>
  loadModel(directory, { device, offload, pin: 'on', contextLength: 32, maxRows: 8 })

/** Tokens alone, and what the model takes of a device. */
const alone = (part: Part): Promise<{ tokens: number[]; usedBytes: number }> =>
  onDevice({ check: false }, async (device) => {
    const model = await load(device, part)
    const { usedBytes } = device.budget
    const tokens: number[] = []
    for await (const step of model.generate(part.prompt, { temperature: 0, maxTokens })) tokens.push(...step.tokens)
    await model.dispose()
    return { tokens, usedBytes }
  })

describe.each<[string, OpenDeviceOptions]>([
  ['host', { check: false }],
  ['host, checked', { check: true }],
  ['host, checked, adversarial', { check: true, adversarialSeed: 3 }],
])('two models on one device, %s', (_, options) => {
  test('texts step by step in turns and at once, each as it is alone, from one budget', async () => {
    const expected = [await alone(parts[0]), await alone(parts[1])] as const
    await onDevice(options, async (device) => {
      const models = [await load(device, parts[0]), await load(device, parts[1])] as const
      expect(device.budget.usedBytes).toBe(expected[0].usedBytes + expected[1].usedBytes)
      for (let round = 0; round < 3; round++) {
        const tokens: [number[], number[]] = [[], []]
        const texts = models.map((model, i) => model.generate(parts[i]!.prompt, { temperature: 0, maxTokens }))
        const step = async (i: 0 | 1): Promise<void> => {
          const { value } = await texts[i]!.next()
          tokens[i].push(...(value as { tokens: readonly number[] }).tokens)
        }
        for (let count = 0; count < maxTokens; count++) {
          if (round === 0) {
            await step(0)
            await step(1)
          } else await Promise.all([step(0), step(1)])
        }
        expect(tokens).toEqual([expected[0].tokens, expected[1].tokens])
      }
      // Each with a graph of its own: all but prompts and a rehearsal each.
      expect(device.counters().graphLaunches).toBe(2 * (3 * (maxTokens - 1) - 1))
      for (const model of models) await model.dispose()
    })
  })

  test('one that does not fit any more, and one that is disposed under the other’s text, hurt nobody', async () => {
    const { tokens } = await alone(parts[0])
    await onDevice(options, async (device) => {
      const first = await load(device, parts[0])
      const text = first.generate(parts[0].prompt, { temperature: 0, maxTokens })
      const written: number[] = []
      for (let count = 0; count < maxTokens; count++) {
        if (count === 3) {
          const room = device.allocate(memoryLimitBytes - device.budget.usedBytes - 2 ** 17, { tag: 'taken' })
          await expect(load(device, parts[1])).rejects.toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY' })
          await room.dispose()
        }
        if (count === 6) {
          const second = await load(device, parts[1])
          const other = second.generate(parts[1].prompt, { temperature: 0 })
          for (let more = 0; more < 4; more++) await other.next()
          const step = other.next()
          step.catch(() => {})
          const [{ value }] = await Promise.all([text.next(), second.dispose()])
          written.push(...(value as { tokens: readonly number[] }).tokens)
          continue
        }
        const { value } = await text.next()
        written.push(...(value as { tokens: readonly number[] }).tokens)
      }
      expect(written).toEqual(tokens)
      await first.dispose()
    })
  })
})
