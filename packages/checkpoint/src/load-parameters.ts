import { join } from 'node:path'
import {
  type HostArena,
  type HostBuffer,
  SpillwayError,
  type Stream,
  type TensorView,
  throwIfAborted,
} from '@spillway/core'
import { type Checkpoint, type CheckpointTensor, refuseUnreadableDType } from './checkpoint.js'
import { checkpointError, quote, shapeText } from './checkpoint-error.js'
import { type Destination, destinationOf } from './destination.js'
import { forEachRunOfPiece, type Piece, type Placement, planReads } from './read-plan.js'

/** Node reads files on four threads; more pieces than that only take memory. */
const piecesUnderWay = 4
const stagingBytesDefault = 16 * 2 ** 20
const stagingBytesMinimum = 1024
const stagingBytesMaximum = 2 ** 32
/** In a sentence; the error's details have all. */
const namesShown = 64

export interface LoadTarget {
  /** Its name in the checkpoint. */
  readonly tensorName: string
  /** Where it goes; dtype and shape must equal the checkpoint's, strides may differ. Borrowed until loading is done. */
  readonly tensor: TensorView
}

export interface LoadProgress {
  readonly loadedBytes: number
  readonly totalBytes: number
}

export interface LoadOptions {
  readonly checkpoint: Checkpoint
  /** No two may share a byte. */
  readonly targets: Iterable<LoadTarget>
  /** Copies to device buffers are enqueued here. Needed, with `host`, when a target's buffer is one. */
  readonly stream?: Stream | undefined
  /** Gives the staging memory for device buffers, pinned or not: `offloader.host`. */
  readonly host?: HostArena | undefined
  /** Bytes read but not yet in place, at most; device buffers take as much again from `host`. 1 KiB to 4 GiB, default 16 MiB. */
  readonly stagingBytes?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** First with 0 loaded bytes, then after each piece. What it throws ends the loading. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined
}

/**
 * Loads tensors of a checkpoint straight to where they were placed: each byte is read once, in file order, several
 * reads at a time, and written once. When the promise resolves, the bytes are there and the copies are done. When it
 * rejects, staging memory is released and the targets' contents are undefined; copies enqueued before keep the buffers
 * they need.
 *
 * Nothing is read before all targets are checked: SPILLWAY_CHECKPOINT_TENSOR_MISSING names all that are missing,
 * SPILLWAY_CHECKPOINT_SHAPE a dtype or shape that differs, SPILLWAY_CHECKPOINT_DTYPE one that cannot be read,
 * SPILLWAY_INVALID_ARGUMENT a place that is not there. Files that change meanwhile: SPILLWAY_CHECKPOINT_CHANGED.
 * Host buffers are written on the calling thread, device buffers on `stream`.
 */
export async function loadParameters(options: LoadOptions): Promise<LoadProgress> {
  const { checkpoint, signal, onProgress } = options
  throwIfAborted(signal, 'loading parameters')
  const placements = checkedPlacements(checkpoint, options.targets)
  const pieces = planReads(placements, pieceBytesOf(options.stagingBytes ?? stagingBytesDefault))
  const totalBytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0)
  const toDevice = pieces.filter((piece) => piece.toDevice)
  const copying = toDevice.length > 0 ? copyingWith(options) : undefined

  // One failure stops the other readers too; theirs is only its echo.
  const stop = new AbortController()
  const onAbort = (): void => stop.abort(signal?.reason)
  signal?.addEventListener('abort', onAbort, { once: true })
  const staging: HostBuffer[] = []
  let failure: { readonly error: unknown } | undefined
  let loadedBytes = 0
  let next = 0
  const readPieces = async (chunk: Uint8Array, buffer: HostBuffer | undefined): Promise<void> => {
    try {
      for (let piece = pieces[next++]; piece !== undefined; piece = pieces[next++]) {
        await loadPiece({ checkpoint, piece, chunk, staging: buffer, stream: copying?.stream, signal: stop.signal })
        loadedBytes += piece.bytes
        onProgress?.({ loadedBytes, totalBytes })
      }
    } catch (error) {
      failure ??= { error }
      stop.abort(error)
    }
  }
  try {
    onProgress?.({ loadedBytes, totalBytes })
    const readers = Math.min(piecesUnderWay, pieces.length)
    for (let i = 0; copying !== undefined && i < readers; i++) {
      staging.push(await copying.allocate(largest(toDevice), stop.signal))
    }
    // Every reader is waited for, also after a failure: none may write into a target behind the caller's back.
    await Promise.all(
      Array.from({ length: readers }, (_, i) => readPieces(Buffer.allocUnsafeSlow(largest(pieces)), staging[i])),
    )
    if (failure !== undefined) throw failure.error
    await checkpoint.verifyUnchanged(new Set(pieces.map((piece) => piece.file)))
    return { loadedBytes, totalBytes }
  } finally {
    signal?.removeEventListener('abort', onAbort)
    // Copies that were on their way when it failed still write into targets and hold the staging memory.
    if (failure !== undefined) await copying?.stream.synchronize().catch(() => undefined)
    await Promise.all(staging.map((buffer) => buffer.dispose()))
  }
}

