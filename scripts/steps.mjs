// run.mjs, behind the check of Node's version.
import { installEnvironment } from './package-manager.mjs'
import { prepare, root, runStep, UserError } from './workspace.mjs'

/**
 * Runs steps separated by `--then`, and stops at the first that fails.
 * `--no-install` in front leaves out everything but pnpm itself (for `npm run pnpm -- add …`).
 */
export function main(argv) {
  const install = argv[0] !== '--no-install'
  const steps = [[]]
  for (const word of install ? argv : argv.slice(1)) {
    if (word === '--then') steps.push([])
    else steps.at(-1).push(word)
  }
  try {
    const native = steps.some(
      ([command, ...words]) => command === 'turbo' && words.some((word) => word.startsWith('build')),
    )
    const env = prepare({ install, native })
    if (!install) Object.assign(env, installEnvironment(root, env))
    for (const step of steps) {
      const code = step.length > 0 ? runStep(step, env) : 0
      if (code !== 0) process.exit(code)
    }
  } catch (error) {
    if (!(error instanceof UserError)) throw error
    console.error(error.message)
    process.exit(1)
  }
}
