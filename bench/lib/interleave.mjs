// @ts-check

/**
 * Takes samples of several subjects in turn, forward and then backward (A B B A): what changes slowly meanwhile, a clock
 * or a temperature, falls on all of them alike. Two samples of each a round. Returns the samples by the subject's name.
 *
 * @param {Readonly<Record<string, () => Promise<number>>>} subjects each takes one sample, and warms up by itself
 * @param {{ rounds: number, signal: AbortSignal, progress: (text: string) => void }} options
 * @returns {Promise<(name: string) => readonly number[]>}
 */
export async function interleave(subjects, { rounds, signal, progress }) {
  const taken = Object.entries(subjects).map(([name, sample]) => ({
    name,
    sample,
    samples: /** @type {number[]} */ ([]),
  }))
  for (let round = 0; round < rounds; round++) {
    for (const { name, sample, samples } of [...taken, ...taken.toReversed()]) {
      signal.throwIfAborted()
      progress(`round ${round + 1} of ${rounds}: ${name}`)
      samples.push(await sample())
    }
  }
  return (name) => {
    const found = taken.find((subject) => subject.name === name)
    if (found === undefined) throw new Error(`no subject is called '${name}'`)
    return found.samples
  }
}
