import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isSpillwayError, type SpillwayError } from '@spillway/core'
import { expect } from 'vitest'
import { type Checkpoint, openCheckpoint } from '../src/index.js'

/** Bits of one element by the format's own names: written down here again, so that a wrong table in src is found. */
export const bitsByDType: Readonly<Record<string, number>> = {
  ...{ F64: 64, F32: 32, F16: 16, BF16: 16, F8_E4M3: 8, F8_E5M2: 8, I64: 64, I32: 32, I16: 16, I8: 8, U8: 8, BOOL: 8 },
  ...{ U64: 64, U32: 32, U16: 16, C64: 64, F8_E8M0: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8, F6_E2M3: 6, F6_E3M2: 6, F4: 4 },
}

export const coreDTypes: Readonly<Record<string, string>> = {
  ...{ F64: 'f64', F32: 'f32', F16: 'f16', BF16: 'bf16', F8_E4M3: 'f8e4m3', F8_E5M2: 'f8e5m2' },
  ...{ I64: 'i64', I32: 'i32', I16: 'i16', I8: 'i8', U8: 'u8', BOOL: 'bool' },
}

export interface FixtureTensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
}

export function tensorBytes({ dtype, shape }: FixtureTensor): number {
  return (shape.reduce((product, length) => product * length, 1) * (bitsByDType[dtype] as number)) / 8
}

/** `header` is written as it is; `length` is what the first 8 bytes claim, by default the truth. */
export function rawFile(header: string | Uint8Array, data: Uint8Array | number, length?: bigint): Buffer {
  const text = Buffer.from(header as string)
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(length ?? BigInt(text.length))
  return Buffer.concat([prefix, text, typeof data === 'number' ? Buffer.alloc(data, 7) : data])
}

/** A valid file: tensors one after another in the order given, each byte of data different from its neighbours. */
export function safetensorsFile(
  tensors: readonly FixtureTensor[],
  options: { metadata?: Record<string, string>; padding?: number; listed?: readonly number[] } = {},
): Buffer {
  let end = 0
  const entries = tensors.map((tensor) => {
    const begin = end
    end += tensorBytes(tensor)
    const info = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [begin, end] }
    return `${JSON.stringify(tensor.name)}:${JSON.stringify(info)}`
  })
  const listed = (options.listed ?? entries.map((_, i) => i)).map((i) => entries[i] as string)
  const metadata = options.metadata === undefined ? [] : [`"__metadata__":${JSON.stringify(options.metadata)}`]
  return rawFile(`{${[...metadata, ...listed].join(',')}}${' '.repeat(options.padding ?? 0)}`, patternBytes(end))
}

export function patternBytes(bytes: number, seed = 0): Buffer {
  const pattern = Buffer.allocUnsafe(bytes)
  for (let i = 0; i < bytes; i++) pattern[i] = (i * 31 + (i >> 8) * 17 + seed) & 0xff
  return pattern
}

/** A directory for one test file; gone when `remove` is called. */
export class Scratch {
  readonly root: string = mkdtempSync(join(tmpdir(), 'spillway-checkpoint-'))
  #count = 0

  /** A new directory with these files. */
  directory(files: Readonly<Record<string, string | Uint8Array>> = {}): string {
    const directory = join(this.root, String(this.#count++))
    mkdirSync(directory)
    for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content)
    return directory
  }

  /** Descriptors this process has open on anything inside. */
  openDescriptors(): string[] {
    const open: string[] = []
    for (const descriptor of readdirSync('/proc/self/fd')) {
      try {
        const path = readlinkSync(`/proc/self/fd/${descriptor}`)
        if (path.startsWith(this.root)) open.push(path)
      } catch {
        // The descriptor that listed the directory is gone by now.
      }
    }
    return open
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true })
  }
}

/** The coded error a promise rejects with; anything else, and no rejection at all, fails the test. */
export async function codedError(promise: Promise<unknown>): Promise<SpillwayError> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (reason: unknown) => reason,
  )
  if (!isSpillwayError(error)) throw error
  return error
}

export async function openFile(scratch: Scratch, file: Uint8Array): Promise<Checkpoint> {
  return openCheckpoint(scratch.directory({ 'model.safetensors': file }))
}

/** `metadata` may be anything: readers must not care. */
export function indexJson(files: Readonly<Record<string, string>>, metadata: unknown = { total_size: 1 }): string {
  return JSON.stringify({ metadata, weight_map: files })
}

/** What every opened checkpoint promises, whatever file it came from. */
export function expectSound(checkpoint: Checkpoint, headerBytes: number): void {
  const [file] = checkpoint.files
  let end = 8 + headerBytes
  for (const [name, tensor] of checkpoint.tensors) {
    expect(tensor.name).toBe(name)
    expect(tensor.bytes).toBe(tensorBytes({ name, dtype: tensor.storedDType, shape: tensor.shape }))
    expect(tensor.offset).toBe(end)
    end += tensor.bytes
  }
  expect(end).toBe(file?.bytes)
  expect(checkpoint.totalBytes).toBe(end - 8 - headerBytes)
}
