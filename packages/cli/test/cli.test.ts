import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { cli, spillway, startSpillway } from './command.js'

const scratch = mkdtempSync(join(tmpdir(), 'spillway-cli-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

interface RunObject {
  readonly text: string
  readonly tokens: readonly number[]
  readonly promptTokens: number
  readonly device: string
  readonly backend: string
  readonly decodeGraph: { readonly graph: boolean; readonly reason: string }
  readonly stats: Readonly<Record<string, number>> & {
    readonly pinned: { readonly pin: boolean; readonly reason: string }
  }
  readonly timings: Readonly<Record<string, number>>
}

/** stdout must be one line, one object, and nothing else. */
function onlyObject(stdout: string): unknown {
  expect(stdout.trimEnd().split('\n')).toHaveLength(1)
  return JSON.parse(stdout) as unknown
}

const core = pathToFileURL(join(import.meta.dirname, '../../core/dist/index.js')).href
const offloaded = ['--offload-backend', 'prefetch', '--offload-group-size', '1']
const small = ['--context-length', '128', '--max-tokens', '12', '--seed', '5']
const capped = [...small, '--device-memory', '4MiB']

test('run --json: one object on stdout, with everything in it', async () => {
  const { status, stdout } = await spillway(['run', '--json', ...small])
  expect(status).toBe(0)
  const object = onlyObject(stdout) as RunObject
  expect(object.tokens).toHaveLength(12)
  expect(object.text.length).toBeGreaterThan(12)
  expect(object.promptTokens).toBeGreaterThan(0)
  expect(object.device).toMatch(/^(host|cuda)$/)
  expect(object.backend).toBe('auto (none)')
  expect(object.stats.offloadedBytes).toBe(0)
  expect(object.stats.pinned.reason).not.toBe('')
  for (const key of ['loadMs', 'prefillMs', 'decodeTokensPerSecond']) expect(object.timings[key]).toBeGreaterThan(0)
})

test('more than the device has: none fails with a code, prefetch and auto write the same text within the limit', async () => {
  const none = await spillway(['run', '--json', ...capped, '--offload-backend', 'none'])
  expect(none.status).toBe(1)
  expect(none.stderr).toMatch(/^SPILLWAY_OUT_OF_MEMORY: /m)
  expect(onlyObject(none.stdout)).toMatchObject({ error: { code: 'SPILLWAY_OUT_OF_MEMORY' } })

  const unlimited = onlyObject((await spillway(['run', '--json', ...small])).stdout) as RunObject
  for (const backend of ['prefetch', 'auto']) {
    const { status, stdout } = await spillway(['run', '--json', ...capped, '--offload-backend', backend])
    expect(status).toBe(0)
    const object = onlyObject(stdout) as RunObject
    expect(object.tokens).toEqual(unlimited.tokens)
    expect(object.stats.offloadedBytes).toBeGreaterThan(4 * 2 ** 20)
    expect(object.stats.onloadedBytes).toBeGreaterThan(object.stats.offloadedBytes as number)
    expect(object.stats.peakDeviceBytes).toBeLessThanOrEqual(4 * 2 ** 20)
    expect(object.backend).toBe(backend === 'auto' ? 'auto (prefetch)' : 'prefetch')
  }
})

test.each([
  ['--prompt', 'The whale'],
  ['--stop', '.'],
])('%s for a model without a tokenizer is refused before it is loaded', async (...words) => {
  const directory = mkdtempSync(join(scratch, 'ids-'))
  const shape = { hidden_size: 64, intermediate_size: 96, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 50 }
  const config = { architectures: ['LlamaForCausalLM'], model_type: 'llama', dtype: 'float32', ...shape }
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config))
  const options = ['--model', directory, '--load-format', 'dummy', '--max-tokens', '2']
  expect(await spillway(['run', ...options])).toMatchObject({ status: 0 })
  const { status, stderr } = await spillway(['run', ...options, ...words])
  expect(status).toBe(1)
  expect(stderr).toMatch(/^SPILLWAY_DECODER_NO_TOKENIZER: .*add it, or work with token ids/)
})

test('--enforce-eager writes the same text without a graph', async () => {
  const [replayed, eager] = await Promise.all(
    [[], ['--enforce-eager']].map(async (words) => {
      const { stdout } = await spillway(['run', '--json', ...small, ...offloaded, ...words])
      return onlyObject(stdout) as RunObject
    }),
  )
  expect(eager!.tokens).toEqual(replayed!.tokens)
  expect(replayed!.decodeGraph.graph).toBe(true)
  expect(eager!.decodeGraph).toEqual({ graph: false, reason: 'enforceEager' })
  // Of replays, only the device counts the copies.
  expect(eager!.stats.onloadedBytes).toBeGreaterThan(replayed!.stats.onloadedBytes as number)
})

