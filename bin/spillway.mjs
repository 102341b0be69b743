#!/usr/bin/env node
// What `npx spillway` starts in a checkout: the built command, or a sentence saying how to build it.
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const cli = join(root, 'packages/cli/dist/cli.js')
if (existsSync(cli)) {
  import(pathToFileURL(cli).href)
} else {
  console.error(
    `spillway is not built yet: run \`npm run demo\` in ${root} (or \`npm run build\`, which builds without showing anything).`,
  )
  process.exitCode = 1
}
