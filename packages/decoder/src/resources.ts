/** What was opened, to be closed in the opposite order. */
export class Resources {
  readonly #opened: AsyncDisposable[] = []

  add<T extends AsyncDisposable>(resource: T): T {
    this.#opened.push(resource)
    return resource
  }

  /** Closes everything, also when some of it fails; then throws the first failure. Calling it again does nothing. */
  async dispose(): Promise<void> {
    const failures: unknown[] = []
    for (let resource = this.#opened.pop(); resource !== undefined; resource = this.#opened.pop()) {
      try {
        await resource[Symbol.asyncDispose]()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  }
}
