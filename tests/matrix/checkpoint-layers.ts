import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface CheckpointLayers {
  /** Of all tensors. A checkpoint holds tied ones once. */
  readonly weightBytes: number
  /** Bytes of each decoder layer's tensors, in the order of the layers. Fusing matrices does not change them. */
  readonly layerBytes: readonly number[]
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
  return { weightBytes, layerBytes }
}
