// Misuse of @spillway/device: whatever is called with whatever, a call succeeds or throws a coded error; the process
// lives, and when everything is disposed nothing is left. Programs here order nothing: data races on purpose.
import { expect, test } from 'vitest'
import { nightly, rounds } from '../nightly.js'
import { fuzz, type Problem, type Program, shrink } from './fuzz-run.js'
import { randomProgram, systematicPrograms } from './program.mjs'
import { calls, notPublic } from './public-api.mjs'

const callsOfProgram = 400
/** Another start every night, so that every night can find something else. The failure names the seed. */
const firstSeed = nightly ? Math.floor(Date.now() / 86_400_000) * 1000 : 1

/** What went wrong and how to see it again; the first problem with the fewest calls that show it. */
async function explain(problems: readonly Problem[], program?: (problem: Problem) => Program): Promise<string> {
  const list = problems
    .slice(0, 20)
    .map(
      ({ what, call = '', text, program: name, step, times }) =>
        `${what}: ${call} (${name}, step ${step}, ${times} times): ${text}`,
    )
  if (problems.length > list.length) list.push(`… and ${problems.length - list.length} more`)
  const [first] = problems
  if (first !== undefined && program !== undefined && /^seed \d+$/.test(first.program)) {
    const { steps } = await shrink(program(first), first, { longestMs: 2000 })
    list.push(`The first one with ${steps.length} calls:\n${steps.map((step) => JSON.stringify(step)).join('\n')}`)
  }
  return list.join('\n')
}

const ofSeed =
  (length: number) =>
  ({ program }: Problem): Program =>
    randomProgram(Number(program.slice('seed '.length)), length)

test('random programs', { timeout: 600_000 }, async () => {
  const count = rounds(16, 270)
  const {
    problems,
    calls: made,
    outcomes,
    succeeded,
  } = await fuzz({
    mode: 'random',
    seed: firstSeed,
    count,
    length: callsOfProgram,
  })
  console.log(`${made} calls in ${count} programs, seeds from ${firstSeed}: ${JSON.stringify(outcomes)}`)
  expect(await explain(problems, ofSeed(callsOfProgram))).toBe('')
  // The generator does not know which calls failed before: some objects that it uses are not there.
  expect(made).toBeGreaterThan(0.9 * count * callsOfProgram)
  // Where a call never succeeds, nothing behind it is tried.
  expect(calls.filter(({ name, gpu, fails }) => !gpu && !fails && !succeeded[name]).map(({ name }) => name)).toEqual([])
})

test('each argument of each call, everything hostile in its place', { timeout: 600_000 }, async () => {
  const { problems, calls: made, outcomes } = await fuzz({ mode: 'systematic' })
  console.log(`${made} calls: ${JSON.stringify(outcomes)}`)
  expect(await explain(problems)).toBe('')
  expect(made).toBeGreaterThan(10_000)
})

test('every public member is called', async () => {
  const { members } = await fuzz({ mode: 'programs', programs: [] })
  const known = new Set([...calls.map(({ name }) => name), ...notPublic])
  expect(members.filter((member) => !known.has(member))).toEqual([])
  expect(members.length).toBeGreaterThan(50)
})

test('one seed is one program', () => {
  expect(randomProgram(7, 300)).toEqual(randomProgram(7, 300))
  expect(randomProgram(7, 300)).not.toEqual(randomProgram(8, 300))
})

test.each([
  ['crash', 'crash', 'stream.fill'],
  ['raw error', 'not coded', 'stream.fill'],
  ['leak', 'leak', undefined],
  ['hang', 'hang', 'stream.synchronize'],
])('a planted %s is found, and found again by a few calls', { timeout: 600_000 }, async (defect, what, call) => {
  // A promise that hangs costs this much time in every run.
  const options = { defect, longestMs: 60 }
  const length = 120
  // The raw error needs one value of one argument, which only the systematic programs are sure to try.
  const systematic =
    defect === 'raw error' ? [...systematicPrograms()].filter(({ name }) => name.startsWith(call!)) : undefined
  const { problems } = await fuzz({
    ...options,
    ...(systematic === undefined
      ? { mode: 'random', seed: 1, count: 2, length }
      : { mode: 'programs', programs: systematic }),
  })
  const found = problems.find((problem) => problem.what === what && problem.call === call)
  expect(found, JSON.stringify(problems.slice(0, 5))).toBeDefined()
  if (systematic !== undefined) return
  const { steps } = await shrink(ofSeed(length)(found!), found!, options, 12)
  expect(steps.length).toBeLessThan(40)
  const again = await fuzz({ ...options, mode: 'programs', programs: [{ name: 'again', steps }] })
  expect(again.problems.map(({ what: one }) => one)).toContain(what)
})
