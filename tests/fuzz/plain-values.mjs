// What a correct program passes for arguments that are no handles, as symbols (see program.mjs).
const KiB = 1024
const granularity = 64 * KiB

const value = (json) => ({ value: json })
const choices = {
  size: [1, 16, 100, 4 * KiB, 4 * KiB + 1, 64 * KiB, 100_000],
  offset: [0, 0, 0, 1, 16, 100, 4 * KiB, 64 * KiB],
  count: [0, 1, 16, 100, 4 * KiB, 64 * KiB],
  byte: [0, 1, 127, 255],
  text: ['weights', 'kv_cache', 'x', 'Gewichte für später', 'layers.0'],
  granules: [granularity, granularity, granularity, 2 * granularity],
  granularOffset: [0, 0, 0, 0, granularity],
  selector: ['host', 'host', 'host', 'auto'],
  memoryLimit: [512 * KiB, 4096 * KiB, 16_384 * KiB],
  threads: [1, 2, 3],
  linkRate: [2 ** 26, 2 ** 30],
  linkLatency: [0, 0.01, 0.2],
  boolean: [false, true],
  seed: [0, 1, 7, 2 ** 32 - 1],
  megabytes: [20, 64, 1000],
  fraction: [0, 0.5, 0.9, 1],
  divisions: [0, 1, 2, 4, 64],
  storage: ['mapped', 'pinned', 'pageable'],
  priority: ['low', 'normal', 'high'],
  failurePoint: ['allocation', 'copy', 'launch', 'event', 'mapping', 'stream', 'capture', 'pinning', 'any'],
  failureNumber: [1, 1, 2, 5],
  accessMode: ['read', 'write', 'read-write'],
  touchMode: ['read', 'write', 'read-write'],
}

/** @param {import('./random.mjs').Random} random */
export function plainValue(type, random) {
  if (type === 'signal') return { signal: random.pick(['live', 'live', 'soon', 'aborted']) }
  if (type === 'callback') return { callback: true }
  if (type === 'source') return { bytes: random.pick([0, 1, 16, 4 * KiB, 64 * KiB]), of: random.below(256) }
  if (type === 'pointer') return { bigint: random.pick(['0', '16', '18446744073709551615']) }
  if (!(type in choices)) throw new Error(`no values for ${type}`)
  return value(random.pick(choices[type]))
}
