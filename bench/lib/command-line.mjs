// @ts-check
import { parseArgs } from 'node:util'

/** A wrong command line: shown without a stack. */
export class UsageError extends Error {}

export const help = `npm run bench -- [NAME ...] [options]        (built already: node bench/main.mjs [NAME ...] [options])

Runs benchmarks, all of them or those named, prints a table and writes one JSON file.

  --device cuda|host  what to measure; default: cuda where there is a GPU
  --quick             small sizes and few samples: shows that it works, says nothing about speed
  --out PATH          the file to write, or the folder to put it in; default: .cache/bench
  --list              the benchmarks there are
  --help              this text

SPILLWAY_BENCH_COMMIT says which commit this is where git cannot, as \`git describe --always --abbrev=40 --dirty\` does.
docs/BENCHMARKS.md says what the figures mean.`

/**
 * @param {readonly string[]} words
 * @param {readonly string[]} known names of benchmarks
 */
export function parseCommandLine(words, known) {
  const options = /** @type {const} */ ({
    device: { type: 'string' },
    quick: { type: 'boolean', default: false },
    out: { type: 'string' },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  })
  const { values, positionals } = parse({ args: [...words], options, allowPositionals: true })
  const { out } = values
  const device = parseDevice(values.device)
  if (out === '') throw new UsageError('--out needs a path')
  const unknown = positionals.find((name) => !known.includes(name))
  if (unknown !== undefined) throw new UsageError(`there is no benchmark '${unknown}': there are ${known.join(', ')}`)
  const names = known.filter((name) => positionals.length === 0 || positionals.includes(name))
  return { ...values, device, names, isWhole: positionals.length === 0 }
}

/**
 * @param {string | undefined} device
 * @returns {'cuda' | 'host' | undefined}
 */
function parseDevice(device) {
  if (device === undefined || device === 'cuda' || device === 'host') return device
  throw new UsageError(`--device is cuda or host, not '${device}'`)
}

/** @type {typeof parseArgs} */
function parse(config) {
  try {
    return parseArgs(config)
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message)
  }
}
