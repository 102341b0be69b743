import { randomInt } from 'node:crypto'
import { resolve } from 'node:path'
import { isSpillwayError, SpillwayError } from '@spillway/core'
import type { GeneratedStep } from '@spillway/decoder'
import { usage } from './arguments.js'
import type { ChosenBackends } from './backends.js'
import { statsLine } from './output.js'
import { RunExplanation } from './run-explanation.js'
import { type Invocation, type Session, withModel } from './session.js'
import { checkTraceFile, StepTrace, untraceable } from './step-trace.js'

const demoPrompt = 'The captain'

/** `spillway run`: text on stdout as it comes, everything about it on stderr. */
export async function run(invocation: Invocation): Promise<void> {
  const { given, chosen, output, signal } = invocation
  const maxTokens = (given.maxTokens as number | undefined) ?? 128
  const traceFile = given.trace as string | undefined
  if (maxTokens === 0 && (given.explain !== true || traceFile !== undefined)) {
    throw usage('--max-tokens 0 is for --explain alone: there is no text, and nothing to trace')
  }
  // The model would say so, when it is loaded.
  if (given.topP === 0) throw usage('--top-p 0 leaves no token to choose; --temperature 0 takes the likeliest one')
  if (traceFile !== undefined) {
    if (traceFile === '' || isSameFile(traceFile, given.memoryTrace as string | undefined)) {
      throw usage('--trace needs the name of a file of its own')
    }
    requireTraceable(chosen)
    await checkTraceFile(traceFile)
  }
  const explanation = given.explain === true ? await RunExplanation.create(given, output, signal) : undefined
  if (maxTokens === 0) return explainAlone(invocation, explanation!)
  await withModel(
    invocation,
    (session) => write(session, invocation, { maxTokens, traceFile, explanation }),
    (placed) => explanation?.placed(placed),
  )
}

interface WriteOptions {
  readonly maxTokens: number
  readonly traceFile: string | undefined
  readonly explanation: RunExplanation | undefined
}

async function write(
  { device, model, loadMs }: Session,
  { given, output, signal }: Invocation,
  options: WriteOptions,
): Promise<void> {
  const { maxTokens, traceFile, explanation } = options
  const seed = (given.seed as number | undefined) ?? randomInt(2 ** 31)
  const isText = model.tokenizer !== undefined
  output.note(`${device.name}, backend ${model.names.join('+')}, loaded in ${loadMs.toFixed(0)} ms`)
  if (!isText) output.note('note: the model has no tokenizer.json: it begins with token 0, and writes ids of tokens')
  const prompt = (given.prompt as string | undefined) ?? (isText ? demoPrompt : [0])
  const generation = model.generate(prompt, {
    maxTokens,
    temperature: (given.temperature as number | undefined) ?? 0.7,
    seed,
    ...(given.topK === undefined ? {} : { topK: given.topK as number }),
    ...(given.topP === undefined ? {} : { topP: given.topP as number }),
    ...(given.stop === undefined ? {} : { stop: given.stop as readonly string[] }),
    signal,
  })
  let text = ''
  const tokens: number[] = []
  const take = (step: GeneratedStep): void => {
    text += step.text
    tokens.push(...step.tokens)
    output.text(isText ? step.text : `${step.tokens.join(' ')} `)
  }
  const wanted = explanation !== undefined || traceFile !== undefined
  const problem = wanted ? await untraceable(model) : undefined
  if (problem !== undefined && traceFile !== undefined) {
    output.note(
      `note: ${traceFile} is not written: ${problem}. To see copies, give less --device-memory, or ` +
        '--offload-backend prefetch with an --offload-group-size',
    )
  }
  if (typeof prompt === 'string') output.text(prompt)
  const trace = wanted && problem === undefined ? await StepTrace.of(model, generation, take) : undefined
  const traced = trace === undefined ? undefined : traceFile
  // Now, for whoever interrupts the rest of the text.
  if (traced !== undefined) await trace!.write(traced, `spillway: ${device.name}`)
  for await (const step of generation) take(step)
  output.line('')
  const { timings, promptTokens, finishReason } = await generation.result
  const { decodeTokensPerSecond } = timings
  explanation?.measured(trace?.steadyTimes(), { decodeTokensPerSecond, tokens: tokens.length })
  if (traced !== undefined) {
    output.note(
      `${traced}: a trace of the prompt and ${trace!.tokens} tokens; ` +
        'open it in https://ui.perfetto.dev or chrome://tracing',
    )
  }
  // Of one token, which comes of the prompt, there is no speed.
  const speed = decodeTokensPerSecond === 0 ? '' : `, ${decodeTokensPerSecond.toFixed(1)} tokens/s`
  output.note(
    `${statsLine(model)}; ${tokens.length} ${tokens.length === 1 ? 'token' : 'tokens'} (${finishReason}), seed ${seed}, ` +
      `prefill ${timings.prefillMs.toFixed(0)} ms${speed}`,
  )
  output.object({
    text,
    tokens,
    promptTokens,
    finishReason,
    seed,
    device: device.type,
    backend: model.names.join('+'),
    decodeGraph: model.decodeGraph,
    stats: model.stats(),
    timings: { loadMs, ...timings },
    ...(explanation === undefined ? {} : { explanation: explanation.object }),
    ...(traceFile === undefined ? {} : { trace: traced ?? null }),
  })
}

/** `--explain --max-tokens 0`: everything gets its place, and nothing is read. */
async function explainAlone(invocation: Invocation, explanation: RunExplanation): Promise<void> {
  const known = new AbortController()
  const signal = AbortSignal.any([invocation.signal, known.signal])
  try {
    await withModel(
      { ...invocation, signal },
      async () => undefined,
      (placed) => {
        explanation.placed(placed)
        known.abort()
      },
    )
  } catch (error) {
    const isKnown = known.signal.aborted && !invocation.signal.aborted && isSpillwayError(error, 'SPILLWAY_ABORTED')
    if (!isKnown) throw error
  }
  invocation.output.object({ explanation: explanation.object })
}

function isSameFile(path: string, other: string | undefined): boolean {
  return other !== undefined && resolve(path) === resolve(other)
}

/** Before anything is loaded. What `auto` keeps on the device shows only when it is placed. */
function requireTraceable({ backends }: ChosenBackends): void {
  if (backends.some(({ role, supports }) => role === 'placement' && supports.offloads)) return
  const names = backends.map(({ name }) => name).join('+')
  throw new SpillwayError(
    'SPILLWAY_NOT_SUPPORTED',
    `--trace: nothing is copied ahead with the backend ${names}; leave --trace out, or choose prefetch`,
    { details: { backend: names, what: 'traces' } },
  )
}