test('text for people: stdout has the text alone', async () => {
  const { status, stdout, stderr } = await spillway(['run', '--prompt', 'The whale', ...small])
  expect(status).toBe(0)
  expect(stdout).toMatch(/^The whale/)
  expect(stdout).not.toMatch(/MiB|tokens/)
  expect(stderr).toMatch(/tokens\/s/)
})

test('a flag of a backend that was not chosen is ignored with a warning, whatever it says', async () => {
  const words = ['--offload-group-size', '4', '--offload-prefetch-step', '0', '--offload-params', 'mlp', 'x..y']
  const { status, stderr } = await spillway(['run', ...small, '--offload-backend', 'none', ...words])
  expect(stderr).toMatch(/--offload-group-size, --offload-prefetch-step, --offload-params ignored/)
  expect(status).toBe(0)
})

test('two backends that place weights are a conflict', async () => {
  const { status, stderr } = await spillway(['run', ...small, '--offload-backend', 'auto+prefetch'])
  expect(status).not.toBe(0)
  expect(stderr).toMatch(/SPILLWAY_BACKEND_CONFLICT: auto and prefetch are both placement backends/)
})

test("a warning of a backend is a line with its code; others are Node's", async () => {
  const words = ['run', ...small, '--offload-backend', 'prefetch', '--offload-group-size', '2']
  const unseen = [...words, '--offload-num-in-group', '2', '--offload-prefetch-step', '1']
  const { status, stderr } = await spillway(unseen)
  expect(status).toBe(0)
  expect(stderr).toMatch(/^warning: prefetch: .* \(SPILLWAY_PREFETCH_STEP\)$/m)
  expect(stderr).not.toMatch(/\(node:|trace-warnings/)
  expect((await spillway(unseen, { env: { NODE_OPTIONS: '--no-warnings' } })).stderr).not.toMatch(
    /SPILLWAY_PREFETCH_STEP/,
  )
  const backend = join(scratch, 'warning.mjs')
  writeFileSync(backend, `process.emitWarning('thirteen'); export { none as default } from ${JSON.stringify(core)}`)
  const other = await spillway(['run', ...small, '--offload-backend', backend])
  expect(other.stderr).toMatch(/^\(node:\d+\) Warning: thirteen/m)
})

test('stdout on a disk that is full is an error with a code; stderr that nobody reads is none', async () => {
  const full = openSync('/dev/full', 'w')
  const broken = spawnSync(process.execPath, [cli, 'run', ...small], {
    stdio: ['ignore', full, 'pipe'],
    encoding: 'utf8',
  })
  closeSync(full)
  expect(broken.stderr).toMatch(/^SPILLWAY_OUTPUT: stdout cannot be written: ENOSPC/m)
  expect(broken.stderr).not.toMatch(/\n\s+at /)
  expect(broken.status).toBe(1)
  const { child, result } = startSpillway(['run', ...small])
  child.stderr?.destroy()
  const unread = await result
  expect(unread.status).toBe(0)
  expect(unread.stdout).toMatch(/^The captain.+\n$/s)
})

test('dummy weights need config.json alone', async () => {
  const directory = join(scratch, 'dummy')
  mkdirSync(directory)
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 3,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 100,
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    dtype: 'bfloat16',
  }
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config))
  const words = ['run', '--json', '--model', directory, '--load-format', 'dummy', ...offloaded]
  const { status, stdout } = await spillway([...words, '--max-tokens', '5', '--seed', '1'])
  expect(status).toBe(0)
  expect((onlyObject(stdout) as RunObject).tokens).toHaveLength(5)
})

test("somebody's own backend, by path, with a flag of its own", async () => {
  writeFileSync(
    join(scratch, 'mine.mjs'),
    `import { none, SpillwayError } from ${JSON.stringify(core)}
     export default { ...none, name: 'mine', options: {
         loud: { type: 'flag', default: false, help: 'say so' },
         seed: { type: 'integer', default: 0, flag: 'my-seed', help: 'a key that the command has too' } },
       create: async (context, config) => {
         if (config.loud) console.error('LOUD', config.seed)
         if (config.seed === 13) {
           const details = { large: 2n ** 70n }
           details.self = details
           throw new SpillwayError('SPILLWAY_MINE', 'thirteen', { details })
         }
         return none.create(context, {})
       } }`,
  )
  const words = ['run', '--json', ...small, '--offload-backend', './mine.mjs', '--loud', '--my-seed']
  const failed = await spillway([...words, '13'], { cwd: scratch })
  expect(onlyObject(failed.stdout)).toMatchObject({ error: { code: 'SPILLWAY_MINE', message: 'thirteen' } })
  const { status, stdout, stderr } = await spillway([...words, '7'], { cwd: scratch })
  expect(stderr).toMatch(/LOUD 7/)
  expect(status).toBe(0)
  expect((onlyObject(stdout) as RunObject).backend).toBe('mine')
})

