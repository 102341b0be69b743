// test.mjs, behind the check of Node's version.
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { readIfThere } from './network-settings.mjs'
import { prepare, root, runStep, UserError } from './workspace.mjs'

export function main(vitestArguments) {
  let outcome
  try {
    outcome = runAll(vitestArguments)
  } catch (error) {
    console.error(error instanceof UserError ? error.message : error)
    outcome = { passed: 0, failed: 1 }
  }
  console.log(`${outcome.passed} passed, ${outcome.failed} failed`)
  process.exitCode = outcome.failed === 0 ? 0 : 1
}

function runAll(vitestArguments) {
  // Where nothing can be built: see gpu-bundle.mjs.
  if (vitestArguments[0] === '--no-build') return runTests(vitestArguments.slice(1), process.env, [])
  const env = prepare()
  console.log('Building: the first time takes a minute or two, with nothing to see.')
  if (runStep(['turbo', 'run', 'build', '--output-logs=errors-only'], env) !== 0) {
    console.log('The build failed, so no test ran.')
    return { passed: 0, failed: 1 }
  }
  // A failing check is counted as one failure; the tests run all the same.
  const checks = {
    typecheck: ['turbo', 'run', 'typecheck', '--output-logs=errors-only'],
    'typecheck of tests/': ['tsc', '-p', 'tests'],
    lint: ['biome', 'check', '.'],
  }
  const broken = Object.keys(checks).filter((name) => runStep(checks[name], env) !== 0)
  return runTests(vitestArguments, env, broken)
}

function runTests(vitestArguments, env, broken) {
  const file = join(root, `.cache/test-counts-${process.pid}.json`)
  const reporters = ['--reporter=default', '--reporter=./scripts/count-reporter.mjs']
  const vitest = [process.execPath, 'node_modules/vitest/vitest.mjs', 'run', ...reporters, ...vitestArguments]
  const status = runStep(vitest, { ...env, SPILLWAY_TEST_COUNTS: file })
  const counts = JSON.parse(readIfThere(file) || 'null')
  rmSync(file, { force: true })

  for (const name of broken) console.log(`${name} failed`)
  if (counts?.skipped) console.log(`${counts.skipped} tests were skipped`)
  const cuda = describeCuda(counts, env)
  console.log(cuda.line)
  return total({ counts, status, broken: broken.length + (cuda.failed ? 1 : 0) })
}

/**
 * The two numbers of the last line. `counts`: what count-reporter.mjs wrote, or null when vitest did not get that far;
 * `status`: vitest's exit status; `broken`: failures outside the tests.
 */
export function total({ counts, status, broken }) {
  const passed = counts?.passed ?? 0
  let failed = (counts?.failed ?? 0) + broken
  // No test at all, or a failure that no test and no file answers for (a coverage threshold, say).
  if (failed === 0 && (status !== 0 || passed === 0)) failed = 1
  return { passed, failed }
}

/** Whether CUDA tests (files named *.cuda.test.ts) ran, and why not. SPILLWAY_REQUIRE_CUDA=1 makes their absence fail. */
function describeCuda(counts, env) {
  if (counts?.cuda) return { line: `CUDA tests ran: ${counts.cuda}`, failed: false }
  const ask =
    "import('./packages/device/dist/index.js').then(async ({ cudaStatus }) => console.log(JSON.stringify(await cudaStatus())))"
  const answer = spawnSync(process.execPath, ['--eval', ask], { cwd: root, env, encoding: 'utf8' })
  let reason
  try {
    const status = JSON.parse(answer.stdout)
    reason = status.available ? 'no CUDA test was selected' : status.reason
  } catch {
    reason = `@spillway/device could not be asked: ${answer.stderr?.trim().split('\n').at(-1)}`
  }
  const required = env.SPILLWAY_REQUIRE_CUDA === '1'
  const demand = required ? ' (SPILLWAY_REQUIRE_CUDA=1: counted as a failure)' : ''
  return { line: `CUDA tests did not run: ${reason}${demand}`, failed: required }
}
