import type { Program, Step } from './program.js'

/** A smaller program that still fails: without any object, then without any step, that it can fail without. */
export async function shrink(program: Program, fails: (smaller: Program) => Promise<boolean>): Promise<Program> {
  let smallest = program
  for (let before = Number.POSITIVE_INFINITY; smallest.steps.length < before; ) {
    before = smallest.steps.length
    for (const gone of [...objectsOf(smallest), ...smallest.steps.map((step) => new Set([step]))]) {
      const steps = smallest.steps.filter((step) => !gone.has(step))
      if (steps.length === smallest.steps.length) continue
      const smaller = { ...smallest, steps }
      if (await fails(smaller)) smallest = smaller
    }
  }
  return smallest
}

/** All steps that name an object, for each. */
function objectsOf({ steps }: Program): ReadonlySet<Step>[] {
  const objects = new Map<string, Set<Step>>()
  for (const step of steps) {
    for (const kind of ['stream', 'graph', 'event', 'promise', 'range'] as const) {
      const id = (step as Partial<Record<typeof kind, number>>)[kind]
      if (id === undefined) continue
      const name = `${kind} ${id}`
      objects.set(name, (objects.get(name) ?? new Set()).add(step))
    }
  }
  return [...objects.values()]
}
