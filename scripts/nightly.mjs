// npm run test:nightly: everything that is too long for `npm test`. See --help.
import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const here = dirname(fileURLToPath(import.meta.url))
const root = join(here, '..')
const countsFile = join(root, `.cache/test-counts-${process.pid}.json`)

const help = `npm run test:nightly [-- options]

Builds, runs all tests in their long versions (SPILLWAY_NIGHTLY=1), then the tests of native code under the address,
undefined-behaviour and thread sanitizers. Takes some hours on two processors. Ends with a table of what ran; the exit
status is 0 when all of it passed.

  --keep-going  run the later steps also when one fails
  --help        show this
`

/** `count`: what to say of a step that has ended, from its output and the counts of its tests. */
const steps = [
  {
    name: 'build',
    command: ['run.mjs', 'turbo', 'run', 'build', '--output-logs=errors-only'],
    count: () => '',
  },
  {
    name: 'tests, long versions',
    command: [
      'run.mjs',
      'vitest',
      'run',
      '--reporter=default',
      '--reporter=./scripts/count-reporter.mjs',
      // Counts that tests print are part of the result.
      '--silent=false',
    ],
    env: { SPILLWAY_NIGHTLY: '1', SPILLWAY_TEST_COUNTS: countsFile },
    count: countTests,
  },
  ...['address', 'undefined', 'thread'].map((kind) => ({
    name: `${kind} sanitizer`,
    command: ['sanitize.mjs', kind],
    // Many times slower: their long versions would take days.
    env: { SPILLWAY_NIGHTLY: '' },
    count: (output) => /^\w+ sanitizer: (.*)$/m.exec(output.trimEnd().split('\n').at(-1))?.[1] ?? '',
  })),
]

function countTests() {
  try {
    const { passed, failed, skipped } = JSON.parse(readFileSync(countsFile, 'utf8'))
    rmSync(countsFile)
    return `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`
  } catch {
    return 'ended before the tests were counted'
  }
}

let running
let interrupted

/** Resolves with the exit status and the last part of the output, which is also shown. */
function run({ command: [script, ...args], env }) {
  return new Promise((resolve) => {
    running = spawn(process.execPath, [join(here, script), ...args], {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
      // A process group of its own: a signal ends all of the step, turbo, compilers and test processes included.
      detached: true,
    })
    let output = ''
    running.stdout.on('data', (chunk) => {
      process.stdout.write(chunk)
      output = (output + chunk).slice(-10_000)
    })
    const ended = (status) => {
      running = undefined
      resolve({ status, output })
    }
    running.on('error', (error) => {
      console.error(`${script} could not be started: ${error.message}`)
      ended(1)
    })
    running.on('close', (code, signal) => ended(code ?? 128 + constants.signals[signal]))
  })
}

function duration(ms) {
  const seconds = Math.round(ms / 1000)
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60]
  return hours > 0 ? `${hours} h ${minutes} min` : minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`
}

function show(results) {
  const rows = results.map(({ name, state, ms, counts }) => [name, state, ms === undefined ? '' : duration(ms), counts])
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column].length)))
  console.log('\nThe nightly run:')
  for (const row of rows) {
    console.log(`  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd())
  }
}

async function main(keepGoing) {
  const results = []
  let stopped = false
  for (const step of steps) {
    if (stopped) {
      results.push({ name: step.name, state: 'did not run', counts: '' })
      continue
    }
    console.log(`\n== ${step.name}`)
    const start = performance.now()
    const { status, output } = await run(step)
    const state = interrupted ? 'interrupted' : status === 0 ? 'passed' : 'failed'
    results.push({ name: step.name, state, ms: performance.now() - start, counts: step.count(output) })
    // Nothing can be tested that was not built.
    stopped = interrupted !== undefined || (state === 'failed' && (!keepGoing || step.name === 'build'))
  }
  show(results)
  const failed = results.filter(({ state }) => state !== 'passed').length
  console.log(failed === 0 ? 'Everything passed.' : `${failed} of ${steps.length} steps did not pass.`)
  process.exitCode = interrupted ? 128 + constants.signals[interrupted] : failed === 0 ? 0 : 1
}

let options
try {
  options = parseArgs({ options: { 'keep-going': { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } }).values
} catch (error) {
  console.error(`${error.message}\n\n${help}`)
  process.exit(2)
}
if (options.help) {
  process.stdout.write(help)
} else {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      // Who asks twice does not want to wait for an orderly end.
      const wanted = interrupted === undefined ? signal : 'SIGKILL'
      interrupted ??= signal
      try {
        if (running?.pid !== undefined) process.kill(-running.pid, wanted)
      } catch {
        // It has just ended.
      }
    })
  }
  await main(options['keep-going'] === true)
}
