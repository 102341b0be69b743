import { ownParameters } from '@spillway/core'
import { describe, expect, test } from 'vitest'
import { readConfig } from '../src/config.js'
import { loadModel } from '../src/load-model.js'
import { moduleSpecs } from '../src/model-specs.js'
import { expectedNumbers, type FixtureName, fixture, fixtureJson, withDirectory } from './fixtures.js'
import { hostLayers } from './host-layers.js'
import { expectNothingLeft, withDevice, withModel } from './with-device.js'

/** The host device gives whole pages, and every allocation is exact: this is all that comes on top. */
const pageBytes = 4096
const roundingBytes = 12 * pageBytes
const inPages = (bytes: number): number => Math.ceil(bytes / pageBytes) * pageBytes

describe('moduleSpecs', () => {
  test('every part is a module, named as in the checkpoint, before any byte is read', async () => {
    const specs = moduleSpecs(await readConfig(fixture('llama-f32')), 'f32')
    expect(specs.map(({ name, role, order }) => `${order} ${role} ${name}`)).toEqual([
      '0 embedding model.embed_tokens',
      '1 layer model.layers.0',
      '2 layer model.layers.1',
      '3 layer model.layers.2',
      '4 norm model.norm',
      '5 head lm_head',
    ])
    expect(specs[1]!.parameters.map(({ name, shape, use }) => `${name} [${shape}] ${use}`)).toEqual([
      'input_layernorm.weight [64] other',
      'self_attn.q_proj.weight [64,64] linear',
      'self_attn.k_proj.weight [32,64] linear',
      'self_attn.v_proj.weight [32,64] linear',
      'self_attn.o_proj.weight [64,64] linear',
      'post_attention_layernorm.weight [64] other',
      'mlp.gate_proj.weight [160,64] linear',
      'mlp.up_proj.weight [160,64] linear',
      'mlp.down_proj.weight [64,160] linear',
    ])
  })

  test('biases and the norms of heads belong to the layer, where the family has them', async () => {
    const vectors = async (name: FixtureName) =>
      moduleSpecs(await readConfig(fixture(name)), 'bf16')[1]!
        .parameters.filter(({ shape }) => shape.length === 1)
        .map((parameter) => `${parameter.name} [${parameter.shape}] ${parameter.use}`)
    const norms = ['input_layernorm.weight [48] other', 'post_attention_layernorm.weight [48] other'] as const
    expect(await vectors('mistral-bf16')).toEqual(norms)
    expect(await vectors('qwen2-bf16')).toEqual([
      norms[0],
      'self_attn.q_proj.bias [48] other',
      'self_attn.k_proj.bias [24] other',
      'self_attn.v_proj.bias [24] other',
      norms[1],
    ])
    expect(await vectors('qwen3-bf16-tied')).toEqual([
      'input_layernorm.weight [40] other',
      'self_attn.q_norm.weight [32] other',
      'self_attn.k_norm.weight [32] other',
      'post_attention_layernorm.weight [40] other',
    ])
  })

  test('what reads one input is joined after loading, biases too', async () => {
    const joined = async (name: FixtureName): Promise<string[]> => {
      let parameters: string[] = []
      const offload = hostLayers([], (placed) => {
        const layer = placed.find(({ spec }) => spec.role === 'layer')!.parameters
        parameters = [...layer].map(([key, { shape, use }]) => `${key} [${shape}] ${use}`)
      })
      await withModel(fixture(name), { offload }, async () => {})
      return parameters.filter((parameter) => /qkv_proj|gate_up|q_proj|k_proj|v_proj/.test(parameter)).sort()
    }
    const matrices = ['mlp.gate_up_proj.weight [200,48] linear', 'self_attn.qkv_proj.weight [96,48] linear'] as const
    expect(await joined('qwen2-bf16')).toEqual([matrices[0], 'self_attn.qkv_proj.bias [96] other', matrices[1]])
    expect(await joined('mistral-bf16')).toEqual([matrices[0], 'self_attn.qkv_proj.weight [128,48] linear'])
  })

  test('a tied head owns nothing', async () => {
    const specs = moduleSpecs(await readConfig(fixture('llama-bf16-tied')), 'bf16')
    expect(specs.at(-1)!.parameters[0]).toMatchObject({
      name: 'weight',
      tiedTo: 'model.embed_tokens.weight',
      use: 'linear',
    })
    expect(ownParameters(specs.at(-1)!)).toEqual([])
  })
})

