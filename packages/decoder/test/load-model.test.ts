import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { type Device, SpillwayError } from '@spillway/core'
import { currentAllocatorSettings, withAllocatorSettings } from '@spillway/device'
import { describe, expect, test } from 'vitest'
import { type LoadModelOptions, type LoadModelProgress, loadModel } from '../src/load-model.js'
import { fixture, fixtureJson, withDirectory } from './fixtures.js'
import { hostLayers } from './host-layers.js'
import { expectNothingLeft, withDevice, withModel } from './with-device.js'

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>

/** llama-f32 with another config.json and another header in front of the same bytes. */
async function changedFixture(
  changeConfig: (config: Record<string, unknown>) => void,
  changeHeader: (header: Header) => void = () => {},
): Promise<Record<string, string | Uint8Array>> {
  const config = await fixtureJson('llama-f32', 'config.json')
  changeConfig(config)
  const file = await readFile(join(fixture('llama-f32'), 'model.safetensors'))
  const start = 8 + Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, start)) as Header
  changeHeader(header)
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  return {
    'config.json': JSON.stringify(config),
    'model.safetensors': Buffer.concat([length, text, file.subarray(start)]),
  }
}

/** Loading fails with `code`, says `part`, and leaves nothing behind. */
async function expectRefused(
  files: Record<string, string | Uint8Array>,
  code: string,
  part: string,
  options: Omit<LoadModelOptions, 'device'> = {},
): Promise<void> {
  await withDirectory(files, (directory) =>
    withDevice(async (device) => {
      await expect(loadModel(directory, { device, ...options })).rejects.toMatchObject({
        code,
        message: expect.stringContaining(part),
      })
    }),
  )
}

describe('a checkpoint that does not fit its config.json', () => {
  test('a missing tensor is named', async () => {
    const files = await changedFixture(
      () => {},
      (header) => {
        const entry = header['model.layers.1.mlp.up_proj.weight']!
        delete header['model.layers.1.mlp.up_proj.weight']
        header['model.layers.1.mlp.other.weight'] = entry
      },
    )
    await expectRefused(files, 'SPILLWAY_CHECKPOINT_TENSOR_MISSING', 'model.layers.1.mlp.up_proj.weight')
  })

  test('a missing bias or norm of heads is named', async () => {
    for (const [type, architecture, tensor] of [
      ['qwen2', 'Qwen2ForCausalLM', 'model.layers.0.self_attn.q_proj.bias'],
      ['qwen3', 'Qwen3ForCausalLM', 'model.layers.0.self_attn.q_norm.weight'],
    ]) {
      const files = await changedFixture((config) => {
        config.model_type = type
        config.architectures = [architecture]
      })
      await expectRefused(files, 'SPILLWAY_CHECKPOINT_TENSOR_MISSING', tensor!)
    }
  })

  test('no lm_head.weight, and nothing says it is tied', async () => {
    const files = await changedFixture(
      () => {},
      (header) => {
        header.other = header['lm_head.weight']!
        delete header['lm_head.weight']
      },
    )
    await expectRefused(files, 'SPILLWAY_CHECKPOINT_TENSOR_MISSING', 'lm_head.weight')
  })

  test('a wrong shape is named', async () => {
    const files = await changedFixture((config) => {
      config.vocab_size = 383
    })
    await expectRefused(files, 'SPILLWAY_CHECKPOINT_SHAPE', 'model.embed_tokens.weight')
  })

  test('a wrong dtype is named', async () => {
    const files = await changedFixture((config) => {
      config.dtype = 'bfloat16'
    })
    await expectRefused(files, 'SPILLWAY_CHECKPOINT_SHAPE', 'model.embed_tokens.weight')
  })

  test('a config.json that names no dtype takes the checkpoint’s', async () => {
    const files = await changedFixture((config) => {
      delete config.dtype
    })
    await withDirectory(files, (directory) =>
      withModel(directory, {}, async (model) => expect(model.dtype).toBe('f32')),
    )
    await expectRefused({ 'config.json': files['config.json']! }, 'SPILLWAY_DECODER_DTYPE', '"dtype"', {
      loadFormat: 'dummy',
    })
  })

  test('no directory, no config.json, no checkpoint', async () => {
    await withDevice(async (device) => {
      await expect(loadModel('/nowhere/at/all', { device })).rejects.toMatchObject({ code: 'SPILLWAY_DECODER_CONFIG' })
    })
    await expectRefused({}, 'SPILLWAY_DECODER_CONFIG', 'config.json')
    const { 'config.json': config } = await changedFixture(() => {})
    await expectRefused({ 'config.json': config! }, 'SPILLWAY_CHECKPOINT_MISSING', 'model.safetensors')
  })
})

