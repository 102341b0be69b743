// @ts-check
import { randomFillSync } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { moduleSpecs, readConfig } from './spillway.mjs'

const chunkBytes = 64 * 2 ** 20

/**
 * Writes a model.safetensors of random weights beside the config.json in the directory, in the order of the model's
 * modules, all bf16. Returns the bytes of its weights.
 * @param {string} directory
 * @param {AbortSignal} signal
 */
export async function writeCheckpoint(directory, signal) {
  const specs = moduleSpecs(await readConfig(directory), 'bf16')
  /** @type {Record<string, { dtype: string, shape: readonly number[], data_offsets: [number, number] }>} */
  const header = {}
  let bytes = 0
  for (const { name: module, parameters } of specs) {
    for (const { name, shape } of parameters) {
      const end = bytes + 2 * shape.reduce((count, length) => count * length, 1)
      header[`${module}.${name}`] = { dtype: 'BF16', shape, data_offsets: [bytes, end] }
      bytes = end
    }
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const weights = randomWeights(Math.min(bytes, chunkBytes))
  const file = await open(join(directory, 'model.safetensors'), 'w')
  try {
    await file.write(Buffer.concat([length, text]))
    for (let written = 0; written < bytes; written += weights.length) {
      signal.throwIfAborted()
      await file.write(weights, 0, Math.min(weights.length, bytes - written))
    }
  } finally {
    await file.close()
  }
  return bytes
}

/** Small and positive, in bf16. @param {number} bytes */
function randomWeights(bytes) {
  const weights = randomFillSync(Buffer.alloc(bytes))
  for (let i = 1; i < bytes; i += 2) weights[i] = 0x3c
  return weights
}
