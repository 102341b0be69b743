import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface CheckpointLayers {
  /** Of all tensors. A checkpoint holds tied ones once. */
  readonly weightBytes: number
  /** Bytes of each decoder layer's tensors, in the order of the layers. Fusing matrices does not change them. */
  readonly layerBytes: readonly number[]
  /** Of every module, in the order of the forward. A head that is tied to the embedding has none. */
  readonly moduleBytes: ReadonlyMap<string, number>
}

/** Read from the header alone and by hand, so that a test's figures come from nothing that it tests. */
export function readCheckpointLayers(directory: string): CheckpointLayers {
  const file = readFileSync(join(directory, 'model.safetensors'))
  const header = JSON.parse(file.toString('utf8', 8, 8 + Number(file.readBigUInt64LE(0)))) as Record<
    string,
    { data_offsets?: [number, number] }
  >
  const layerBytes: number[] = []
  let weightBytes = 0
  for (const [name, { data_offsets: offsets }] of Object.entries(header)) {
    if (offsets === undefined) continue
    const bytes = offsets[1] - offsets[0]
    weightBytes += bytes
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1]
    if (layer !== undefined) layerBytes[Number(layer)] = (layerBytes[Number(layer)] ?? 0) + bytes
  }
  const named = (prefix: string): number =>
    Object.entries(header)
      .filter(([name]) => name.startsWith(`${prefix}.`))
      .reduce((sum, [, tensor]) => sum + tensor.data_offsets![1] - tensor.data_offsets![0], 0)
  const names = ['model.embed_tokens', ...layerBytes.map((_, m) => `model.layers.${m}`), 'model.norm', 'lm_head']
  return { weightBytes, layerBytes, moduleBytes: new Map(names.map((name) => [name, named(name)])) }
}
