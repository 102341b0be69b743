import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type NativeVariant, readNativeVariant } from './environment.js'
import { SpillwayError, toSpillwayError } from './errors.js'

export interface NativeAddonOptions {
  /** `import.meta.url` of any file of the package. */
  readonly from: string
  /** `device` loads `dist/native/device.node`. */
  readonly name: string
  /** Which build; default: what SPILLWAY_NATIVE_VARIANT says. A sanitizer's lies in `dist/native-<variant>`. */
  readonly variant?: NativeVariant | undefined
}

const sanitizerRuns: Readonly<Record<NativeVariant, string>> = {
  address: 'npm run test:asan',
  undefined: 'npm run test:ubsan',
  thread: 'npm run test:tsan',
}

/**
 * Loads a package's own addon. Call it where the addon is first needed, not while importing: a package must import on
 * a machine where its addon cannot load. Throws SPILLWAY_ADDON_NOT_FOUND when there is no such file, and
 * SPILLWAY_ADDON_FAILED, with the reason as cause, when there is one that does not load.
 */
export function loadNative<T>({ from, name, variant = readNativeVariant() }: NativeAddonOptions): T {
  const folder = variant === undefined ? 'native' : `native-${variant}`
  const file = join(packageFolder(from), 'dist', folder, `${name}.node`)
  if (!existsSync(file)) {
    const platform = `${process.platform}-${process.arch}`
    const fix = variant === undefined ? 'npm run build' : sanitizerRuns[variant]
    throw new SpillwayError(
      'SPILLWAY_ADDON_NOT_FOUND',
      `looked for the addon ${name} at ${file} (${platform}) and found no such file; ` +
        `run ${fix} in the package's repository to build it`,
      { details: { addon: name, file, platform } },
    )
  }
  try {
    // Not import(): a .node file has no other loader than require.
    return createRequire(from)(file) as T
  } catch (cause) {
    throw toSpillwayError(
      cause,
      'SPILLWAY_ADDON_FAILED',
      `the addon ${file} is there but does not load; if it was built on another machine or for another libc, ` +
        'build it again with npm run build',
    )
  }
}

// src/ and dist/ may have folders of their own, so going up a fixed number of steps would not do.
function packageFolder(from: string): string {
  let folder = dirname(fileURLToPath(from))
  for (;;) {
    if (existsSync(join(folder, 'package.json'))) return folder
    const parent = dirname(folder)
    if (parent === folder) return dirname(fileURLToPath(from))
    folder = parent
  }
}
