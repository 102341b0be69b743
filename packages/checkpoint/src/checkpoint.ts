import { constants as bufferConstants } from 'node:buffer'
import { stat } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { type DType, SpillwayError, throwIfAborted } from '@spillway/core'
import { checkpointError, quote } from './checkpoint-error.js'
import { CheckpointFile, systemCode, unreadable } from './checkpoint-file.js'
import { indexBytesLimit, parseCheckpointIndex } from './checkpoint-index.js'
import { headerLength, parseSafetensorsHeader, type SafetensorsHeader } from './safetensors-header.js'
import { readableDTypeNames } from './stored-dtype.js'

const singleFileName = 'model.safetensors'
const indexFileName = 'model.safetensors.index.json'
/** Over all shards. A header is limited already; this keeps a directory of many from filling the heap. */
const tensorLimit = 500_000

/** A tensor as it lies in the checkpoint: row-major, little endian, not yet read. */
export interface CheckpointTensor {
  readonly name: string
  /** The dtype's name in the file, such as `BF16`. */
  readonly storedDType: string
  /** null: Spillway has no such dtype; the tensor is listed, reading it is SPILLWAY_CHECKPOINT_DTYPE. */
  readonly dtype: DType | null
  readonly shape: readonly number[]
  readonly bytes: number
  /** Name of the file inside the checkpoint's directory. */
  readonly file: string
  /** In bytes from the start of that file; any number, aligned to nothing. */
  readonly offset: number
}

export interface CheckpointFileInfo {
  readonly file: string
  readonly bytes: number
  /** The `__metadata__` of its header. */
  readonly metadata: ReadonlyMap<string, string>
}

/** What `readBytes` reads, and where to. */
export interface ByteRange {
  /** Name inside the checkpoint's directory. */
  readonly file: string
  /** In bytes from the start of the file. */
  readonly offset: number
  /** Filled completely. */
  readonly target: Uint8Array
  readonly signal?: AbortSignal | undefined
}

/** An open checkpoint: its headers are read and checked, its tensors' bytes are not read yet. Owns its descriptors. */
export interface Checkpoint extends AsyncDisposable {
  readonly directory: string
  /** In file order: by shard name, then by offset. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>
  readonly files: readonly CheckpointFileInfo[]
  /** Bytes of all tensors, headers not counted. */
  readonly totalBytes: number
  /** All files' `__metadata__` together; where they differ, the first file's. */
  readonly metadata: ReadonlyMap<string, string>
  /** A tensor's bytes, in new memory. For loading a model use `loadParameters`, which needs no copy of a tensor. */
  read(name: string, options?: { signal?: AbortSignal | undefined }): Promise<Uint8Array>
  /**
   * Fills `target` from `offset` of `file`; may be called in parallel. `target` is borrowed until the promise settles.
   * Throws SPILLWAY_INVALID_ARGUMENT past the file's end, SPILLWAY_CHECKPOINT_CHANGED when it has become shorter.
   */
  readBytes(range: ByteRange): Promise<void>
  /** Throws SPILLWAY_CHECKPOINT_CHANGED when a file is not as it was at opening: call it when reading is done. */
  verifyUnchanged(files?: Iterable<string>): Promise<void>
  /** Closes the files, once reads under way are done. Calling it again does nothing. */
  dispose(): Promise<void>
}

/**
 * Opens the checkpoint in a directory: `model.safetensors`, or else the shards that `model.safetensors.index.json`
 * names (the order transformers looks in). Reads headers only. All of it is treated as hostile: see docs/ERRORS.md for
 * the SPILLWAY_CHECKPOINT_* codes. Nothing stays open when it throws. The caller disposes of the result.
 */
