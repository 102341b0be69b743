import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'

const names = ['chromium', 'chromium-browser', 'google-chrome']

export interface PageOptions {
  readonly width?: number
  readonly height?: number
  readonly dark?: boolean
}

/** A headless browser of the system's packages, spoken to over a pipe: no port, no driver to install. */
export class Chromium implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #profile: string
  readonly #answers = new Map<number, { resolve(value: never): void; reject(error: Error): void }>()
  readonly #errors: string[] = []
  readonly #requests: string[] = []
  #next = 1
  #session: string | undefined

  /** Throws a sentence that says what to install. */
  static async start(): Promise<Chromium> {
    for (const name of names) {
      const profile = mkdtempSync(join(tmpdir(), 'spillway-chromium-'))
      const words = ['--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe', '--no-first-run']
      const child = spawn(name, [...words, '--disable-dev-shm-usage', `--user-data-dir=${profile}`, 'about:blank'], {
        stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      })
      const started = await new Promise<boolean>((resolve) => {
        child.once('spawn', () => resolve(true))
        child.once('error', () => resolve(false))
      })
      if (started) return new Chromium(child, profile)
      rmSync(profile, { recursive: true, force: true })
    }
    throw new Error(
      'this test opens a page in a browser and finds none: apt-get install --yes chromium fonts-dejavu-core',
    )
  }

  private constructor(child: ChildProcess, profile: string) {
    this.#child = child
    this.#profile = profile
    let text = ''
    ;(child.stdio[4] as Readable).setEncoding('utf8').on('data', (chunk: string) => {
      const messages = (text + chunk).split('\0')
      text = messages.pop() as string
      for (const message of messages) this.#take(JSON.parse(message) as Message)
    })
    child.once('exit', () => {
      for (const { reject } of this.#answers.values()) reject(new Error('the browser has ended'))
    })
  }

  /** What the page's scripts reported, exceptions and refusals of its policy included. */
  get errors(): readonly string[] {
    return this.#errors
  }

  /** Addresses of all that was asked for. */
  get requests(): readonly string[] {
    return this.#requests
  }

  async open(url: string, { width = 1440, height = 1000, dark = false }: PageOptions = {}): Promise<void> {
    if (this.#session === undefined) {
      const { targetId } = await this.#send<{ targetId: string }>('Target.createTarget', { url: 'about:blank' })
      const attached = { targetId, flatten: true }
      this.#session = (await this.#send<{ sessionId: string }>('Target.attachToTarget', attached)).sessionId
      for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await this.#send(`${domain}.enable`)
    }
    await this.#send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false })
    const features = [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }]
    await this.#send('Emulation.setEmulatedMedia', { features })
    // The same address with another fragment would not be loaded again.
    await this.#send('Page.navigate', { url: 'about:blank' })
    await this.#send('Page.navigate', { url })
    await this.until('document.readyState === "complete" && !document.querySelector("main").hidden')
  }

  /** The value of an expression in the page. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.#send<Evaluated>('Runtime.evaluate', {
      expression,
      returnByValue: true,
      awaitPromise: true,
    })
    if (exceptionDetails !== undefined)
      throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
    return result.value as T
  }

  /** Waits until the expression holds. */
  async until(expression: string, withinMs = 20_000): Promise<void> {
    for (const end = Date.now() + withinMs; Date.now() < end; ) {
      if (await this.evaluate<boolean>(`Boolean(${expression})`).catch(() => false)) return
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    throw new Error(`the page did not come to ${expression}; it reported: ${this.#errors.join('; ')}`)
  }

  /** As a keyboard would: 'ArrowLeft', 'o'. */
  async press(key: string, shift = false): Promise<void> {
    const text = key.length === 1 ? { text: key } : {}
    const common = { key, code: key.length === 1 ? `Key${key.toUpperCase()}` : key, modifiers: shift ? 8 : 0 }
    const windowsVirtualKeyCode = { ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40, Home: 36, End: 35 }[key]
    const code = windowsVirtualKeyCode === undefined ? {} : { windowsVirtualKeyCode }
    await this.#send('Input.dispatchKeyEvent', { type: 'keyDown', ...common, ...text, ...code })
    await this.#send('Input.dispatchKeyEvent', { type: 'keyUp', ...common, ...code })
  }

  async mouse(type: 'mouseMoved' | 'mousePressed' | 'mouseReleased', x: number, y: number): Promise<void> {
    await this.#send('Input.dispatchMouseEvent', { type, x, y, button: 'left', buttons: 1, clickCount: 1 })
  }

  /** Of the whole page. */
  async screenshot(format: 'png' | 'webp' = 'png', quality = 80): Promise<Buffer> {
    const options = { format, captureBeyondViewport: true, ...(format === 'webp' ? { quality } : {}) }
    return Buffer.from((await this.#send<{ data: string }>('Page.captureScreenshot', options)).data, 'base64')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve))
    this.#child.kill('SIGKILL')
    if (this.#child.exitCode === null && this.#child.signalCode === null) await ended
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10 })
  }

  #send<T>(method: string, params: object = {}): Promise<T> {
    const id = this.#next++
    const session = method.startsWith('Target.') ? {} : { sessionId: this.#session }
    ;(this.#child.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, ...session })}\0`)
    return new Promise((resolve, reject) => this.#answers.set(id, { resolve, reject }))
  }

  #take({ id, result, error, method, params }: Message): void {
    const waiting = id === undefined ? undefined : this.#answers.get(id)
    if (id !== undefined) this.#answers.delete(id)
    if (error !== undefined) waiting?.reject(new Error(error.message))
    else waiting?.resolve(result as never)
    if (method === 'Network.requestWillBeSent') this.#requests.push(params?.request?.url ?? '')
    if (method === 'Runtime.exceptionThrown') this.#errors.push(JSON.stringify(params?.exceptionDetails))
    if (method === 'Runtime.consoleAPICalled') this.#errors.push(JSON.stringify(params?.args))
    if (method === 'Log.entryAdded') this.#errors.push(JSON.stringify(params?.entry))
  }
}

interface Message {
  readonly id?: number
  readonly result?: unknown
  readonly error?: { readonly message: string }
  readonly method?: string
  readonly params?: {
    readonly request?: { readonly url: string }
    readonly exceptionDetails?: unknown
    readonly args?: unknown
    readonly entry?: unknown
  }
}

interface Evaluated {
  readonly result: { readonly value?: unknown }
  readonly exceptionDetails?: { readonly text: string; readonly exception?: { readonly description?: string } }
}
