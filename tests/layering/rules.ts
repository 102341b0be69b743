// Who may import whom (DESIGN §3), as data. A new package under packages/ must be entered here.

export interface Rule {
  /** Workspace packages this one may depend on and import. */
  readonly uses: readonly string[]
  /** Optional peers: named to `import()` at run time, never imported by a specifier in the source. */
  readonly optional?: readonly string[]
  /** A backend: it peer-depends on what it uses, so that a program has one core and one device. */
  readonly backend?: true
  /** Loads what the user names, so `import()` may take a value. */
  readonly loadsPlugins?: true
  /** What only its tests use, besides `uses`: the things it was made to test. */
  readonly testedOn?: readonly string[]
}

export const RULES: Readonly<Record<string, Rule>> = {
  '@spillway/core': { uses: [], loadsPlugins: true },
  '@spillway/device': { uses: ['@spillway/core'] },
  '@spillway/prefetch': { uses: ['@spillway/core', '@spillway/device'], backend: true },
  '@spillway/conformance': {
    uses: ['@spillway/core'],
    testedOn: ['@spillway/device', '@spillway/prefetch', '@spillway/decoder'],
  },
  '@spillway/checkpoint': { uses: ['@spillway/core', '@spillway/device'] },
  '@spillway/decoder': { uses: ['@spillway/core', '@spillway/device', '@spillway/checkpoint'] },
  '@spillway/demo-model': { uses: [] },
  spillway: {
    uses: ['@spillway/core', '@spillway/device', '@spillway/decoder', '@spillway/checkpoint', '@spillway/demo-model'],
    optional: ['@spillway/prefetch'],
    loadsPlugins: true,
  },
}

/** The SDK of native backends: a build-time dependency of every package with an addon, imported by no script. */
export const NATIVE = '@spillway/native'

/** Makes memory; the others are given theirs. */
export const DEVICE = '@spillway/device'

/** The one file that may read environment variables, below the root. */
export const ENVIRONMENT_FILE = 'packages/core/src/environment.ts'

/**
 * Files that may ask a device for host memory of a kind they choose, below the root; a name that ends in / is a folder.
 * Everybody else gets it from a `HostArena`, which knows what was decided once. Native code outside of the device's asks
 * for no memory at all.
 */
export const CHOOSES_HOST_STORAGE: readonly string[] = [
  // Keeps the decision.
  'packages/core/src/host-arena.ts',
  // Makes the memory.
  'packages/device/src/',
  // Tests each kind, and stages what its tests compare.
  'packages/conformance/src/',
  // Measures pinned memory against pageable.
  'packages/cli/src/limits.ts',
]

/** The one header that may include napi.h, below native/include. */
export const NAPI_HEADER = 'spillway/napi.hpp'

/** Packages whose native code may open libraries at run time: libcuda, and cuBLASLt. */
export const OPENS_LIBRARIES: readonly string[] = ['@spillway/device', '@spillway/decoder']
