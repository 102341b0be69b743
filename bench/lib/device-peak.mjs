// @ts-check
import { cudaStatus } from './spillway.mjs'

const pollMs = 5

/**
 * The most device memory taken since it was made, as the driver sees it: by anybody, and for whatever. The driver keeps no
 * record, so it is asked again and again; `stop` before anything is timed.
 */
export class DevicePeak {
  #freeBefore = freeBytes()
  #leastFree = this.#freeBefore
  #timer = setInterval(() => this.look(), pollMs)

  look() {
    this.#leastFree = Math.min(this.#leastFree, freeBytes())
  }

  stop() {
    this.look()
    clearInterval(this.#timer)
  }

  async dispose() {
    clearInterval(this.#timer)
  }

  get bytes() {
    return this.#freeBefore - this.#leastFree
  }
}

function freeBytes() {
  return cudaStatus().gpus[0]?.freeBytes ?? 0
}
