import { usage } from './arguments.js'
import { type Invocation, withModel } from './session.js'

/** `spillway logits`: for comparing with another implementation. */
export async function logits(invocation: Invocation): Promise<void> {
  const { given, output, signal } = invocation
  const tokens = parseTokens(given.tokens as string | undefined)
  await withModel(invocation, async ({ model }) => {
    const rows = await model.logits(tokens, { signal })
    const argmax = rows.map((row) => row.reduce((best, value, i) => (value > (row[best] as number) ? i : best), 0))
    output.object({ logits: rows.map((row) => [...row]), argmax })
    for (const [i, best] of argmax.entries()) {
      output.line(`after token ${tokens[i]}: likeliest ${best} (logit ${rows[i]?.[best]})`)
    }
  })
}

function parseTokens(text: string | undefined): number[] {
  if (text === undefined) throw usage('logits needs token ids: --tokens 1,2,3')
  const words = text.split(',')
  if (!words.every((word) => /^\d{1,10}$/.test(word))) {
    throw usage(`--tokens takes token ids separated by commas, such as 1,2,3, not '${text}'`)
  }
  return words.map(Number)
}
