// Every placement backend, alone and under a residency backend, on every device in each way it can work.
import { fileURLToPath } from 'node:url'
import { modelDirectory } from '@spillway/demo-model'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { nightly, rounds } from '../nightly.js'
import { readCheckpointLayers } from './checkpoint-layers.js'
import { devices } from './devices.js'
import { describeRow, type MatrixModel, type MatrixRow, makeReference, type Reference, runRow } from './matrix-row.js'
import { placements } from './placements.js'

const small = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))
const model = (directory: string, maxTokens: number): MatrixModel => ({
  directory,
  checkpoint: readCheckpointLayers(directory),
  prompt: 'The captain',
  maxTokens,
})
const models = { small: model(small, 5), 'the demo model': model(modelDirectory(), 5) }
const rows: readonly MatrixRow[] = placements.flatMap((placement) =>
  [false, true].flatMap((sleeps) => devices.map((device) => ({ placement, sleeps, device }))),
)
const isHardest = ({ device }: MatrixRow): boolean => device.seeded && device.checked
const seedsOf = ({ device }: MatrixRow): number => (device.seeded ? rounds(1, 5) : 1)

async function runSeed(row: MatrixRow, model: MatrixModel, reference: Reference, seed: number): Promise<void> {
  try {
    await runRow(row, model, reference, seed)
  } catch (error) {
    throw new Error(`seed ${seed}, ${describeRow(row)}: ${String(error)}`, { cause: error })
  }
}

describe.each(Object.entries(models))('%s', (name, model) => {
  // The larger model in every way only at night.
  const tested = nightly || model === models.small ? rows : rows.filter(isHardest)
  let reference: Reference
  let runs = 0
  beforeAll(async () => {
    reference = await makeReference(model, devices[0]!)
    expect(new Set(reference.tokens).size).toBeGreaterThan(1)
  })

  test.each(tested.map((row): [string, MatrixRow] => [describeRow(row), row]))('%s', async (_, row) => {
    for (let seed = 0; seed < seedsOf(row); seed++, runs++) await runSeed(row, model, reference, seed)
  })

  afterAll(() => {
    process.stdout.write(
      `matrix, ${name}: ${runs} runs of ${tested.length} rows (${placements.length} placements, with and without a ` +
        `residency backend; ${devices.length} devices)\n`,
    )
  })
})

test('seeds: one row after another, in an order of work that is new each time', {
  timeout: rounds(60_000, 1_800_000),
}, async () => {
  const seeded = rows.filter(isHardest)
  const reference = await makeReference(models.small, devices[0]!)
  const seeds = rounds(seeded.length, 1000)
  for (let seed = 0; seed < seeds; seed++) {
    const row = seeded[seed % seeded.length]!
    // Not those of the rows above.
    await runSeed(row, models.small, reference, 1000 + seed)
  }
  process.stdout.write(`matrix, seeds: ${seeds} of ${seeded.length} rows\n`)
})
