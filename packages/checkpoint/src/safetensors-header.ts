import { isUtf8 } from 'node:buffer'
import type { DType } from '@spillway/core'
import { type CheckpointErrorCode, checkpointError, type ErrorSubject, quote, shapeText } from './checkpoint-error.js'
import { JsonReader, safeIntegerOf } from './json-reader.js'
import { readableDTypeNames, storedDTypes } from './stored-dtype.js'

/** The reference implementation's own limit (huggingface/safetensors, MAX_HEADER_SIZE). */
const headerBytesLimit = 100_000_000
/** As in current array libraries; a shape is kept for every tensor, so its length may not be the file's choice. */
const rankLimit = 64

interface HeaderTensor {
  /** The dtype's name in the file. */
  readonly storedDType: string
  readonly dtype: DType | null
  readonly shape: readonly number[]
  readonly bytes: number
  /** From the start of the file. */
  readonly offset: number
}

export interface SafetensorsHeader {
  /** By offset. */
  readonly tensors: ReadonlyMap<string, HeaderTensor>
  /** `__metadata__`: free text by the file's writer. */
  readonly metadata: ReadonlyMap<string, string>
}

/** What is wrong with the header as a whole, and how to get a better one. */
const replaceFile = 'The file is damaged or not safetensors: download it again, or save it again with safetensors.'

/**
 * The header's length from a file's first 8 bytes (u64, little endian), checked before anything is allocated from it.
 * Throws SPILLWAY_CHECKPOINT_HEADER or SPILLWAY_CHECKPOINT_TRUNCATED.
 */
export function headerLength(prefix: Uint8Array, fileBytes: number, subject: ErrorSubject): number {
  if (fileBytes < 8 || prefix.length < 8) {
    const size = fileBytes === 0 ? 'the file is empty' : `the file has only ${fileBytes} bytes`
    throw checkpointError('SPILLWAY_CHECKPOINT_TRUNCATED', subject, `${size}. Download it again.`)
  }
  const length = Buffer.from(prefix.buffer, prefix.byteOffset, 8).readBigUInt64LE()
  if (length > BigInt(headerBytesLimit)) {
    // A repository cloned without Git LFS: by far the most frequent "model" that is no model.
    if (Buffer.from(prefix.buffer, prefix.byteOffset, 8).toString('latin1') === 'version ') {
      const reason = 'this is a Git LFS pointer, not the file itself. Run `git lfs pull` in its repository.'
      throw checkpointError('SPILLWAY_CHECKPOINT_HEADER', subject, reason)
    }
    const reason = `the header claims ${length} bytes, more than the format's limit of ${headerBytesLimit}. ${replaceFile}`
    throw checkpointError('SPILLWAY_CHECKPOINT_HEADER', subject, reason)
  }
  if (Number(length) > fileBytes - 8) {
    const reason = `the header claims ${length} bytes but only ${fileBytes - 8} follow. Download the file again.`
    throw checkpointError('SPILLWAY_CHECKPOINT_TRUNCATED', subject, reason)
  }
  return Number(length)
}

/**
 * Reads and checks a header: afterwards the tensors tile the file from the header's end to the file's end, with no
 * overlap, no gap and no byte left over, and each one's dtype, shape and bytes agree.
 */
export function parseSafetensorsHeader(
  header: Uint8Array,
  fileBytes: number,
  subject: ErrorSubject,
): SafetensorsHeader {
  const tensors = new Map<string, HeaderTensor>()
  const metadata = new Map<string, string>()
  let tensor: string | undefined
  const fail = (reason: string, code: CheckpointErrorCode = 'SPILLWAY_CHECKPOINT_HEADER'): never => {
    throw checkpointError(code, { ...subject, tensor }, `${reason}. ${replaceFile}`)
  }
  if (header[0] !== 0x7b) fail('the header does not begin with {')
  if (!isUtf8(header)) fail('the header is not valid UTF-8')
  const dataOffset = 8 + header.length
  const reader = new JsonReader(header, fail)
  reader.object((name) => {
    if (name === '__metadata__') {
      reader.object((key) => metadata.set(key, reader.string()))
      return
    }
    tensor = name
    tensors.set(name, readTensor(reader, dataOffset, fileBytes, { ...subject, tensor }))
    tensor = undefined
  })
  reader.end()
  return { tensors: inFileOrder(tensors, dataOffset, fileBytes, subject), metadata }
}

