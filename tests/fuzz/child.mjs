// The process that the fuzzer runs in: a crash ends this one, and the journal says what came last.
//   child.mjs <journal file> < request (JSON) > report (JSON)
import { openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Interpreter } from './interpreter.mjs'
import { planted } from './planted-defects.mjs'
import { randomProgram, systematicPrograms } from './program.mjs'

setFlagsFromString('--expose-gc')
globalThis.gc = runInNewContext('gc')

const root = new URL('../../', import.meta.url)
const { mode, defect, longestMs = 20_000, ...request } = JSON.parse(readFileSync(0, 'utf8'))
const device = await import(new URL('packages/device/dist/index.js', root))
const core = await import(new URL('packages/core/dist/index.js', root))
const probe = core.loadNative({ from: new URL('tests/abi/abi-probe.ts', root).href, name: 'abi_probe' })
probe.attach(device.attach())
const modes = { read: 1n, write: 2n, 'read-write': 3n }

/** Touches what it declares: outside of a buffer the launch is refused before anything is touched. */
function kernel(stream, buffer, offset, bytes, mode, parallel) {
  const handle = device.handleOf(buffer)
  const range = [BigInt(offset), BigInt(bytes), modes[mode]]
  const touch = BigUint64Array.of(probe.address(handle) + range[0], range[1], range[2])
  probe.touch(device.handleOf(stream), touch, [handle], BigUint64Array.from(range), parallel, 0n)
}

// Written at once: what is written is there also when this process has crashed.
const journalFile = openSync(process.argv[2], 'w')
const journal = (line) => writeSync(journalFile, `${line}\n`)

const headings = readFileSync(new URL('docs/ERRORS.md', root), 'utf8').matchAll(/^## (SPILLWAY_\w+)$/gm)
const library = planted(defect, { ...device, kernel, publicExports: device })
const knownCodes = new Set([...headings].map(([, code]) => code))
const interpreter = new Interpreter(library, journal, knownCodes, longestMs)
process.on('unhandledRejection', (error) => interpreter.problem('unhandled', `rejection: ${error?.stack ?? error}`))
process.on('uncaughtException', (error) => interpreter.problem('unhandled', `exception: ${error?.stack ?? error}`))

function* programs() {
  if (mode === 'programs') yield* request.programs
  else if (mode === 'systematic') yield* systematicPrograms()
  else for (let i = 0; i < request.count; i++) yield randomProgram(request.seed + i, request.length)
}

async function main() {
  await interpreter.prepare()
  // A GPU's driver starts a thread when it is first asked, and keeps it.
  device.cudaStatus()
  globalThis.gc()
  const threads = readdirSync('/proc/self/task').length
  for (const program of programs()) {
    await interpreter.run(program)
    if (interpreter.problems.length > 100) break
  }
  await interpreter.checkProcess(threads)
}

try {
  await main()
} catch (error) {
  // Not left to the handlers above, which would take a defect of the fuzzer for one of the package.
  console.error(error)
  process.exit(2)
}
const { problems, calls, outcomes, succeeded } = interpreter
process.stdout.write(JSON.stringify({ problems, calls, outcomes, succeeded, members: interpreter.everyMember() }))
