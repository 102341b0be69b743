import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Fit, type FitModule, type FitProblem, planFit } from '../src/fit.js'
import { failure } from './device-rig.js'

const layer = (i: number, bytes: number): FitModule => ({
  name: `layers.${i}`,
  hostBytes: bytes,
  slotBytes: bytes,
  keptBytes: 0,
  residentBytes: bytes,
  offload: 'chosen',
})
const alike = (count: number, bytes = 100): FitModule[] => Array.from({ length: count }, (_, i) => layer(i, bytes))
const problem = (modules: readonly FitModule[], boundBytes: number, rest: Partial<FitProblem> = {}): FitProblem => ({
  modules,
  otherBytes: 0,
  postLoadBytes: 0,
  lostBytes: 0,
  boundBytes,
  prefetchStep: 2,
  ...rest,
})
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)

function bytesOfSlots(elements: readonly FitModule[], count: number): number {
  const slot = (k: number): number =>
    Math.max(...elements.filter((_, i) => i % count === k).map(({ slotBytes }) => slotBytes))
  return sum(Array.from({ length: count }, (_, k) => slot(k)))
}

/** Device bytes at most, worked out anew: what stays, and the slots or what loading takes. */
function deviceBytes(
  { modules, otherBytes, postLoadBytes, lostBytes }: FitProblem,
  offloaded: ReadonlySet<string>,
  step: number,
) {
  const elements = modules.filter(({ name }) => offloaded.has(name))
  // A slot per step or more, whichever takes least.
  const totals = [...elements.keys()].map((i) => i + 1).filter((count) => count >= Math.min(step, elements.length))
  const slots = Math.min(...(elements.length === 0 ? [0] : totals.map((count) => bytesOfSlots(elements, count))))
  const stay = modules.map((one) => (offloaded.has(one.name) ? one.keptBytes : one.residentBytes))
  return otherBytes + sum(stay) + Math.max(slots + lostBytes, postLoadBytes)
}

/** By the definition: all cyclic windows of one length hold as many, give or take one. */
function isEven(chosen: readonly boolean[]): boolean {
  for (let length = 1; length < chosen.length; length++) {
    const counts = chosen.map((_, start) => {
      let count = 0
      for (let i = 0; i < length; i++) if (chosen[(start + i) % chosen.length]) count++
      return count
    })
    if (Math.max(...counts) - Math.min(...counts) > 1) return false
  }
  return true
}

/** The fewest host bytes over all subsets of layers that are evenly spread and fit; undefined when none is. */
function bruteForce(given: FitProblem, step: number): number | undefined {
  const { modules, boundBytes } = given
  const candidates = modules.filter(({ offload, hostBytes }) => offload === 'chosen' && hostBytes > 0)
  const always = modules.filter(({ offload, hostBytes }) => offload === 'always' && hostBytes > 0)
  let fewest: number | undefined
  for (let bits = 0; bits < 2 ** candidates.length; bits++) {
    const chosen = candidates.map((_, i) => ((bits >> i) & 1) === 1)
    if (!isEven(chosen)) continue
    const elements = [...always, ...candidates.filter((_, i) => chosen[i])]
    if (deviceBytes(given, new Set(elements.map(({ name }) => name)), step) > boundBytes) continue
    const hostBytes = sum(elements.map((one) => one.hostBytes))
    if (fewest === undefined || hostBytes < fewest) fewest = hostBytes
  }
  return fewest
}

