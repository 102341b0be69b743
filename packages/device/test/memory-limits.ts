// Limits of a made-up machine: the files that the real ones are read from, in a folder of the test's.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { SpillwayError } from '@spillway/core'
import { expect } from 'vitest'
import { addon } from '../src/addon.js'
import type { NativeDevice } from '../src/index.js'
import { expectCode } from './device-rig.js'

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

const mostRegisteredBytes = 64 * 2 ** 30

/** On a machine that has the memory; on one that has not, that is what it says. */
export async function expectOneRegistrationABuffer(device: NativeDevice): Promise<void> {
  const one = mostRegisteredBytes + 1
  await withSystemFiles(meminfo({ available: 2 ** 39 }), async () => {
    for (const storage of ['pinned', 'mapped'] as const) {
      const error = await expectCode('SPILLWAY_INVALID_ARGUMENT', () => device.allocateHost(one, { storage }))
      expect(error.message).toMatch(/at most 64 GiB.*allocateHostParts/)
      const parts = device.allocateHostParts([4096, one, 4096], { storage })
      await (await parts.next()).value!.dispose()
      await expectCode('SPILLWAY_INVALID_ARGUMENT', () => parts.next())
    }
    expect(device.hostMemory().reservedBytes).toBe(0)
    // Not registered, so it is for the system to say.
    const pageable = await device.allocateHost(one, { storage: 'pageable' }).catch((error: SpillwayError) => error)
    if (pageable instanceof Error) expect(pageable.code).toBe('SPILLWAY_OUT_OF_MEMORY')
    else await pageable.dispose()
  })
  await withSystemFiles(meminfo({ available: mostRegisteredBytes }), async () => {
    await expectCode('SPILLWAY_OUT_OF_MEMORY', () => device.allocateHost(one, { storage: 'pinned' }))
  })
}