describe('bytes', () => {
  test('without a backend everything is on the device, as planned, and each weight crossed the link once', async () => {
    await withModel(fixture('llama-f32'), { contextLength: 64, maxRows: 16 }, async (model, device) => {
      const { plan } = model
      // 717576 bytes of file, less its header.
      expect(plan.weightBytes).toBe(4 * (2 * 384 * 64 + 64 + 3 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)))
      expect(plan.kvCacheBytes).toBe(3 * 2 * 64 * 2 * 16 * 4)
      expect(model.names).toEqual(['none'])
      expect(model.stats()).toMatchObject({
        offloadedBytes: 0,
        residentBytes: plan.weightBytes,
        slotBytes: 0,
        onloadedBytes: 0,
      })
      const used = device.budget.usedBytesByTag
      expect(used.kv_cache).toBe(inPages(plan.kvCacheBytes))
      const tableBytes = 4 * 8
      expect(used.workspace! + used.runtime!).toBe(inPages(plan.workspaceBytes - tableBytes) + inPages(tableBytes))
      // A little more than the weights, never less.
      expect(used.weights).toBeGreaterThanOrEqual(plan.weightBytes)
      expect(used.weights).toBeLessThan(plan.weightBytes + roundingBytes)
      expect(device.counters().hostToDeviceBytesByTag.weights).toBe(plan.weightBytes)
      expect(
        Object.keys(used)
          .filter((tag) => used[tag]! > 0)
          .sort(),
      ).toEqual(['kv_cache', 'runtime', 'weights', 'workspace'])
    })
  })

  test('a step uploads one position and its tokens, and downloads one row of logits', async () => {
    await withModel(fixture('llama-f32'), {}, async (model, device) => {
      const steps = model.generate([0, 5, 6, 7], { maxTokens: 4 })
      await steps.next()
      const before = device.counters()
      await steps.next()
      const after = device.counters()
      expect(after.hostToDeviceBytes - before.hostToDeviceBytes).toBe(8)
      expect(after.hostToDeviceCopies - before.hostToDeviceCopies).toBe(1)
      expect(after.deviceToHostBytes - before.deviceToHostBytes).toBe(4 * 384)
      expect(after.deviceToDeviceBytes - before.deviceToDeviceBytes).toBe(0)
      await steps.return!()
    })
  })

  test('with layers offloaded their weights lie in host memory, fused there, and cross once per forward', async () => {
    const log: string[] = []
    await withModel(fixture('llama-f32'), { offload: hostLayers(log), maxRows: 16 }, async (model, device) => {
      const layerBytes = 4 * 3 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
      expect(model.names).toEqual(['host-layers'])
      expect(model.stats()).toMatchObject({
        offloadedBytes: layerBytes,
        residentBytes: model.plan.weightBytes - layerBytes,
        onloadedBytes: 0,
      })
      const before = device.counters()
      // Nothing of a layer was on the device while loading: it was read, and fused, where it lies.
      expect(before.hostToDeviceBytesByTag.weights).toBe(model.plan.weightBytes - layerBytes)
      expect(before.pinnedBytes).toBeGreaterThanOrEqual(layerBytes)
      const tableBytes = 4 * 8
      expect(before.hostToDeviceBytes).toBe(model.plan.weightBytes - layerBytes + tableBytes)
      expect(before.deviceToHostBytes).toBe(0)
      log.length = 0
      await model.logits((await expectedNumbers('llama-f32')).tokens)
      // 24 tokens, 16 at a time.
      expect(model.stats().onloadedBytes).toBe(2 * layerBytes)
      const onloaded = device.counters().hostToDeviceBytesByTag.weights! - before.hostToDeviceBytesByTag.weights!
      expect(onloaded).toBe(2 * layerBytes)
      const modules = ['model.embed_tokens', ...[0, 1, 2].map((i) => `model.layers.${i}`), 'model.norm', 'lm_head']
      const forward = [...modules.flatMap((name) => [`before ${name}`, `after ${name}`]), 'end true']
      expect(log).toEqual([...forward, ...forward])
    })
  })

  test('a prompt that is read in parts computes no logits before its last part', async () => {
    const log: string[] = []
    await withModel(fixture('llama-f32'), { offload: hostLayers(log), maxRows: 2 }, async (model) => {
      for await (const _ of model.generate([0, 5, 6, 7], { maxTokens: 2 }));
      expect(log.filter((line) => line === 'before lm_head')).toHaveLength(2)
      expect(log.filter((line) => line === 'before model.layers.0')).toHaveLength(3)
    })
  })

  test('matrices are fused, q k v and gate up, and the old names are gone', async () => {
    const seen = new Map<string, readonly string[]>()
    const offload = hostLayers([], (placed) => {
      for (const { spec, parameters } of placed) {
        seen.set(spec.name, [...parameters.values()].map(({ name, shape }) => `${name} [${shape}]`).sort())
      }
    })
    await withModel(fixture('llama-f32'), { offload }, async () => {
      expect(seen.get('model.layers.1')).toEqual([
        'input_layernorm.weight [64]',
        'mlp.down_proj.weight [64,160]',
        'mlp.gate_up_proj.weight [320,64]',
        'post_attention_layernorm.weight [64]',
        'self_attn.o_proj.weight [64,64]',
        'self_attn.qkv_proj.weight [128,64]',
      ])
    })
  })

  test('fusing takes no more than one layer besides the plan, whatever the cache lends', async () => {
    const layerBytes = 4 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 160 * 64)
    for (const sizes of [{ contextLength: 128 }, { contextLength: 8, maxRows: 8 }]) {
      await withModel(fixture('llama-f32'), sizes, async (model, device) => {
        const { weightBytes, kvCacheBytes, workspaceBytes } = model.plan
        expect(device.budget.peakBytes).toBeLessThanOrEqual(
          weightBytes + kvCacheBytes + workspaceBytes + layerBytes + roundingBytes,
        )
        expect(await model.logits([0, 5])).toHaveLength(2)
      })
    }
  })

  test('a tied head reads the embedding: its bytes are there once', async () => {
    await withModel(fixture('llama-bf16-tied'), {}, async (model) => {
      expect(model.plan.weightBytes).toBe(2 * (307 * 48 + 48 + 4 * (2 * 48 + 2 * 96 * 48 + 2 * 32 * 48 + 3 * 137 * 48)))
      expect(model.stats().residentBytes).toBe(model.plan.weightBytes)
    })
  })
})

