import {
  checkWritable,
  chromeTrace,
  forwardsOf,
  isSpillwayError,
  messageOf,
  printable,
  SpillwayError,
  type StepForecast,
  type TraceEvent,
  timesOf,
  writeWhole,
} from '@spillway/core'
import type { GeneratedStep, Generation, Model } from '@spillway/decoder'

/** So many are traced at most, the first ones of a text, however long it gets; a prompt has no more steps than the context. */
export const mostTracedTokens = 32

/** What the first steps of a text did on the device. */
export class StepTrace {
  /** How many were decoded after the first one, which comes of the prompt. */
  readonly tokens: number
  readonly #prompt: readonly TraceEvent[]
  /** By token. */
  readonly #decoding: readonly (readonly TraceEvent[])[]

  /**
   * Takes the first tokens of `generation`, which has not begun, and hands each on. Rejects with what the generation
   * rejects with, and with SPILLWAY_NOT_SUPPORTED, nothing of it taken, where the backend cannot tell.
   */
  static async of(model: Model, generation: Generation, take: (step: GeneratedStep) => void): Promise<StepTrace> {
    const next = async (): Promise<boolean> => {
      const item = await generation.next()
      if (!item.done) take(item.value)
      return !item.done
    }
    const prompt = await traced(model, next)
    const decoding: (readonly TraceEvent[])[] = []
    // Of a graph, a trace has the last replay: a token is a trace. Others are seen together, as a trace waits at its end
    // for copies that otherwise go on while the next token begins.
    if (model.decodeGraph.graph) {
      let more = true
      while (more && decoding.length < mostTracedTokens) {
        const events = await traced(model, async () => {
          more = await next()
        })
        if (more) decoding.push(events)
      }
    } else {
      let tokens = 0
      const events = await traced(model, async () => {
        while (tokens < mostTracedTokens && (await next())) tokens++
      })
      decoding.push(...forwardsOf(events))
    }
    return new StepTrace(prompt, decoding)
  }

  private constructor(prompt: readonly TraceEvent[], decoding: readonly (readonly TraceEvent[])[]) {
    this.tokens = decoding.length
    this.#prompt = prompt
    this.#decoding = decoding
  }

  /** As a Chrome trace of that title; whole or not at all. Rejects with SPILLWAY_TRACE_FILE. */
  async write(path: string, title: string): Promise<void> {
    const events = [...this.#prompt, ...this.#decoding.flat()]
    await asTraceFile(path, writeWhole(path, chromeTrace(events, title)))
  }

  /**
   * Of a token among others, and over how many; undefined when there were too few. The first one is none among others:
   * it is not replayed, and found slots that were filled while nobody waited.
   */
  steadyTimes(): { readonly times: StepForecast; readonly steps: number } | undefined {
    const steady = this.#decoding.slice(1)
    if (steady.length === 0) return undefined
    return { times: timesOf(steady.flat(), steady.length), steps: steady.length }
  }
}

/** Rejects with SPILLWAY_TRACE_FILE where a trace could not be written. */
export async function checkTraceFile(path: string): Promise<void> {
  await asTraceFile(path, checkWritable(path))
}

async function asTraceFile(path: string, writing: Promise<void>): Promise<void> {
  try {
    await writing
  } catch (cause) {
    throw new SpillwayError(
      'SPILLWAY_TRACE_FILE',
      `the trace cannot be written to ${printable(path)}: ${messageOf(cause)}`,
      { details: { path }, cause },
    )
  }
}

/** Milliseconds from where this process began: two traces need not have one zero. */
async function traced(model: Model, body: () => Promise<unknown>): Promise<readonly TraceEvent[]> {
  const beginMs = performance.now()
  const { events } = await model.trace(body)
  const firstMs = events.reduce((least, { startMs }) => Math.min(least, startMs), Number.POSITIVE_INFINITY)
  return events.map((event) => ({
    ...event,
    startMs: event.startMs - firstMs + beginMs,
    endMs: event.endMs - firstMs + beginMs,
  }))
}

/** Why steps of this model cannot be traced; undefined when they can. */
export async function untraceable(model: Model): Promise<string | undefined> {
  try {
    await model.trace(() => undefined)
    return undefined
  } catch (error) {
    if (isSpillwayError(error, 'SPILLWAY_NOT_SUPPORTED')) return error.message
    throw error
  }
}
