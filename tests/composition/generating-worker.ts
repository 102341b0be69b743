import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type { OpenDeviceOptions } from '@spillway/device'

export interface GeneratingWorkerOptions {
  readonly selector: string
  readonly deviceOptions: OpenDeviceOptions
  readonly directory: string
  /** Absent: everything on the device. */
  readonly prefetchOptions?: Readonly<Record<string, number>>
  readonly prompt: readonly number[]
  readonly maxTokens: number
  /** How often the same text is generated. */
  readonly rounds: number
  /** Device memory that the worker holds besides the model. */
  readonly ballastBytes: number
}

export interface WorkerOutcome {
  readonly graphLaunches: number
  /** Of its device, after everything was given back. */
  readonly usedBytes: number
}

const packages = ['core', 'device', 'decoder', 'prefetch'] as const

/** A worker thread that generates on a device of its own. It runs what is built: a worker does not see the sources. */
export class GeneratingWorker {
  /** Of all rounds. */
  readonly tokens: number[] = []
  /** Settles when all rounds are over and everything is given back; rejects when the thread ends before. */
  readonly done: Promise<WorkerOutcome>
  readonly #worker: Worker
  readonly #exit: Promise<unknown>
  #onToken: () => void = () => {}

  constructor(options: GeneratingWorkerOptions) {
    const built = (name: string): string => new URL(`../../packages/${name}/dist/index.js`, import.meta.url).href
    this.#worker = new Worker(fileURLToPath(new URL('./generating-worker.mjs', import.meta.url)), {
      workerData: { ...options, built: Object.fromEntries(packages.map((name) => [name, built(name)])) },
    })
    this.#exit = new Promise((resolve) => this.#worker.once('exit', resolve))
    this.done = new Promise((resolve, reject) => {
      this.#worker.on('message', ({ tokens, done }: { tokens?: number[]; done?: WorkerOutcome }) => {
        this.tokens.push(...(tokens ?? []))
        this.#onToken()
        if (done !== undefined) resolve(done)
      })
      this.#worker.once('error', reject)
      this.#worker.once('exit', () => reject(new Error('the worker ended')))
    })
    this.done.catch(() => {})
  }

  /** Settles when the worker has generated so many tokens. */
  async reach(count: number): Promise<void> {
    const reached = new Promise<void>((resolve) => {
      this.#onToken = () => {
        if (this.tokens.length >= count) resolve()
      }
      this.#onToken()
    })
    await Promise.race([reached, this.done])
  }

  /** Ends the thread in the middle of whatever it does. Settles when it is gone. */
  async terminate(): Promise<void> {
    await this.#worker.terminate()
    await this.#exit
  }
}
