// npm run test:asan / test:ubsan / test:tsan: builds the addons with a sanitizer (beside the normal ones), then runs
// the addon packages' tests with the sanitizer's runtime loaded into node. More arguments go to vitest.
import { execFileSync, spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const [kind = 'address', ...vitestArguments] = process.argv.slice(2)
const library = { address: 'libasan.so', thread: 'libtsan.so', undefined: 'libubsan.so' }[kind]
const runtime = execFileSync(process.env.CXX ?? 'g++', [`-print-file-name=${library}`], { encoding: 'utf8' }).trim()
const here = dirname(fileURLToPath(import.meta.url))
const filters =
  vitestArguments.length > 0
    ? vitestArguments
    : ['packages/device', 'packages/prefetch', 'packages/decoder', 'tests/abi']
const go = (args, env) => {
  const result = spawnSync(process.execPath, [join(here, 'run.mjs'), ...args], {
    stdio: 'inherit',
    env: { ...process.env, ...env },
  })
  if (result.status !== 0) process.exit(result.status ?? 1)
}
go(['turbo', 'run', 'build:ts', 'build:sanitize', '--output-logs=new-only'], { SPILLWAY_SANITIZE: kind })
go(
  [
    // The runtime goes into the test processes only (env(1)), not into npm, pnpm and turbo; and into node itself, not
    // into the shell of a .bin shim, which libtsan crashes.
    'env',
    `LD_PRELOAD=${runtime}`,
    process.execPath,
    'node_modules/vitest/vitest.mjs',
    'run',
    ...filters,
    // Tests of what happens without order: data races on purpose.
    ...(kind === 'thread' ? ['--exclude', '**/*.race.test.ts'] : []),
  ],
  {
    SPILLWAY_NATIVE_VARIANT: kind,
    // node itself leaks at exit and uses its own allocators: no leak check, no alloc/dealloc check.
    ASAN_OPTIONS: 'detect_leaks=0:alloc_dealloc_mismatch=0:halt_on_error=1:abort_on_error=0',
    UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
    TSAN_OPTIONS: `suppressions=${join(here, 'tsan.supp')}:halt_on_error=1`,
  },
)