describe('fit', () => {
  it('offloads nothing when everything just fits, and one byte less is not enough', () => {
    const fits = planFit(problem(alike(6), 600))
    expect(fits).toEqual({ offloaded: [], prefetchStep: 2, slotBytes: [], deviceBytes: 600, hostBytes: 0 })
    // Two slots are two layers: the third one on the host is the first that makes room.
    const misses = planFit(problem(alike(6), 599))
    expect(misses.offloaded).toEqual(['layers.1', 'layers.3', 'layers.5'])
    expect(misses).toMatchObject({ slotBytes: [100, 100], deviceBytes: 500, hostBytes: 300 })
  })

  it('spreads layers that are all the same as groups would', () => {
    const offloaded = (bound: number): string[] => [...planFit(problem(alike(12), bound)).offloaded]
    expect(offloaded(1100)).toEqual(['layers.3', 'layers.7', 'layers.11'])
    expect(offloaded(1000)).toEqual(['layers.2', 'layers.5', 'layers.8', 'layers.11'])
    expect(offloaded(900)).toEqual(['layers.1', 'layers.3', 'layers.6', 'layers.8', 'layers.11'])
    expect(offloaded(200)).toHaveLength(12)
  })

  it('counts caches, workspace, and what loading takes before there are slots', () => {
    expect(planFit(problem(alike(6), 700, { otherBytes: 100 })).offloaded).toEqual([])
    expect(planFit(problem(alike(6), 700, { otherBytes: 101 })).offloaded).toHaveLength(3)
    // Loading takes as much as the slots do: no more of it than of them.
    expect(planFit(problem(alike(6), 500, { postLoadBytes: 200 })).offloaded).toHaveLength(3)
    expect(planFit(problem(alike(6), 500, { postLoadBytes: 201 })).offloaded).toHaveLength(4)
    // What it gives back may be of no use for slots.
    expect(planFit(problem(alike(6), 500, { postLoadBytes: 50, lostBytes: 50 })).offloaded).toHaveLength(4)
  })

  it('counts what stays on the device of a layer that is offloaded in part', () => {
    const modules = alike(4).map((one) => ({ ...one, hostBytes: 60, slotBytes: 60, keptBytes: 40 }))
    const fit = planFit(problem(modules, 4 * 40 + 2 * 60))
    expect(fit).toMatchObject({ hostBytes: 240, deviceBytes: 280 })
  })

  it('takes one slot where two do not fit, unless two were asked for', async () => {
    const given = problem(alike(6), 150)
    expect(planFit({ ...given, prefetchStep: undefined })).toMatchObject({ prefetchStep: 1, slotBytes: [100] })
    await failure('SPILLWAY_OUT_OF_MEMORY', () => planFit(given))
  })

  it('says with numbers why nothing fits', async () => {
    const embedding = { ...layer(9, 5000), name: 'embed', hostBytes: 0, slotBytes: 0 }
    const given = problem([embedding, ...alike(6, 1000)], 7000, { otherBytes: 300 })
    const error = await failure('SPILLWAY_OUT_OF_MEMORY', () => planFit(given))
    expect(error.details).toEqual({
      requestedBytes: 7300,
      freeBytes: 7000,
      residentBytes: 5000,
      otherBytes: 300,
      slotBytes: 2000,
      postLoadBytes: 0,
    })
    expect(error.message).toMatch(/6\.8 KiB are free.*7\.1 KiB.*4\.9 KiB of weights.*more memory/s)
  })

  it('lets one odd layer cost no more than itself', () => {
    const modules = [...alike(7), layer(7, 900)]
    // All offloaded: a slot for the odd one and one for the others, not two that would hold it.
    expect(planFit(problem(modules, 1000)).slotBytes).toEqual([100, 900])
  })

  const modules = fc.array(
    fc.record({
      bytes: fc.constantFrom(0, 50, 100, 130, 400),
      kept: fc.constantFrom(0, 0, 30),
      offload: fc.constantFrom('chosen', 'chosen', 'chosen', 'chosen', 'always'),
    }),
    { minLength: 1, maxLength: 10 },
  )
  const problems = fc
    .record({
      modules,
      alike: fc.boolean(),
      share: fc.integer({ min: 0, max: 110 }),
      otherBytes: fc.constantFrom(0, 77),
      postLoadBytes: fc.constantFrom(0, 150),
      lost: fc.boolean(),
      prefetchStep: fc.constantFrom(undefined, 1, 2, 3, 8),
    })
    .map((drawn): FitProblem => {
      const made = drawn.modules.map(({ bytes, kept, offload }, i): FitModule => {
        const first = drawn.modules[0]!
        const hostBytes = drawn.alike ? first.bytes : bytes
        const keptBytes = drawn.alike ? first.kept : kept
        return {
          name: `m${i}`,
          hostBytes,
          slotBytes: hostBytes,
          keptBytes,
          residentBytes: hostBytes + keptBytes,
          offload: drawn.alike ? 'chosen' : (offload as FitModule['offload']),
        }
      })
      const { otherBytes, postLoadBytes, prefetchStep } = drawn
      const whole = sum(made.map((one) => one.residentBytes)) + otherBytes + postLoadBytes
      return {
        modules: made,
        otherBytes,
        postLoadBytes,
        lostBytes: drawn.lost ? postLoadBytes : 0,
        prefetchStep,
        boundBytes: Math.floor((whole * drawn.share) / 100),
      }
    })

  it('offloads the fewest bytes, evenly, never over the bound, whenever any even spread fits', () => {
    let fitted = 0
    let refused = 0
    fc.assert(
      fc.property(problems, (given) => {
        const steps = given.prefetchStep === undefined ? [2, 1] : [given.prefetchStep]
        const best = steps.map((step) => ({ step, hostBytes: bruteForce(given, step) }))
        const expected = best.find(({ hostBytes }) => hostBytes !== undefined)
        let fit: Fit
        try {
          fit = planFit(given)
        } catch (error) {
          expect(error).toMatchObject({ code: 'SPILLWAY_OUT_OF_MEMORY' })
          expect(expected).toBeUndefined()
          refused++
          return
        }
        fitted++
        const offloaded = new Set(fit.offloaded)
        const candidates = given.modules.filter(({ offload, hostBytes }) => offload === 'chosen' && hostBytes > 0)
        const chosen = candidates.map(({ name }) => offloaded.has(name))
        expect({ step: fit.prefetchStep, hostBytes: fit.hostBytes }).toEqual(expected)
        expect(isEven(chosen)).toBe(true)
        const places = chosen.flatMap((one, i) => (one ? [i] : []))
        const gaps = places.map((place, i) => (places[i + 1] ?? places[0]! + chosen.length) - place)
        if (gaps.length > 0) expect(Math.max(...gaps) - Math.min(...gaps)).toBeLessThanOrEqual(1)
        expect(fit.deviceBytes).toBe(deviceBytes(given, offloaded, fit.prefetchStep))
        expect(fit.deviceBytes).toBeLessThanOrEqual(given.boundBytes)
        expect(fit.hostBytes).toBe(
          sum(given.modules.filter((one) => offloaded.has(one.name)).map((one) => one.hostBytes)),
        )
      }),
      { numRuns: 1000 },
    )
    // Otherwise the bounds drawn would say nothing.
    expect(Math.min(fitted, refused)).toBeGreaterThan(100)
  })

  it('is quick for hundreds of layers that all differ', () => {
    const many = Array.from({ length: 200 }, (_, i) => layer(i, 1000 + i))
    const bound = 0.5 * sum(many.map((one) => one.residentBytes))
    const { hostBytes, deviceBytes: planned } = planFit(problem(many, bound))
    expect(planned).toBeLessThanOrEqual(bound)
    expect(hostBytes).toBeGreaterThanOrEqual(bound)
    expect(hostBytes).toBeLessThan(bound + 2400 + 1200)
  })
})