function readTensor(reader: JsonReader, dataOffset: number, fileBytes: number, subject: ErrorSubject): HeaderTensor {
  const fail = (reason: string): never => {
    throw checkpointError('SPILLWAY_CHECKPOINT_TENSOR', subject, `${reason}. ${replaceFile}`)
  }
  let storedDType: string | undefined
  let shape: number[] | undefined
  let offsets: number[] | undefined
  reader.object((key) => {
    if (key === 'dtype') storedDType = reader.string()
    else if (key === 'shape') shape = readIntegers(reader, 'shape', rankLimit, fail)
    else if (key === 'data_offsets') offsets = readIntegers(reader, 'data_offsets', 2, fail)
    else reader.skip() // later versions of the format may say more about a tensor
  })
  if (storedDType === undefined || shape === undefined || offsets === undefined) {
    return fail('its entry lacks dtype, shape or data_offsets')
  }
  const stored = storedDTypes.get(storedDType)
  if (stored === undefined) {
    const reason = `its dtype ${quote(storedDType)} is not known. Save it as one of ${readableDTypeNames}.`
    throw checkpointError('SPILLWAY_CHECKPOINT_DTYPE', subject, reason, { details: { dtype: storedDType } })
  }
  const [begin, end] = offsets as [number, number]
  if (offsets.length !== 2 || begin > end) fail(`its data_offsets ${shapeText(offsets)} are not a begin and an end`)
  const bytes = storedBytes(shape, stored.bits)
  if (bytes === undefined)
    fail(`its shape ${shapeText(shape)} with dtype ${storedDType} is larger than any file, or no whole number of bytes`)
  if (bytes !== end - begin) {
    fail(
      `its shape ${shapeText(shape)} with dtype ${storedDType} takes ${bytes} bytes, its data_offsets give ${end - begin}`,
    )
  }
  if (end > fileBytes - dataOffset) {
    const reason = `its bytes end at ${end} of the data, but the file holds ${fileBytes - dataOffset}. Download the file again.`
    throw checkpointError('SPILLWAY_CHECKPOINT_TRUNCATED', subject, reason)
  }
  return {
    storedDType,
    dtype: stored.dtype,
    shape: Object.freeze(shape),
    bytes: end - begin,
    offset: dataOffset + begin,
  }
}

function readIntegers(reader: JsonReader, what: string, limit: number, fail: (reason: string) => never): number[] {
  const values: number[] = []
  reader.array(() => {
    const literal = reader.number()
    const value = safeIntegerOf(literal)
    if (value === undefined) fail(`${quote(literal)} in its ${what} is not an integer from 0 to 2^53 - 1`)
    if (values.length === limit) fail(`its ${what} has more than ${limit} numbers`)
    values.push(value as number)
  })
  return values
}

/**
 * undefined: past 2^53 bits, or not whole bytes. Lengths of 0 count as 1 in the overflow check, so that the strides of
 * every accepted shape are exact too.
 */
function storedBytes(shape: readonly number[], bits: number): number | undefined {
  let bound = bits
  for (const length of shape) {
    bound *= Math.max(length, 1)
    if (!Number.isSafeInteger(bound)) return undefined
  }
  const total = shape.includes(0) ? 0 : bound
  return total % 8 === 0 ? total / 8 : undefined
}

/** The same tensors by offset. Throws SPILLWAY_CHECKPOINT_LAYOUT unless they cover all data exactly once. */
function inFileOrder(
  tensors: ReadonlyMap<string, HeaderTensor>,
  dataOffset: number,
  fileBytes: number,
  subject: ErrorSubject,
): ReadonlyMap<string, HeaderTensor> {
  const byOffset = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes)
  let end = dataOffset
  let previous = 'the header'
  for (const [name, tensor] of byOffset) {
    if (tensor.offset !== end) {
      const reason =
        tensor.offset < end
          ? `its bytes overlap those of ${previous}`
          : `${tensor.offset - end} bytes between ${previous} and it belong to no tensor`
      throw checkpointError('SPILLWAY_CHECKPOINT_LAYOUT', { ...subject, tensor: name }, `${reason}. ${replaceFile}`)
    }
    end = tensor.offset + tensor.bytes
    previous = `tensor ${quote(name)}`
  }
  if (end !== fileBytes) {
    const reason = `${fileBytes - end} bytes after ${previous} belong to no tensor. ${replaceFile}`
    throw checkpointError('SPILLWAY_CHECKPOINT_LAYOUT', subject, reason)
  }
  return new Map(byOffset)
}