describe('options', () => {
  test.each([
    [{ contextLength: 129 }, 'contextLength is a whole number from 1 to 128'],
    [{ contextLength: 0 }, 'contextLength'],
    [{ contextLength: 1.5 }, 'contextLength'],
    [{ maxRows: 0 }, 'maxRows is a whole number from 1 to 4096'],
    [{ loadFormat: 'pt' as 'auto' }, 'loadFormat is auto, dummy; got "pt"'],
    [{ kvCacheDtype: 'f8' as 'f32' }, 'kvCacheDtype is auto, f32, f16, bf16'],
    [{ dummySeed: 0.5 }, 'dummySeed'],
    [{ pin: 'yes' as 'on' }, 'pin'],
  ])('refuses %o', async (options, part) => {
    await withDevice(async (device) => {
      await expect(loadModel(fixture('llama-f32'), { device, ...options })).rejects.toMatchObject({
        code: 'SPILLWAY_INVALID_OPTION',
        message: expect.stringContaining(part),
      })
    })
  })

  test('pinning as it is asked for, and said in the statistics', async () => {
    for (const pin of ['on', 'off'] as const) {
      await withModel(fixture('llama-f32'), { pin, offload: hostLayers([]) }, async (model, device) => {
        expect(model.stats().pinned.pin).toBe(pin === 'on')
        const { offloadedBytes } = model.stats()
        const { pinnedBytes, pageableBytes } = device.counters()
        expect(pin === 'on' ? pinnedBytes : pageableBytes).toBeGreaterThanOrEqual(offloadedBytes)
        expect(pin === 'on' ? pageableBytes : pinnedBytes).toBe(0)
      })
    }
  })

  test('no file of the model stays open', async () => {
    const open = async (): Promise<string[]> => {
      const links = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''))
      return (await Promise.all(links)).filter((path) => path.includes('fixtures'))
    }
    await withModel(fixture('llama-f16-sharded'), {}, async () => expect(await open()).toEqual([]))
    expect(await open()).toEqual([])
  })

  test('defaults', async () => {
    await withModel(fixture('llama-f32'), {}, async (model) => {
      expect(model.contextLength).toBe(128)
      expect(model.tokenizer?.eosToken).toBe('</s>')
    })
  })
})