test.each([
  [['run', '--offload-backend', 'prefech'], 1, /SPILLWAY_UNKNOWN_BACKEND.*prefetch/s],
  [['run', '--offload-backend', './nowhere.mjs'], 1, /SPILLWAY_UNKNOWN_BACKEND/],
  [['run', '--offload-backend', './cli.js'], 1, /SPILLWAY_UNKNOWN_BACKEND/],
  [['run', '--offload-backend', 'none+prefetch'], 1, /SPILLWAY_BACKEND_CONFLICT/],
  [['run', '--model', '/nowhere'], 1, /SPILLWAY_DECODER_CONFIG.*\/nowhere/],
  [['run', '--device', 'cuda:9'], 1, /SPILLWAY_DEVICE_UNAVAILABLE.*(driver|host device)/],
  [['run', '--device', 'tpu'], 1, /SPILLWAY_INVALID_ARGUMENT.*tpu/],
  [
    ['run', '--offload-group-size', '2', '--offload-num-in-group', '3', '--offload-backend', 'prefetch'],
    1,
    /SPILLWAY_INVALID_OPTION/,
  ],
  [['rum'], 2, /SPILLWAY_USAGE.*no command 'rum'; did you mean run\? the commands are/],
  [['help', 'rum'], 2, /did you mean run/],
  [['run', '--top-p', '0'], 2, /SPILLWAY_USAGE: --top-p 0/],
  [['run', '--temperature', '1e9'], 1, /SPILLWAY_INVALID_OPTION: --temperature/],
  [['run', '--memory-trace', ''], 2, /SPILLWAY_USAGE: --memory-trace needs/],
  [['bench', 'link', '--pin-memory', 'off'], 2, /SPILLWAY_USAGE.*--pin-memory/],
  [['doctor', '--link-rate', '500'], 1, /SPILLWAY_INVALID_OPTION.*--link-rate.*1048576/],
  [['run', '--bogus'], 2, /SPILLWAY_USAGE.*--bogus/],
  [['logits'], 2, /SPILLWAY_USAGE.*--tokens/],
  [['logits', '--tokens', '1,x'], 2, /SPILLWAY_USAGE/],
  [['logits', '--tokens', '99999'], 1, /SPILLWAY_DECODER_TOKEN/],
])('%j ends with %d', async (words, status, message) => {
  const result = await spillway(words)
  expect(result.stderr).toMatch(message)
  expect(result.stderr).not.toMatch(/\n\s+at /)
  expect(result.stdout).toBe('')
  expect(result.status).toBe(status)
})

test('an environment variable nobody can mean is named', async () => {
  const { status, stderr } = await spillway(['run', ...small], { env: { SPILLWAY_DISABLE_PIN_MEMORY: 'perhaps' } })
  expect(stderr).toMatch(/SPILLWAY_INVALID_ENVIRONMENT.*SPILLWAY_DISABLE_PIN_MEMORY.*perhaps/)
  expect(status).toBe(1)
})

test('Ctrl-C leaves cleanly', async () => {
  const { child, result } = startSpillway([
    'run',
    '--device-memory',
    '6MiB',
    '--offload-backend',
    'prefetch',
    '--max-tokens',
    '400',
    '--link-rate',
    '20MiB',
    '--seed',
    '5',
  ])
  child.stdout?.once('data', () => child.kill('SIGINT'))
  const { status, stderr } = await result
  expect(stderr).toMatch(/interrupted/)
  expect(stderr).not.toMatch(/\n\s+at /)
  expect(status).toBe(130)
})

test('logits: one row a token, and where each is largest', async () => {
  const { status, stdout } = await spillway(['logits', '--tokens', '0,5,9', '--json', ...offloaded])
  expect(status).toBe(0)
  const { logits, argmax } = onlyObject(stdout) as { logits: number[][]; argmax: number[] }
  expect(logits.map((row) => row.length)).toEqual([2048, 2048, 2048])
  expect(argmax).toEqual(logits.map((row) => row.indexOf(Math.max(...row))))
})

