import { type BackendTestOptions, type DeviceTestOptions, testBackend, testDevice } from '../src/index.js'

export interface CollectedTest {
  /** Groups and name, joined. */
  readonly path: string
  run(): Promise<void>
}

/** A test runner that only collects. */
export function collect(
  register: (runner: Pick<DeviceTestOptions, 'describe' | 'test'>) => void,
): readonly CollectedTest[] {
  const tests: CollectedTest[] = []
  const groups: string[] = []
  register({
    describe(name, body) {
      groups.push(name)
      body()
      groups.pop()
    },
    test: (name, run) => void tests.push({ path: [...groups, name].join(' › '), run }),
  })
  return tests
}

export function backendTests(options: Omit<BackendTestOptions, 'describe' | 'test'>): readonly CollectedTest[] {
  return collect((runner) => testBackend({ ...runner, ...options }))
}

export function deviceTests(options: Omit<DeviceTestOptions, 'describe' | 'test'>): readonly CollectedTest[] {
  return collect((runner) => testDevice({ ...runner, ...options }))
}

/** The tests that fail, with what they say. */
export async function failures(tests: readonly CollectedTest[]): Promise<ReadonlyMap<string, Error>> {
  const failed = new Map<string, Error>()
  for (const { path, run } of tests) {
    try {
      await run()
    } catch (error) {
      failed.set(path, error as Error)
    }
  }
  return failed
}