describe('no memory', () => {
  test('fails with SPILLWAY_OUT_OF_MEMORY wherever it runs out, and gives everything back', async () => {
    const { weightBytes, kvCacheBytes, workspaceBytes } = await withModel(
      fixture('llama-f32'),
      {},
      async ({ plan }) => plan,
    )
    const planned = weightBytes + kvCacheBytes + workspaceBytes
    for (const limit of [4096, weightBytes / 2, weightBytes, weightBytes + kvCacheBytes, planned]) {
      await withDevice(async (device) => {
        await expect(loadModel(fixture('llama-f32'), { device })).rejects.toMatchObject({
          code: 'SPILLWAY_OUT_OF_MEMORY',
        })
      }, Math.floor(limit))
    }
  })

  test('nor does the largest config.json there can be take anything', async () => {
    const config = {
      ...(await fixtureJson('llama-f32', 'config.json')),
      vocab_size: 2 ** 22,
      hidden_size: 2 ** 17,
      intermediate_size: 2 ** 19,
      num_hidden_layers: 512,
      num_attention_heads: 1024,
      num_key_value_heads: 1024,
      head_dim: 128,
      max_position_embeddings: 2 ** 23,
    }
    await withDirectory({ 'config.json': JSON.stringify(config) }, (directory) =>
      withDevice(async (device) => {
        const plans: number[] = []
        const loading = loadModel(directory, {
          device,
          loadFormat: 'dummy',
          contextLength: 2 ** 23,
          maxRows: 4096,
          onProgress: ({ totalBytes }) => void plans.push(totalBytes),
        })
        await expect(loading).rejects.toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY' })
        expect(plans.every(Number.isSafeInteger)).toBe(true)
        expect(plans[0]).toBeGreaterThan(2 ** 47)
      }),
    )
  })

  test('what does not fit without a backend runs with one, with the same tokens', async () => {
    const prompt = (await expectedNumbers('llama-f32')).tokens
    const options = { contextLength: 64, maxRows: 8 }
    const run = async (memoryLimitBytes: number, offload: boolean): Promise<number[]> => {
      let tokens: number[] = []
      await withDevice(async (device) => {
        const handles = device.counters().liveHandles
        const model = await loadModel(fixture('llama-f32'), {
          device,
          ...options,
          ...(offload ? { offload: hostLayers([]) } : {}),
        })
        for await (const step of model.generate(prompt, { maxTokens: 16 })) tokens = [...tokens, ...step.tokens]
        expect(device.budget.peakBytes).toBeLessThanOrEqual(memoryLimitBytes)
        await model.dispose()
        expectNothingLeft(device, handles)
      }, memoryLimitBytes)
      return tokens
    }
    const limit = 700_000
    await expect(run(limit, false)).rejects.toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY' })
    expect(await run(limit, true)).toEqual(await run(64 * 2 ** 20, false))
  })
})
