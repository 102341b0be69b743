import { SpillwayError } from '@spillway/core'

/** The levels there are. A major version of this package begins with one; minors add more. */
export const lowestLevel = 1
export const highestLevel = 1

/** A test above the chosen level failed. */
export interface Advice {
  /** The names of the groups it is in, and its own. */
  readonly path: readonly string[]
  readonly level: number
  readonly error: unknown
}

/** The test runner: of `describe` and `test` only a name and a function are used. */
export interface TestRunner {
  readonly describe: (name: string, body: () => void) => unknown
  readonly test: (name: string, body: () => Promise<void>) => unknown
}

export interface LevelOptions {
  /** Tests up to this level count. Default: the lowest of this major version. */
  readonly level?: number
  /**
   * Tests above that level are run too, and their failures come here instead of failing. Default: they are not run.
   */
  readonly onAdvice?: (advice: Advice) => void
}

/** Registers groups and tests with the runner, each test according to its level. */
export class Suite {
  readonly #runner: TestRunner
  readonly #level: number
  readonly #onAdvice: ((advice: Advice) => void) | undefined
  readonly #path: string[] = []

  /** `highest`: of the tests that there are. */
  constructor(
    { describe, test, level = lowestLevel, onAdvice }: TestRunner & LevelOptions,
    highest: number = highestLevel,
  ) {
    for (const [name, value] of Object.entries({ describe, test, onAdvice })) {
      if (typeof value !== 'function' && !(name === 'onAdvice' && value === undefined)) {
        throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', `${name} must be a function of your test runner`)
      }
    }
    if (!Number.isInteger(level) || level < lowestLevel || level > highest) {
      throw new SpillwayError(
        'SPILLWAY_INVALID_ARGUMENT',
        `this version of the suite has the levels ${lowestLevel} to ${highest}, not ${String(level)}`,
      )
    }
    this.#runner = { describe, test }
    this.#level = level
    this.#onAdvice = onAdvice
  }

  group(name: string, body: () => void): void {
    // Runners may call the function later: the path is that of the registration.
    const path = [...this.#path, name]
    this.#runner.describe(name, () => {
      const outer = this.#path.splice(0, this.#path.length, ...path)
      try {
        body()
      } finally {
        this.#path.splice(0, this.#path.length, ...outer)
      }
    })
  }

  /** `level`: that of the version that brought the test. It never changes. */
  test(name: string, level: number, body: () => Promise<void>): void {
    if (level <= this.#level) {
      this.#runner.test(name, body)
      return
    }
    const onAdvice = this.#onAdvice
    if (onAdvice === undefined) return
    const path = [...this.#path, name]
    this.#runner.test(`${name} (level ${level}: advice)`, async () => {
      try {
        await body()
      } catch (error) {
        onAdvice({ path, level, error })
      }
    })
  }
}
