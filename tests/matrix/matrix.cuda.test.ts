// Every placement backend, alone and under a residency backend, on a GPU.
import { fileURLToPath } from 'node:url'
import { modelDirectory } from '@spillway/demo-model'
import { beforeAll, describe, test } from 'vitest'
import { describeOnCuda, openCuda } from '../cuda/on-cuda.js'
import { readCheckpointLayers } from './checkpoint-layers.js'
import type { DeviceRow } from './devices.js'
import { describeRow, type MatrixModel, type MatrixRow, makeReference, type Reference, runRow } from './matrix-row.js'
import { placements } from './placements.js'

const gpu: DeviceRow = {
  name: 'a GPU',
  seeded: false,
  checked: false,
  open: ({ memoryLimitBytes }) => openCuda({ memoryLimitBytes }),
}
const small = fileURLToPath(new URL('../../packages/decoder/test/fixtures/llama-f32', import.meta.url))
const model = (directory: string): MatrixModel => ({
  directory,
  checkpoint: readCheckpointLayers(directory),
  prompt: 'The captain',
  maxTokens: 5,
})
const rows: readonly MatrixRow[] = placements.flatMap((placement) =>
  [false, true].map((sleeps) => ({ placement, sleeps, device: gpu })),
)

describeOnCuda('the matrix', () => {
  describe.each([model(small), model(modelDirectory())])('$directory', (matrixModel) => {
    let reference: Reference
    beforeAll(async () => {
      reference = await makeReference(matrixModel, gpu)
    })
    test.each(rows.map((row): [string, MatrixRow] => [describeRow(row), row]))('%s', (_, row) =>
      runRow(row, matrixModel, reference),
    )
  })
})
