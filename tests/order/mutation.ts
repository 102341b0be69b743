import { Captures } from './captures.js'
import type { Conflict } from './conflict.js'
import { doesSameWork } from './generator.js'
import { judge } from './oracle.js'
import { isEdge, type Program, type Step, without } from './program.js'
import type { Random } from './random.js'
import type { Accusation, Accused } from './run-program.js'

/** A correct program that lost one edge and with it the order of some accesses. */
export interface Mutant {
  readonly program: Program
  readonly lost: Step
}

/** One of the edges, at random, that the program cannot do without. undefined: it has none. */
export function mutate(program: Program, random: Random): Mutant | undefined {
  const edges = random.shuffled(program.steps.filter(isEdge))
  // Rarer, and no less worth losing.
  if (random.chance(50)) edges.sort((a, b) => Number(isCaptured(program, b)) - Number(isCaptured(program, a)))
  for (const lost of edges) {
    const less = without(program, lost)
    if (doesSameWork(program, less, judge(less)) && certainConflict(less)) return { program: less, lost }
  }
  return undefined
}

/** Whether an edge is part of a graph. */
export function isCaptured({ steps }: Program, edge: Step): boolean {
  const captures = new Captures()
  for (const step of steps) {
    if (step === edge) return 'stream' in step && captures.capturing(step.stream)
    if (step.do === 'beginCapture') captures.begin(step.stream)
    else if (step.do === 'endCapture') captures.end(step.stream, step.graph)
    else if (step.do === 'record') captures.record(step.stream, step.event, step.external === true, 0)
    else if (step.do === 'wait') captures.wait(step.stream, step.event, step.external === true, 0)
    else if ((step.do === 'copy' || step.do === 'fill' || step.do === 'touch') && captures.capturing(step.stream)) {
      captures.add(step.stream, { step: 0, external: undefined })
    }
  }
  return false
}

/** The first conflict of the program that shows in every run. undefined: there is none. */
export function certainConflict(program: Program): Conflict | undefined {
  const first = judge(program, 'at any await').conflicts[0]
  // A run may end where the device refuses to unmap what is in use, though it is some other part of the range.
  const refused = Math.min(...judge(program).busy.map(({ later }) => later.step))
  return first !== undefined && (first.later.launch ?? first.later.step) <= refused ? first : undefined
}

/** What is wrong with a checker that says this of a program; empty: nothing. */
export function mistakes(program: Program, accusations: readonly Accusation[]): string[] {
  const { conflicts } = judge(program)
  const first = certainConflict(program)
  const untrue = accusations.filter((accusation) => !conflicts.some((conflict) => isMeant(conflict, accusation)))
  const found = accusations.some(({ later }) => first && isSame(first.later, later))
  return [
    ...untrue.map(({ message }) => `not true: ${message}`),
    ...(first && !found ? [`not found: ${describeConflict(first)}`] : []),
  ]
}

function isSame(one: Accused, two: Accused): boolean {
  return one.step === two.step && one.launch === two.launch
}

function isMeant(conflict: Conflict, { kind, earlier, later, offset, bytes }: Accusation): boolean {
  if (!conflict.kinds.includes(kind) || !earlier) return false
  if (!isSame(conflict.earlier, earlier) || !isSame(conflict.later, later)) return false
  return conflict.from < offset + bytes && offset < conflict.to
}

export function describeConflict({ earlier, later, kinds, buffer, from, to }: Conflict): string {
  const place = ({ step, launch }: Accused) =>
    `step ${step}${launch === undefined ? '' : ` as launched by step ${launch}`}`
  const where = buffer === undefined ? 'addresses' : `buffer ${buffer}, bytes`
  return `${kinds.join(' or ')}: ${place(earlier)} and ${place(later)}, ${where} ${from} to ${to - 1}`
}