describe('progress', () => {
  test('goes through the phases, and bytes never go back', async () => {
    const seen: LoadModelProgress[] = []
    await withModel(
      fixture('llama-f16-sharded'),
      { onProgress: (progress) => void seen.push(progress) },
      async ({ plan }) => {
        expect([...new Set(seen.map(({ phase }) => phase))]).toEqual(['plan', 'weights', 'post-process', 'ready'])
        expect(seen.every(({ totalBytes }) => totalBytes === plan.weightBytes)).toBe(true)
        const loaded = seen.map(({ loadedBytes }) => loadedBytes)
        expect(loaded).toEqual([...loaded].sort((a, b) => a - b))
        expect([loaded[0], loaded.at(-1)]).toEqual([0, plan.weightBytes])
      },
    )
  })

  test.each(['plan', 'weights', 'post-process', 'ready'] as const)(
    'an abort, or a throw, at %s leaves nothing',
    async (phase) => {
      await withDevice(async (device) => {
        for (const offload of [undefined, hostLayers([])]) {
          const abort = new AbortController()
          const base = { device, ...(offload === undefined ? {} : { offload }) }
          const aborting = loadModel(fixture('llama-f32'), {
            ...base,
            signal: abort.signal,
            onProgress: (progress) => {
              if (progress.phase === phase) abort.abort(new Error('enough'))
            },
          })
          if (phase === 'ready') {
            // Then it is loaded already.
            await (await aborting).dispose()
          } else {
            await expect(aborting).rejects.toMatchObject({ code: 'SPILLWAY_ABORTED', cause: { message: 'enough' } })
          }
          const throwing = loadModel(fixture('llama-f32'), {
            ...base,
            onProgress: (progress) => {
              if (progress.phase === phase) throw new Error('out of paper')
            },
          })
          await expect(throwing).rejects.toThrow('out of paper')
          expect(device.budget.usedBytes).toBe(0)
          expect(device.budget.cachedBytes).toBe(0)
        }
      })
    },
  )

  test('a signal that had fired before', async () => {
    await withDevice(async (device) => {
      await expect(loadModel(fixture('llama-f32'), { device, signal: AbortSignal.abort() })).rejects.toMatchObject({
        code: 'SPILLWAY_ABORTED',
      })
    })
  })
})

describe('a failure anywhere', () => {
  /** The same device, but its k-th allocation of either kind fails. */
  function failingAt(device: Device, k: number): { device: Device; allocations: () => number } {
    let count = 0
    const fail = (): void => {
      if (count++ === k) throw new SpillwayError('SPILLWAY_OUT_OF_MEMORY', 'the test says no')
    }
    const replaced: Partial<Device> = {
      allocate(bytes, options) {
        fail()
        return device.allocate(bytes, options)
      },
      async allocateHost(bytes, options) {
        fail()
        return await device.allocateHost(bytes, options)
      },
    }
    const proxy = new Proxy(device, {
      get(target, key) {
        if (key in replaced) return replaced[key as 'allocate']
        const value: unknown = Reflect.get(target, key, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    return { device: proxy, allocations: () => count }
  }

  test.each(['none', 'host-layers'])('%s: whichever allocation fails, nothing is left', async (name) => {
    await withDevice(async (real) => {
      const handles = real.counters().liveHandles
      const load = (k: number): { loading: ReturnType<typeof loadModel>; allocations: () => number } => {
        const { device, allocations } = failingAt(real, k)
        const options = { device, contextLength: 8, ...(name === 'none' ? {} : { offload: hostLayers([]) }) }
        return { loading: loadModel(fixture('llama-f32'), options), allocations }
      }
      const whole = load(Number.POSITIVE_INFINITY)
      await (await whole.loading).dispose()
      expect(whole.allocations()).toBeGreaterThan(14)
      for (let k = 0; k < whole.allocations(); k++) {
        await expect(load(k).loading, `allocation ${k}`).rejects.toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY' })
        expectNothingLeft(real, handles)
      }
    })
  })
})

test('loading keeps blocks of more than 20 MiB whole, unless the program says otherwise, and nobody else’s', () =>
  withDevice(async (device) => {
    const seen = new Set<number>()
    const onProgress = () => void seen.add(currentAllocatorSettings().maxSplitSizeMb)
    const load = () => loadModel(fixture('llama-f32'), { device, onProgress })
    await (await load()).dispose()
    expect([...seen]).toEqual([20])
    seen.clear()
    await (await withAllocatorSettings({ maxSplitSizeMb: 64 }, load)).dispose()
    expect([...seen]).toEqual([64])
    expect(currentAllocatorSettings().maxSplitSizeMb).toBe(Number.POSITIVE_INFINITY)
  }))

test('a disposed model leaves no memory cached', () =>
  withDevice(async (device) => {
    const model = await loadModel(fixture('llama-f32'), { device })
    for await (const _ of model.generate([1, 2, 3], { maxTokens: 3 }));
    expect(device.budget.usedBytes).toBeGreaterThan(0)
    await model.dispose()
    expect(device.budget).toMatchObject({ usedBytes: 0, cachedBytes: 0 })
  }))
