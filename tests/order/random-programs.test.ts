// The stream-order checker against programs made at random, judged by an oracle that has nothing in common with it.
import type { OpenDeviceOptions } from '@spillway/device'
import { expect, test } from 'vitest'
import { rounds } from '../nightly.js'
import { Contents } from './contents.js'
import { correctProgram } from './generator.js'
import { certainConflict, describeConflict, isCaptured, mistakes, mutate } from './mutation.js'
import { judge } from './oracle.js'
import { describeProgram, type Program, type Step } from './program.js'
import { Random } from './random.js'
import { type Outcome, ProgramRunner } from './run-program.js'
import { shrink } from './shrink.js'

/** Programs that share a device, one after another. */
const share = 50
const timeoutMs = rounds(60_000, 1_800_000)

/** Every second device does its work in an order of its own. */
function optionsOf(seed: number): OpenDeviceOptions {
  const device = Math.floor(seed / share)
  return { check: true, ...(device % 2 === 1 ? { adversarialSeed: device } : {}) }
}

/** Runs programs of neighbouring seeds on one device; a device that refused a call is given up. */
class Devices {
  #runner: ProgramRunner | undefined
  #of = -1

  async run(seed: number, program: Program, expected?: Contents): Promise<Outcome> {
    if (this.#of !== Math.floor(seed / share)) await this.close()
    this.#of = Math.floor(seed / share)
    this.#runner ??= await ProgramRunner.open(optionsOf(seed))
    const outcome = await this.#runner.run(program, expected)
    if (outcome.refused) await this.close()
    return outcome
  }

  async close(): Promise<void> {
    const runner = this.#runner
    this.#runner = undefined
    await runner?.close()
  }
}

async function onFreshDevice(seed: number, program: Program, expected?: Contents): Promise<Outcome> {
  const devices = new Devices()
  const outcome = await devices.run(seed, program, expected)
  await devices.close()
  return outcome
}

function complaints({ accusations, differences, refused }: Outcome): string[] {
  return [
    ...accusations.map(({ message }) => message),
    ...differences,
    ...(refused ? [`step ${refused.step} was refused: ${String(refused.error)}`] : []),
  ]
}

/** What a device says against a program; undefined: the oracle itself finds it wrong. */
async function accused(seed: number, program: Program): Promise<string[] | undefined> {
  const judgement = judge(program)
  if (judgement.illegal || judgement.conflicts.length + judgement.busy.length > 0) return undefined
  const contents = new Contents(program, judgement)
  if (contents.unwrittenReads.size > 0) return undefined
  return complaints(await onFreshDevice(seed, program, contents))
}

/** How the checker fails on a program that is wrong; undefined: it is not wrong, or not legal. */
async function failings(seed: number, program: Program): Promise<string[] | undefined> {
  if (judge(program).illegal || !certainConflict(program)) return undefined
  return mistakes(program, (await onFreshDevice(seed, program)).accusations)
}

async function report(
  seed: number,
  program: Program,
  wrong: (seed: number, program: Program) => Promise<string[] | undefined>,
): Promise<string> {
  const fails = async (smaller: Program) => ((await wrong(seed, smaller))?.length ?? 0) > 0
  const small = (await fails(program)) ? await shrink(program, fails) : program
  const conflicts = judge(small).conflicts.map(describeConflict)
  return [
    `seed ${seed}, device ${JSON.stringify(optionsOf(seed))}`,
    describeProgram(small),
    ...((await wrong(seed, small)) ?? ['alone, on a device of its own, it does not fail']),
    `the oracle: ${conflicts.length === 0 ? 'all in order' : `\n${conflicts.join('\n')}`}`,
  ].join('\n')
}

function edgeName(program: Program, step: Step): string {
  if ((step.do === 'wait' || step.do === 'record') && step.external) return `external ${step.do}`
  return isCaptured(program, step) ? `${step.do} in a capture` : step.do
}

test('correct programs are not accused of anything, and come out right', { timeout: timeoutMs }, async () => {
  const devices = new Devices()
  const sums = { programs: 0, steps: 0, accesses: 0, orderedPairs: 0, graphLaunches: 0, kernels: 0, unmappings: 0 }
  let accusedPrograms = 0
  let first: string | undefined
  for (let seed = 0; seed < rounds(1000, 10_000); seed++) {
    const program = correctProgram(seed)
    const judgement = judge(program)
    const outcome = await devices.run(seed, program, new Contents(program, judgement))
    if (complaints(outcome).length > 0) {
      accusedPrograms++
      first ??= `${await report(seed, program, accused)}\nin the run:\n${complaints(outcome).join('\n')}`
    }
    const count = (kind: Step['do']) => program.steps.filter((step) => step.do === kind).length
    sums.programs++
    sums.steps += program.steps.length
    sums.accesses += judgement.operations.length
    sums.orderedPairs += judgement.ordered
    sums.graphLaunches += count('launch')
    sums.kernels += count('touch')
    sums.unmappings += count('unmap')
  }
  await devices.close()
  console.log(`${sums.programs} random correct programs, ${accusedPrograms} accused:`, JSON.stringify(sums))
  expect(first).toBeUndefined()
  expect(accusedPrograms).toBe(0)
})

test('programs that lost one edge are found out, each by what is wrong with it', { timeout: timeoutMs }, async () => {
  const devices = new Devices()
  const wanted = rounds(250, 1000)
  const edges: Record<string, number> = {}
  const kinds: Record<string, number> = {}
  let mutants = 0
  let found = 0
  let first: string | undefined
  for (let seed = 1_000_000; mutants < wanted; seed++) {
    const correct = correctProgram(seed)
    const mutant = mutate(correct, new Random(seed))
    if (!mutant) continue
    mutants++
    const { accusations } = await devices.run(seed, mutant.program)
    const wrong = mistakes(mutant.program, accusations)
    if (wrong.length === 0) found++
    else first ??= `${await report(seed, mutant.program, failings)}\nin the run:\n${wrong.join('\n')}`
    const edge = edgeName(correct, mutant.lost)
    edges[edge] = (edges[edge] ?? 0) + 1
    for (const kind of new Set(accusations.map((accusation) => accusation.kind))) kinds[kind] = (kinds[kind] ?? 0) + 1
  }
  await devices.close()
  console.log(`${mutants} random programs with one edge removed, ${found} found:`, JSON.stringify({ edges, kinds }))
  expect(first).toBeUndefined()
  expect(found).toBe(wanted)
})