interface PieceLoad {
  readonly checkpoint: Checkpoint
  readonly piece: Piece
  /** At least the piece's bytes. */
  readonly chunk: Uint8Array
  readonly staging: HostBuffer | undefined
  readonly stream: Stream | undefined
  readonly signal: AbortSignal
}

async function loadPiece({ checkpoint, piece, chunk, staging, stream, signal }: PieceLoad): Promise<void> {
  const target = chunk.subarray(0, piece.bytes)
  await checkpoint.readBytes({ file: piece.file, offset: piece.offset, target, signal })
  if (piece.toDevice) staging?.write(target)
  forEachRunOfPiece(piece, (buffer, toOffset, fromOffset, bytes) => {
    if (buffer.kind === 'host-buffer') buffer.write(target.subarray(fromOffset, fromOffset + bytes), toOffset)
    else if (staging !== undefined) stream?.copy(buffer, staging, { toOffset, fromOffset, bytes })
  })
  // The staging buffer is written again for the next piece: its copies must be done by then.
  if (piece.toDevice) await stream?.synchronize({ signal })
}

/** Checks every target before any byte is read. */
function checkedPlacements(checkpoint: Checkpoint, targets: Iterable<LoadTarget>): Placement[] {
  const found: { target: LoadTarget; tensor: CheckpointTensor }[] = []
  const missing: string[] = []
  for (const target of targets) {
    const tensor = checkpoint.tensors.get(target.tensorName)
    if (tensor === undefined) missing.push(target.tensorName)
    else found.push({ target, tensor })
  }
  if (missing.length > 0) {
    const more = missing.length > namesShown ? ` and ${missing.length - namesShown} more` : ''
    const names = missing.slice(0, namesShown).map(quote).join(', ') + more
    const reason = `the checkpoint in ${quote(checkpoint.directory)} lacks ${missing.length} of the model's tensors: ${names}. Use the checkpoint that belongs to this config.json.`
    throw new SpillwayError('SPILLWAY_CHECKPOINT_TENSOR_MISSING', reason, { details: { tensor: missing[0], missing } })
  }
  const placements = found.map(({ target, tensor }) => {
    refuseUnreadableDType(checkpoint, tensor)
    refuseMismatch(checkpoint, tensor, target.tensor)
    return { tensor, destination: destinationOf(tensor.name, target.tensor) }
  })
  refuseSharedBytes(placements)
  return placements
}

function refuseMismatch(checkpoint: Checkpoint, tensor: CheckpointTensor, view: TensorView): void {
  const sameShape =
    tensor.shape.length === view.shape.length && tensor.shape.every((length, i) => length === view.shape[i])
  if (sameShape && tensor.dtype === view.dtype) return
  const subject = { path: join(checkpoint.directory, tensor.file), file: tensor.file, tensor: tensor.name }
  const stored = `${tensor.dtype} ${shapeText(tensor.shape)}`
  const expected = `${view.dtype} ${shapeText(view.shape)}`
  const reason = `the checkpoint has ${stored}, the model expects ${expected}. Use the checkpoint that belongs to this config.json, or correct its dtype and sizes.`
  const details = { dtype: tensor.dtype, shape: tensor.shape, expectedDType: view.dtype, expectedShape: view.shape }
  throw checkpointError('SPILLWAY_CHECKPOINT_SHAPE', subject, reason, { details })
}

/** Strided places may interleave inside one buffer; contiguous ones may not meet. */
function refuseSharedBytes(placements: readonly Placement[]): void {
  const ends = new Map<Destination['buffer'], { end: number; name: string }>()
  const contiguous = placements
    .filter(({ tensor, destination }) => tensor.bytes > 0 && destination.outer.length === 0)
    .sort((a, b) => a.destination.extent.begin - b.destination.extent.begin)
  for (const { tensor, destination } of contiguous) {
    const { buffer, extent } = destination
    const previous = ends.get(buffer)
    if (previous !== undefined && extent.begin < previous.end) {
      const reason = `tensors ${quote(previous.name)} and ${quote(tensor.name)} are to be loaded over one another: give each its own place`
      throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', reason, { details: { tensor: tensor.name } })
    }
    ends.set(buffer, { end: extent.end, name: tensor.name })
  }
}

interface Copying {
  readonly stream: Stream
  allocate(bytes: number, signal: AbortSignal): Promise<HostBuffer>
}

function copyingWith({ stream, host }: LoadOptions): Copying {
  if (stream === undefined || host === undefined) {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      'loading into device buffers needs both `stream` and `host`: pass them',
    )
  }
  return { stream, allocate: (bytes, signal) => host.allocate(bytes, { signal }) }
}

function pieceBytesOf(stagingBytes: number): number {
  if (!Number.isSafeInteger(stagingBytes) || stagingBytes < stagingBytesMinimum || stagingBytes > stagingBytesMaximum) {
    const reason = `stagingBytes must be an integer from ${stagingBytesMinimum} to ${stagingBytesMaximum}, not ${stagingBytes}`
    throw new SpillwayError('SPILLWAY_INVALID_ARGUMENT', reason)
  }
  return Math.floor(stagingBytes / piecesUnderWay)
}

function largest(pieces: readonly Piece[]): number {
  return pieces.reduce((bytes, piece) => Math.max(bytes, piece.bytes), 0)
}
