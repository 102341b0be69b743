import { randomInt } from 'node:crypto'
import { statsLine } from './output.js'
import { type Invocation, withModel } from './session.js'

const demoPrompt = 'The captain'

/** `spillway run`: text on stdout as it comes, everything about it on stderr. */
export async function run(invocation: Invocation): Promise<void> {
  const { given, output, signal } = invocation
  const seed = (given.seed as number | undefined) ?? randomInt(2 ** 31)
  await withModel(invocation, async ({ device, model, loadMs }) => {
    output.note(`${device.name}, backend ${model.names.join('+')}, loaded in ${loadMs.toFixed(0)} ms`)
    // Without a tokenizer (random weights need none) there is no text: token 0 begins, ids come out.
    const prompt = (given.prompt as string | undefined) ?? (model.tokenizer === undefined ? [0] : demoPrompt)
    const generation = model.generate(prompt, {
      maxTokens: (given.maxTokens as number | undefined) ?? 128,
      temperature: (given.temperature as number | undefined) ?? 0.7,
      seed,
      ...(given.topK === undefined ? {} : { topK: given.topK as number }),
      ...(given.topP === undefined ? {} : { topP: given.topP as number }),
      ...(given.stop === undefined ? {} : { stop: given.stop as readonly string[] }),
      signal,
    })
    let text = ''
    const tokens: number[] = []
    if (typeof prompt === 'string') output.text(prompt)
    for await (const step of generation) {
      text += step.text
      tokens.push(...step.tokens)
      output.text(model.tokenizer === undefined ? `${step.tokens.join(' ')} ` : step.text)
    }
    output.line('')
    const { timings, promptTokens, finishReason } = await generation.result
    const stats = model.stats()
    output.note(
      `${statsLine(model)}; ${tokens.length} tokens (${finishReason}), seed ${seed}, ` +
        `prefill ${timings.prefillMs.toFixed(0)} ms, ${timings.decodeTokensPerSecond.toFixed(1)} tokens/s`,
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
      stats,
      timings: { loadMs, ...timings },
    })
  })
}
