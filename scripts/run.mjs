// The entry of `npm run build`, `npm run demo`, …: prepares the workspace (see workspace.mjs), then runs the steps:
//   run.mjs turbo run build --then node scripts/demo.mjs
import { start } from './node-version.mjs'

start('./steps.mjs')
