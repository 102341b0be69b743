import type { ModuleSpec } from '@spillway/core'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { layersOf, selectLayers } from '../src/layer-selection.js'
import { model } from './model-rig.js'

const select = (layers: number, groupSize: number, numInGroup: number): string[] => [
  ...selectLayers(model(layers), 0, { groupSize, numInGroup }),
]
const names = (...indices: number[]): string[] => indices.map((i) => `layers.${i}`)

describe('selection', () => {
  it('takes the last of each group', () => {
    expect(select(17, 8, 2)).toEqual(names(6, 7, 14, 15))
    expect(select(4, 1, 1)).toEqual(names(0, 1, 2, 3))
    expect(select(5, 2, 1)).toEqual(names(1, 3))
    expect(select(3, 3, 3)).toEqual(names(0, 1, 2))
    expect(select(3, 8, 5)).toEqual([]) // an incomplete group: its last ones are not there
  })

  it('counts layers only, by their order, whatever order they come in', () => {
    const shuffled = [...model(6)].reverse()
    expect([...selectLayers(shuffled, 0, { groupSize: 3, numInGroup: 1 })].sort()).toEqual(names(2, 5))
  })

  it('goes on counting over calls', () => {
    fc.assert(
      fc.property(
        fc.record({ layers: fc.nat(40), cut: fc.nat(40), groupSize: fc.integer({ min: 1, max: 9 }), part: fc.nat(8) }),
        ({ layers, cut, groupSize, part }) => {
          const config = { groupSize, numInGroup: 1 + (part % groupSize) }
          const specs: readonly ModuleSpec[] = model(layers)
          const at = Math.min(cut, specs.length)
          const first = selectLayers(specs.slice(0, at), 0, config)
          const second = selectLayers(specs.slice(at), layersOf(specs.slice(0, at)).length, config)
          expect(new Set([...first, ...second])).toEqual(selectLayers(specs, 0, config))
        },
      ),
    )
  })
})
