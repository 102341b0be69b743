// The entry of `npm test`: prepares the workspace, builds, checks, and runs all tests; `npm test -- <vitest arguments>`
// picks tests. The last line reads `N passed, N failed`.
import { start } from './node-version.mjs'

start('./test-run.mjs', '0 passed, 1 failed')
