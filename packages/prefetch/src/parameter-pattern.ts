import { didYouMean, type ModuleSpec, printableName, SpillwayError } from '@spillway/core'

/**
 * Dotted patterns over names of parameters, as `--offload-params` gives them: a pattern matches where it is a run of
 * whole segments of `prefix.module.parameter`; no wildcards, case matters. The rule is vLLM's, which looks at the
 * parameter's part of the name alone: here a pattern can name a module too, and only one that does takes a parameter
 * of a module that is no layer.
 */
export class ParameterPatterns {
  readonly #patterns: readonly string[]
  readonly #unmatched: Set<string>
  readonly #segments: Set<string>

  constructor(patterns: readonly string[], unmatched: Iterable<string> = patterns, segments: Iterable<string> = []) {
    this.#patterns = patterns
    this.#unmatched = new Set(unmatched)
    this.#segments = new Set(segments)
  }

  /** The same patterns, as far matched; what the copy matches from here on is not known here. */
  copy(): ParameterPatterns {
    return new ParameterPatterns(this.#patterns, this.#unmatched, this.#segments)
  }

  /** Whether a parameter that the module owns may be offloaded. */
  matches({ name: module, role }: Pick<ModuleSpec, 'name' | 'role'>, parameter: string, prefix: string): boolean {
    if (this.#patterns.length === 0) return role === 'layer'
    const scope = prefix === '' ? module : `${prefix}.${module}`
    const name = `.${scope}.${parameter}.`
    let matched = false
    for (const pattern of this.#patterns) {
      const at = name.indexOf(`.${pattern}.`)
      // The module's part ends with the dot before the parameter's.
      if (at < 0 || (role !== 'layer' && at > scope.length)) continue
      this.#unmatched.delete(pattern)
      matched = true
    }
    if (this.#unmatched.size > 0) for (const segment of name.split('.')) this.#segments.add(segment)
    return matched
  }

  /** Throws SPILLWAY_PATTERN_UNMATCHED for a pattern that has matched none of the names so far. */
  requireMatched(): void {
    const [pattern] = this.#unmatched
    if (pattern === undefined) return
    const last = pattern.slice(pattern.lastIndexOf('.') + 1)
    const known = [...this.#segments].filter((segment) => !/^\d*$/.test(segment)).sort()
    throw new SpillwayError(
      'SPILLWAY_PATTERN_UNMATCHED',
      `prefetch: params (--offload-params) has ${printableName(pattern)}, which is in the name of no parameter that can be ` +
        `offloaded${didYouMean(last, known)} (segments of names are ${known.join(', ')})`,
      { details: { pattern, segments: known } },
    )
  }
}