export async function openCheckpoint(
  directory: string,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<Checkpoint> {
  const { signal } = options
  throwIfAborted(signal, `opening the checkpoint in ${quote(String(directory))}`)
  await requireDirectory(directory)
  const checkpoint = new OpenCheckpoint(directory)
  try {
    const single = await CheckpointFile.open(directory, singleFileName)
    if (single === null) await checkpoint.addShards(signal)
    else await checkpoint.add(single, signal)
  } catch (error) {
    await checkpoint.dispose().catch(() => {}) // what went wrong first is what the caller must hear
    throw error
  }
  return checkpoint
}

class OpenCheckpoint implements Checkpoint {
  readonly directory: string
  readonly tensors: Map<string, CheckpointTensor> = new Map()
  readonly files: CheckpointFileInfo[] = []
  readonly metadata: Map<string, string> = new Map()
  totalBytes = 0
  readonly #open = new Map<string, CheckpointFile>()

  constructor(directory: string) {
    this.directory = directory
  }

  /** Takes over the file: it is closed with the checkpoint, also when its header is refused. */
  async add(file: CheckpointFile, signal: AbortSignal | undefined, index?: ReadonlyMap<string, string>): Promise<void> {
    this.#open.set(file.file, file)
    const header = await readHeader(file, signal)
    for (const [name, stored] of header.tensors) {
      const tensor: CheckpointTensor = Object.freeze({ name, ...stored, file: file.file })
      const elsewhere = this.tensors.get(name)?.file ?? index?.get(name) ?? file.file
      if (elsewhere !== file.file) {
        const reason = `the shard has this tensor, but so has, by the index or by its header, ${quote(elsewhere)}. Download the model again.`
        throw checkpointError('SPILLWAY_CHECKPOINT_INDEX', { path: file.path, file: file.file, tensor: name }, reason)
      }
      if (this.tensors.size === tensorLimit) {
        const reason = `the shards have more than ${tensorLimit} tensors together. This is not a model.`
        throw checkpointError('SPILLWAY_CHECKPOINT_INDEX', file, reason)
      }
      this.tensors.set(name, tensor)
      this.totalBytes += tensor.bytes
    }
    for (const [key, value] of header.metadata) if (!this.metadata.has(key)) this.metadata.set(key, value)
    this.files.push(Object.freeze({ file: file.file, bytes: file.bytes, metadata: header.metadata }))
  }

  async addShards(signal: AbortSignal | undefined): Promise<void> {
    const index = await readIndex(this.directory, signal)
    for (const name of [...new Set(index.values())].sort()) {
      throwIfAborted(signal, `opening the checkpoint in ${quote(this.directory)}`)
      const shard = await CheckpointFile.open(this.directory, name)
      if (shard === null) {
        const subject = {
          path: this.#path(name),
          file: name,
          tensor: [...index].find(([, file]) => file === name)?.[0],
        }
        const reason = `${indexFileName} names this file, but it is missing. Download it, or fix the index.`
        throw checkpointError('SPILLWAY_CHECKPOINT_MISSING', subject, reason)
      }
      await this.add(shard, signal, index)
    }
    for (const [tensor, file] of index) {
      if (this.tensors.has(tensor)) continue
      const reason = `${indexFileName} puts this tensor here, but the shard does not have it. Download both again.`
      throw checkpointError('SPILLWAY_CHECKPOINT_INDEX', { path: this.#path(file), file, tensor }, reason)
    }
  }

  async read(name: string, options: { signal?: AbortSignal | undefined } = {}): Promise<Uint8Array> {
    const tensor = this.tensors.get(name)
    if (tensor === undefined) {
      const reason = `the checkpoint in ${quote(this.directory)} has no tensor ${quote(name)}. Check its name against checkpoint.tensors.`
      throw new SpillwayError('SPILLWAY_CHECKPOINT_TENSOR_MISSING', reason, {
        details: { tensor: name, missing: [name] },
      })
    }
    refuseUnreadableDType(this, tensor)
    const target = allocate(tensor)
    await this.readBytes({ file: tensor.file, offset: tensor.offset, target, ...options })
    await this.verifyUnchanged([tensor.file])
    return target
  }

  async readBytes(range: ByteRange): Promise<void> {
    const { offset, target, signal } = range
    const file = this.#file(range.file)
    if (!Number.isSafeInteger(offset) || offset < 0 || target.length > file.bytes - offset) {
      const reason = `bytes ${offset} to ${offset + target.length} are not inside ${quote(file.path)} of ${file.bytes} bytes`
      throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', reason)
    }
    await file.readInto(target, offset, signal)
  }

  async verifyUnchanged(files: Iterable<string> = this.#open.keys()): Promise<void> {
    for (const file of files) await this.#file(file).verifyUnchanged()
  }

  async dispose(): Promise<void> {
    await Promise.all([...this.#open.values()].map((file) => file.close()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  #path(file: string): string {
    return join(this.directory, file)
  }

  #file(name: string): CheckpointFile {
    const file = this.#open.get(name)
    if (file !== undefined) return file
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `${quote(name)} is no file of the checkpoint in ${quote(this.directory)}`,
    )
  }
}

/** Throws SPILLWAY_CHECKPOINT_DTYPE for a tensor that can be listed but not read. */
export function refuseUnreadableDType(
  checkpoint: Checkpoint,
  tensor: CheckpointTensor,
): asserts tensor is CheckpointTensor & { dtype: DType } {
  if (tensor.dtype !== null) return
  const subject = { path: join(checkpoint.directory, tensor.file), file: tensor.file, tensor: tensor.name }
  const reason = `its dtype ${tensor.storedDType} cannot be read yet. Save it as one of ${readableDTypeNames}.`
  throw checkpointError('SPILLWAY_CHECKPOINT_DTYPE', subject, reason, { details: { dtype: tensor.storedDType } })
}

async function requireDirectory(directory: string): Promise<void> {
  const subject = { path: String(directory), file: '' }
  let isDirectory: boolean
  try {
    isDirectory = (await stat(directory)).isDirectory()
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw unreadable(error, subject)
    const reason = 'there is no such directory. Pass the directory that holds the model.'
    throw checkpointError('SPILLWAY_CHECKPOINT_MISSING', subject, reason, { cause: error })
  }
  if (isDirectory) return
  const reason = 'this is not a directory. Pass the directory that holds the model, not a file in it.'
  throw checkpointError('SPILLWAY_CHECKPOINT_MISSING', subject, reason)
}

async function readIndex(directory: string, signal: AbortSignal | undefined): Promise<ReadonlyMap<string, string>> {
  const index = await CheckpointFile.open(directory, indexFileName)
  if (index === null) {
    const subject = { path: directory, file: singleFileName }
    const reason = `it has neither ${singleFileName} nor ${indexFileName}. Pass a model's directory in safetensors format, or convert it.`
    throw checkpointError('SPILLWAY_CHECKPOINT_MISSING', subject, reason)
  }
  try {
    if (index.bytes > indexBytesLimit) {
      const reason = `it has ${index.bytes} bytes, more than the limit of ${indexBytesLimit}. This is not an index: download it again.`
      throw checkpointError('SPILLWAY_CHECKPOINT_INDEX', index, reason)
    }
    const bytes = Buffer.allocUnsafeSlow(index.bytes)
    await index.readInto(bytes, 0, signal)
    return parseCheckpointIndex(bytes, index)
  } finally {
    await index.close()
  }
}

async function readHeader(file: CheckpointFile, signal: AbortSignal | undefined): Promise<SafetensorsHeader> {
  const prefix = Buffer.alloc(Math.min(8, file.bytes))
  await file.readInto(prefix, 0, signal)
  const header = Buffer.allocUnsafeSlow(headerLength(prefix, file.bytes, file))
  await file.readInto(header, 8, signal)
  return parseSafetensorsHeader(header, file.bytes, file)
}

/** A tensor's size is its file's at most, checked; but the file may be sparse, and larger than memory. */
function allocate(tensor: CheckpointTensor): Uint8Array {
  try {
    if (tensor.bytes <= Math.min(bufferConstants.MAX_LENGTH, machineBytes())) return new Uint8Array(tensor.bytes)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
  }
  const reason = `tensor ${quote(tensor.name)} of ${tensor.bytes} bytes does not fit into one array here. Use loadParameters or readBytes.`
  throw new SpillwayError('SPILLWAY_OUT_OF_MEMORY', reason, {
    details: { tensor: tensor.name, requestedBytes: tensor.bytes },
  })
}

// From Node 22 on an array may be of 2^53 bytes, and the system gives addresses for more than it has: the process would
// be killed while it reads.
function machineBytes(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}
