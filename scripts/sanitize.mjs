// npm run test:asan / test:ubsan / test:tsan: builds the addons with a sanitizer (beside the normal ones), runs the
// tests of native code with the sanitizer's runtime loaded into node, then commits planted defects, which the sanitizer
// must find. More arguments go to vitest. The last line says what ran.
import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..')
const plantedDefect = fileURLToPath(new URL('../tests/abi/planted-defect.mjs', import.meta.url))

const sanitizers = {
  address: {
    library: 'libasan.so',
    planted: [
      ['heap overflow', /AddressSanitizer: heap-buffer-overflow/],
      ['use after free', /AddressSanitizer: heap-use-after-free/],
    ],
  },
  undefined: {
    library: 'libubsan.so',
    planted: [
      ['signed overflow', /runtime error: signed integer overflow/],
      ['misaligned write', /runtime error: store to misaligned address/],
    ],
  },
  thread: {
    library: 'libtsan.so',
    planted: [
      ['race of threads', /ThreadSanitizer: data race/],
      ['race of streams', /ThreadSanitizer: data race/],
      ['race with the host', /ThreadSanitizer: data race/],
    ],
    // Tests of what happens without order: data races on purpose.
    exclude: ['**/*.race.test.ts'],
  },
}
const tests = [
  'packages/device',
  'packages/prefetch',
  'packages/decoder',
  'tests/abi',
  'tests/allocator',
  'tests/checker',
  'tests/device-memory',
  'tests/fuzz',
  'tests/order',
]

// It runs compilers, which libtsan hangs and libasan breaks, and nothing of ours.
const foreign = ['tests/abi/kernel-image.test.ts']

const [kind = 'address', ...vitestArguments] = process.argv.slice(2)
if (!Object.hasOwn(sanitizers, kind)) {
  console.error(`there is no sanitizer ${kind}; it is ${Object.keys(sanitizers).join(', ')}`)
  process.exit(1)
}
const { library, planted, exclude = [] } = sanitizers[kind]
const options = {
  SPILLWAY_NATIVE_VARIANT: kind,
  // node itself leaks at exit and uses its own allocators: no leak check, no alloc/dealloc check.
  ASAN_OPTIONS: 'detect_leaks=0:alloc_dealloc_mismatch=0:halt_on_error=1:abort_on_error=0',
  UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
  TSAN_OPTIONS: `suppressions=${join(here, 'tsan.supp')}:halt_on_error=1`,
}

/** Through run.mjs: with the compiler and the PATH that it finds. */
function go(args, env) {
  const command = [join(here, 'run.mjs'), ...args]
  return spawnSync(process.execPath, command, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } })
}

/** The runtime that belongs to the compiler of the addons. */
function runtime() {
  const ask = spawnSync(process.env.CXX ?? 'g++', [`-print-file-name=${library}`], { encoding: 'utf8' })
  const path = ask.stdout?.trim() ?? ''
  if (path.startsWith('/')) return path
  console.error(`the compiler has no ${library}: install its sanitizer runtime (libasan, libubsan, libtsan)`)
  process.exit(1)
}

function runTests(preload) {
  const file = join(root, `.cache/test-counts-${process.pid}.json`)
  // Into the processes of the tests only, which vitest forks: not into npm, pnpm, turbo, the shells of .bin shims, which
  // libtsan crashes, nor into vitest's own process, whose bundler is not built with TSan.
  const intoForks = `data:text/javascript,process.env.LD_PRELOAD=${JSON.stringify(preload)}`
  const { status } = go(
    [
      process.execPath,
      `--import=${intoForks}`,
      'node_modules/vitest/vitest.mjs',
      'run',
      '--reporter=default',
      '--reporter=./scripts/count-reporter.mjs',
      ...(vitestArguments.length > 0 ? vitestArguments : tests),
      ...[...foreign, ...exclude].flatMap((pattern) => ['--exclude', pattern]),
    ],
    { ...options, SPILLWAY_TEST_COUNTS: file },
  )
  let counts
  try {
    counts = JSON.parse(readFileSync(file, 'utf8'))
    rmSync(file)
  } catch {
    counts = { passed: 0, failed: 1 }
  }
  const failed = counts.failed === 0 && (status !== 0 || counts.passed === 0) ? 1 : counts.failed
  return { passed: counts.passed, failed }
}

/** Undefined when the defect was found and stopped the process, else what happened instead. */
function missed(preload, name, report) {
  const child = spawnSync(process.execPath, [plantedDefect, name], {
    encoding: 'utf8',
    env: { ...process.env, ...options, LD_PRELOAD: preload },
  })
  const { status, stdout, stderr } = child
  const survived = stdout.includes('survived')
  if (report === undefined) return survived && status === 0 ? undefined : `failed (status ${status}):\n${stderr}`
  if (!survived && status !== 0 && report.test(stderr)) return undefined
  return `was not found (status ${status}, ${survived ? 'survived' : 'ended early'}):\n${stderr}`
}

const built = go(['turbo', 'run', 'build:ts', 'build:sanitize', '--output-logs=new-only'], { SPILLWAY_SANITIZE: kind })
if (built.status !== 0) process.exit(built.status ?? 1)
const preload = runtime()
const { passed, failed } = runTests(preload)

// Last: each in a process of its own, which the sanitizer must stop. The first has none and must live.
let found = 0
let control = true
for (const [name, report] of [['no defect', undefined], ...planted]) {
  const problem = missed(preload, name, report)
  console.log(`planted: ${name}: ${problem ?? (report === undefined ? 'nothing was found, as it should be' : 'found')}`)
  if (report === undefined) control = problem === undefined
  else if (problem === undefined) found++
}
const wrong = failed > 0 || found < planted.length || !control
console.log(
  `${kind} sanitizer: ${passed} tests passed, ${failed} failed; ${found} of ${planted.length} planted defects found`,
)
process.exit(wrong ? 1 : 0)
