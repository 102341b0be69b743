import { type ModuleSpec, ownParameters, SpillwayError } from '@spillway/core'
import type { PrefetchConfig } from './options.js'

/** Throws SPILLWAY_INVALID_OPTION where two options contradict each other. */
export function checkSelection({ groupSize, numInGroup }: PrefetchConfig): void {
  if (numInGroup > groupSize) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_OPTION',
      `numInGroup is ${numInGroup}, groupSize ${groupSize}: at most all layers of a group can be offloaded; ` +
        `choose --offload-num-in-group ${groupSize} or less`,
      { details: { groupSize, numInGroup } },
    )
  }
}

/**
 * Which modules live on the host: of those with role `layer`, by `order`, number m is taken when
 * m mod groupSize ≥ groupSize − numInGroup (vLLM's rule: the last N of every G). Goes on counting over calls. A layer
 * whose parameter another module is tied to stays: that module runs when the layer's slot holds another one.
 */
export class LayerSelection {
  readonly #config: PrefetchConfig
  #counted = 0

  constructor(config: PrefetchConfig) {
    this.#config = config
  }

  /** Names of the selected modules. `commit` once they are placed; until then nothing is counted. */
  select(specs: readonly ModuleSpec[]): { names: ReadonlySet<string>; commit: () => void } {
    const { groupSize, numInGroup } = this.#config
    const tied = specs.flatMap((spec) => spec.parameters.flatMap(({ tiedTo }) => tiedTo ?? []))
    const layers = specs.filter((spec) => spec.role === 'layer').sort((a, b) => a.order - b.order)
    const names = new Set<string>()
    for (const [i, spec] of layers.entries()) {
      const selected = (this.#counted + i) % groupSize >= groupSize - numInGroup
      const own = ownParameters(spec)
      const isTieTarget = own.some(({ name }) => tied.includes(`${spec.name}.${name}`))
      if (selected && own.length > 0 && !isTieTarget) names.add(spec.name)
    }
    return {
      names,
      commit: () => {
        this.#counted += layers.length
      },
    }
  }
}