test('doctor: every section, in JSON and for people', async () => {
  const { status, stdout } = await spillway(['doctor', '--json'])
  expect(status).toBe(0)
  const report = onlyObject(stdout) as {
    device: { type: string; limitBytes: number; availableBytes: number }
    cuda: { available: boolean; reason: string; gpus: unknown[] }
    pinned: { reason: string }
    memory: { totalBytes: number }
    allocator: Record<string, unknown>
    link: Record<string, number>
    kernels: unknown[]
    backends: { name: string; available: boolean }[]
  }
  expect(report.device.type).toMatch(/^(host|cuda)$/)
  expect(report.device.availableBytes).toBeGreaterThan(0)
  expect(report.device.availableBytes).toBeLessThanOrEqual(report.device.limitBytes)
  expect(report.cuda.available ? report.cuda.gpus.length > 0 : report.cuda.reason !== '').toBe(true)
  expect(report.pinned.reason).not.toBe('')
  expect(report.memory.totalBytes).toBeGreaterThan(0)
  expect(report.allocator).toEqual({
    maxSplitSizeMb: 'unlimited',
    expandableSegments: false,
    garbageCollectionThreshold: 0,
    roundupPower2Divisions: 0,
  })
  expect(report.link.hostToDeviceBytesPerSecond).toBeGreaterThan(0)
  expect(report.kernels.length).toBeGreaterThan(5)
  expect(report.backends.map(({ name }) => name)).toEqual(['none', 'auto', 'prefetch'])
  const slow = onlyObject((await spillway(['doctor', '--json', '--device', 'host', '--link-rate', '4MiB'])).stdout)
  expect((slow as typeof report).link.bytes).toBeLessThan(2 ** 18)
  const people = await spillway(['doctor'])
  for (const word of [
    'node',
    'device',
    'gpu',
    'pinning',
    'memory',
    'allocator',
    'link',
    'kernels',
    'products',
    'backend',
  ]) {
    expect(people.stdout).toMatch(new RegExp(`^${word} `, 'm'))
  }
})

test('bench link: every limit, in JSON and for people', async () => {
  const { status, stdout } = await spillway(['bench', 'link', '--json', '--size', '2MiB', '--rounds', '2'])
  expect(status).toBe(0)
  const { bytes, limits } = onlyObject(stdout) as { bytes: number; limits: { name: string; bytesPerSecond: number }[] }
  expect(bytes).toBe(2 * 2 ** 20)
  expect(limits.map(({ name }) => name)).toEqual([
    'pinned host to device',
    'device to pinned host',
    'both ways at once, each',
    'pageable host to device',
    'mapped host memory, read by a kernel',
    'device memory, read by a kernel',
    'copy within device memory',
  ])
  for (const { bytesPerSecond } of limits) expect(bytesPerSecond).toBeGreaterThan(1e6)
  expect((await spillway(['bench', 'link', '--size', '64KiB', '--rounds', '1'])).stdout).toMatch(
    /^device memory, .*B\/s/m,
  )
  // As large as the link moves in a moment: such pieces as of a fast one would take minutes.
  const slow = onlyObject(
    (await spillway(['bench', 'link', '--json', '--rounds', '1', '--device', 'host', '--link-rate', '4MiB'])).stdout,
  )
  expect((slow as { bytes: number }).bytes).toBeLessThan(2 ** 18)
  for (const words of [['bench'], ['bench', 'lnk']]) {
    const wrong = await spillway(words)
    expect([wrong.status, wrong.stderr]).toEqual([2, expect.stringMatching(/bench link/)])
  }
})

test('help lists every option, of the command and of backends; version is a version', async () => {
  const { stdout } = await spillway(['run', '--help'])
  for (const flag of ['model', 'load-format', 'prompt', 'max-tokens', 'temperature', 'seed', 'context-length']) {
    expect(stdout).toContain(`--${flag}`)
  }
  for (const flag of ['device', 'device-memory', 'offload-backend', 'offload-group-size', 'offload-prefetch-step']) {
    expect(stdout).toContain(`--${flag}`)
  }
  expect((await spillway([])).stdout).toMatch(/spillway run/)
  expect((await spillway(['help', 'run'])).stdout).toBe(stdout)
  const bench = await spillway(['bench', '--help'])
  expect(bench.stdout).toMatch(/^spillway bench link: .*--rounds N/s)
  expect((await spillway(['help', 'bench', 'link'])).stdout).toBe(bench.stdout)
  expect((await spillway(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
})
