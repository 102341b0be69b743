import type { Conflict } from './conflict.js'
import { type Judgement, judge } from './oracle.js'
import { type Program, type Step, without } from './program.js'
import type { Random } from './random.js'

/** Adds edges, at random, until nothing is out of order. undefined: it cannot be done. */
export function repair(broken: Program, random: Random): Program | undefined {
  let program = broken
  let found = judge(program)
  const open = ({ conflicts, busy }: Judgement) => conflicts.length + busy.length
  for (let round = 0; open(found) > 0; round++) {
    if (round > 200) return undefined
    const conflict = (found.conflicts[0] ?? found.busy[0])!
    let better: { program: Program; found: Judgement } | undefined
    for (let attempt = 0; attempt < 20 && !better; attempt++) {
      const changed =
        attempt < 16 ? new Repair(program, random).order(conflict) : without(program, laterStep(program, conflict))
      const judged = judge(changed)
      if (!judged.illegal && open(judged) < open(found)) better = { program: changed, found: judged }
    }
    if (!better) return undefined
    ;({ program, found } = better)
  }
  return program
}

function laterStep(program: Program, { later }: Conflict): Step {
  return program.steps[later.launch ?? later.step]!
}

interface Place {
  readonly at: number
  readonly stream: number | undefined
}

/** One way, at random, to put two operations in order. */
class Repair {
  readonly #program: Program
  readonly #random: Random
  readonly #inserted: { readonly at: number; readonly step: Step }[] = []
  #nextEvent: number
  #nextPromise: number

  constructor(program: Program, random: Random) {
    this.#program = program
    this.#random = random
    this.#nextEvent = 1 + Math.max(-1, ...program.steps.map((step) => ('event' in step ? step.event : -1)))
    this.#nextPromise = 1 + Math.max(-1, ...program.steps.map((step) => ('promise' in step ? step.promise : -1)))
  }

  order({ earlier, later }: Conflict): Program {
    const { steps } = this.#program
    const inOneGraph = earlier.launch !== undefined && earlier.launch === later.launch
    // Within one graph where they were recorded, else where they, or their graphs, were enqueued.
    const first = this.#place(inOneGraph ? earlier.step : (earlier.launch ?? earlier.step))
    const last = this.#place(inOneGraph ? later.step : (later.launch ?? later.step))
    const way = this.#random.below(100)
    if (last.stream === undefined) {
      if (way < 70) this.#throughHost(first, last.at)
      else this.#throughHost(this.#throughOther(first, last.at), last.at)
    } else if (!inOneGraph && later.launch !== undefined && way < 40) {
      // Inside the graph, for the record made last before each launch.
      const event = this.#nextEvent++
      this.#insert(this.#between(first.at + 1, last.at), { do: 'record', stream: first.stream!, event })
      this.#insert(later.step, { do: 'wait', stream: this.#place(later.step).stream!, event, external: true })
    } else if (!inOneGraph && earlier.launch !== undefined && way < 60) {
      // Inside the graph, for the waits after each launch.
      const event = this.#nextEvent++
      this.#insert(earlier.step + 1, { do: 'record', stream: this.#place(earlier.step).stream!, event, external: true })
      this.#insert(this.#between(first.at + 1, last.at), { do: 'wait', stream: last.stream, event })
    } else if (way < 75) {
      this.#edge(first, { at: last.at, stream: last.stream })
    } else if (way < 90 || inOneGraph) {
      this.#edge(this.#throughOther(first, last.at), { at: last.at, stream: last.stream })
    } else {
      this.#throughHost(first, last.at)
    }
    const all: Step[] = []
    for (let at = 0; at <= steps.length; at++) {
      for (const inserted of this.#inserted) if (inserted.at === at) all.push(inserted.step)
      if (at < steps.length) all.push(steps[at]!)
    }
    return { ...this.#program, steps: all }
  }

  /** No stream: the host itself does this step. */
  #place(at: number): Place {
    const step = this.#program.steps[at]!
    return { at, stream: 'stream' in step ? step.stream : undefined }
  }

  #insert(at: number, step: Step): void {
    this.#inserted.push({ at, step })
  }

  #between(least: number, most: number): number {
    const kind = this.#random.below(10)
    return kind < 4 ? least : kind < 8 ? most : this.#random.from(least, most)
  }

  #edge(from: Place, to: { at: number; stream: number }): void {
    const events = this.#program.steps.flatMap((step) => (step.do === 'record' && !step.external ? [step.event] : []))
    const event = events.length > 0 && this.#random.chance(35) ? this.#random.pick(events) : this.#nextEvent++
    const recorded = this.#between(from.at + 1, to.at)
    this.#insert(recorded, { do: 'record', stream: from.stream!, event })
    this.#insert(this.#between(recorded, to.at), { do: 'wait', stream: to.stream, event })
  }

  /** A place in some other stream, after `from`. */
  #throughOther(from: Place, before: number): { at: number; stream: number } {
    const streams = [...new Set(this.#program.steps.flatMap((step) => ('stream' in step ? [step.stream] : [])))]
    const stream = this.#random.chance(20) ? Math.max(...streams) + 1 : this.#random.pick(streams)
    const at = this.#between(from.at + 1, before)
    this.#edge(from, { at, stream })
    return { at: at - 1, stream }
  }

  #throughHost({ at, stream }: Place, before: number): void {
    const promise = this.#nextPromise++
    const asked = this.#between(at + 1, before)
    this.#insert(asked, { do: 'synchronize', stream: stream!, promise })
    this.#insert(this.#between(asked, before), { do: 'await', promise })
  }
}
