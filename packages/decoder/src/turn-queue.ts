import { throwIfAborted } from '@spillway/core'

interface Waiter {
  readonly enter: () => void
  readonly refuse: (error: unknown) => void
}

/** One at a time, in the order of asking. */
export class TurnQueue {
  readonly #waiting = new Set<Waiter>()
  #busy = false
  #closed: { readonly error: unknown } | undefined
  #idle: (() => void) | undefined

  /** Resolves when it is the caller's turn, who then calls `leave` once. Rejects with SPILLWAY_ABORTED while waiting. */
  async enter(signal: AbortSignal | undefined, doing: string): Promise<void> {
    throwIfAborted(signal, doing)
    if (this.#closed !== undefined) throw this.#closed.error
    if (!this.#busy) {
      this.#busy = true
      return
    }
    await new Promise<void>((resolve, reject) => {
      const done = (): void => {
        this.#waiting.delete(waiter)
        signal?.removeEventListener('abort', onAbort)
      }
      const waiter: Waiter = {
        enter: () => {
          done()
          resolve()
        },
        refuse: (error) => {
          done()
          reject(error)
        },
      }
      const onAbort = (): void => {
        try {
          throwIfAborted(signal, doing)
        } catch (error) {
          waiter.refuse(error)
        }
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiting.add(waiter)
    })
  }

  leave(): void {
    const [next] = this.#waiting
    if (next !== undefined) {
      next.enter()
      return
    }
    this.#busy = false
    this.#idle?.()
  }

  /** Nobody enters any more: those waiting and those who come later get `error`. Resolves when the last one left. */
  async close(error: unknown): Promise<void> {
    this.#closed = { error }
    for (const waiter of [...this.#waiting]) waiter.refuse(error)
    if (this.#busy) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
    }
  }
}
