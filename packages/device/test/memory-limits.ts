// Limits of a made-up machine: the files that the real ones are read from, in a folder of the test's.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { addon } from '../src/addon.js'

type SystemFiles = Readonly<Record<string, string | number>>

/** Runs `body` while limits are read from these files, named from the root. `change` writes others in their place. */
export async function withSystemFiles(
  files: SystemFiles,
  body: (change: (files: SystemFiles) => void) => Promise<void>,
): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'spillway-limits-'))
  const write = (files: SystemFiles): void => {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true })
      writeFileSync(join(root, name), `${text}\n`)
    }
  }
  try {
    write(files)
    addon().readMemoryLimitsFrom(root)
    await body(write)
  } finally {
    addon().readMemoryLimitsFrom('')
    rmSync(root, { recursive: true })
  }
}

/** /proc/meminfo. */
export function meminfo(bytes: { total?: number; available: number; swapFree?: number }): Record<string, string> {
  const { total = 2 ** 40, available, swapFree = 0 } = bytes
  const rows = { MemTotal: total, MemFree: 0, MemAvailable: available, SwapTotal: 2 ** 40, SwapFree: swapFree }
  const text = Object.entries(rows).map(([name, value]) => `${`${name}:`.padEnd(16)}${value / 1024} kB`)
  return { 'proc/meminfo': text.join('\n') }
}
