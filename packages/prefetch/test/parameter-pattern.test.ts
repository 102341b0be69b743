import type { ModuleRole } from '@spillway/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ParameterPatterns } from '../src/parameter-pattern.js'
import { failure } from './device-rig.js'

const layer = { name: 'model.layers.3', role: 'layer' as ModuleRole }
const matches = (pattern: string, parameter: string, module = layer, prefix = ''): boolean =>
  new ParameterPatterns([pattern]).matches(module, parameter, prefix)

describe('patterns', () => {
  it('are whole dotted segments', () => {
    for (const pattern of [
      'experts',
      'experts.w2_weight',
      'mlp',
      'mlp.experts',
      'mlp.experts.w2_weight',
      'w2_weight',
    ]) {
      expect(matches(pattern, 'mlp.experts.w2_weight'), pattern).toBe(true)
    }
    for (const pattern of ['expert', 'w2', 'mlp.w2_weight', 'Experts', 'xperts.w2_weight', 'w2_weight.x']) {
      expect(matches(pattern, 'mlp.experts.w2_weight'), pattern).toBe(false)
    }
    expect(matches('w13_weight', 'mlp.experts.w13_weight_scale')).toBe(false)
  })

  it('see the prefix and the module', () => {
    expect(matches('visual.blocks', 'attn.weight', { name: 'blocks.0', role: 'layer' }, 'visual')).toBe(true)
    expect(matches('visual.blocks', 'attn.weight', { name: 'blocks.0', role: 'layer' })).toBe(false)
    expect(matches('layers.3', 'mlp.weight')).toBe(true)
    expect(matches('layers.3', 'mlp.weight', { ...layer, name: 'model.layers.33' })).toBe(false)
  })

  it('take of a module that is no layer only what is named with the module', () => {
    const head = { name: 'lm_head', role: 'head' as ModuleRole }
    expect(matches('weight', 'weight', head)).toBe(false)
    for (const pattern of ['lm_head', 'lm_head.weight']) expect(matches(pattern, 'weight', head)).toBe(true)
    expect(matches('model', 'weight', { name: 'model.norm', role: 'norm' })).toBe(true)
    // Without patterns: layers, all of them.
    const none = new ParameterPatterns([])
    expect(none.matches(head, 'weight', '')).toBe(false)
    expect(none.matches(layer, 'anything', '')).toBe(true)
    none.requireMatched()
  })

  it('match by the rule for any name: ".P." is in ".N."', () => {
    const segment = fc.constantFrom('a', 'b', 'ab', 'c')
    const name = fc.array(segment, { minLength: 1, maxLength: 4 }).map((segments) => segments.join('.'))
    fc.assert(
      fc.property(name, name, name, (module, parameter, pattern) => {
        const expected = `.${module}.${parameter}.`.includes(`.${pattern}.`)
        expect(matches(pattern, parameter, { name: module, role: 'layer' })).toBe(expected)
        // Of others, a run of segments that begins within the module's.
        const whole = [...module.split('.'), ...parameter.split('.')]
        const wanted = pattern.split('.')
        const named = module.split('.').some((_, i) => wanted.every((one, k) => whole[i + k] === one))
        expect(matches(pattern, parameter, { name: module, role: 'head' })).toBe(named)
      }),
    )
  })

  it('that match nothing are an error that shows what there is', async () => {
    const patterns = new ParameterPatterns(['mlp', 'self_atn.q_proj', 'self_attn.q_porj'])
    for (const name of ['mlp.up.weight', 'self_attn.q_proj.weight']) patterns.matches(layer, name, '')
    const error = await failure('SPILLWAY_PATTERN_UNMATCHED', () => patterns.requireMatched())
    expect(error.message).toContain('self_atn.q_proj')
    expect(error.message).toMatch(/layers, mlp, model, q_proj, self_attn, up, weight/)
    expect(error.details.pattern).toBe('self_atn.q_proj')
    patterns.matches({ ...layer, name: 'self_atn' }, 'q_proj', '')
    const second = await failure('SPILLWAY_PATTERN_UNMATCHED', () => patterns.requireMatched())
    expect(second.message).toMatch(/self_attn\.q_porj.*did you mean q_proj\?/)
    patterns.matches(layer, 'self_attn.q_porj.weight', '')
    patterns.requireMatched()
  })
})
