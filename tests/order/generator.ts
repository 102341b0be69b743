import { Contents } from './contents.js'
import { Draft } from './draft.js'
import { type Judgement, judge } from './oracle.js'
import { isEdge, type Program, without } from './program.js'
import { Random } from './random.js'
import { repair } from './repair.js'

/** A program in which every access comes after those that it depends on, most of its edges being needed for that. */
export function correctProgram(seed: number): Program {
  const random = new Random(seed)
  // A draft may be beyond repair.
  for (let round = 0; round < 100; round++) {
    const repaired = repair(withoutUnwrittenReads(withoutRefusals(Draft.make(random))), random)
    // A repair may have dropped the step that wrote what a kernel reads.
    if (!repaired || unwrittenReads(repaired).size > 0) continue
    const program = withoutSurplus(repaired, random)
    if (judge(program).operations.length > 2) return program
  }
  throw new Error(`seed ${seed}: no draft could be repaired`)
}

/** Whether the smaller program is legal and does the same work: an edge can be what brings a stream into a capture. */
export function doesSameWork(program: Program, less: Program, judged: Judgement): boolean {
  const work = (of: Program, { operations }: Judgement) =>
    operations.flatMap(({ step, launch }) => [of.steps[step], launch === undefined ? undefined : of.steps[launch]])
  const [before, after] = [work(program, judge(program)), work(less, judged)]
  return !judged.illegal && before.length === after.length && before.every((step, i) => step === after[i])
}

function withoutRefusals(draft: Program): Program {
  let program = draft
  for (let { illegal } = judge(program); illegal; { illegal } = judge(program)) {
    const at = Number(/^step (\d+)/.exec(illegal.message)![1])
    // A capture that is never ended is refused after the last step.
    program = { ...program, steps: program.steps.filter((_, i) => i !== Math.min(at, program.steps.length - 1)) }
  }
  return program
}

function unwrittenReads(program: Program): ReadonlySet<number> {
  return new Contents(program, judge(program)).unwrittenReads
}

function withoutUnwrittenReads(draft: Program): Program {
  let program = draft
  for (let wrong = unwrittenReads(program); wrong.size > 0; wrong = unwrittenReads(program)) {
    // What was legal by a step that is gone (it was the first to use a buffer) may not be so now.
    program = withoutRefusals({ ...program, steps: program.steps.filter((_, at) => !wrong.has(at)) })
  }
  return program
}

/** Takes away most of the edges that order does not need, so that a program breaks when it loses another. */
function withoutSurplus(correct: Program, random: Random): Program {
  let program = correct
  for (const step of random.shuffled(correct.steps.filter(isEdge))) {
    if (random.chance(12)) continue
    const less = without(program, step)
    const judged = judge(less)
    if (doesSameWork(program, less, judged) && judged.conflicts.length + judged.busy.length === 0) program = less
  }
  return program
}
