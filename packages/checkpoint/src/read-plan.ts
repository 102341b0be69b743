import type { CheckpointTensor } from './checkpoint.js'
import { type Destination, forEachRun } from './destination.js'

/** One tensor and where it goes. */
export interface Placement {
  readonly tensor: CheckpointTensor
  readonly destination: Destination
}

/** Part of a tensor inside a piece. */
interface PiecePart {
  readonly destination: Destination
  /** In the tensor's row-major bytes. */
  readonly begin: number
  readonly end: number
  /** Where `begin` lies in the piece, in bytes. */
  readonly at: number
}

/** One read: a contiguous range of one file, and the tensors' parts in it. */
export interface Piece {
  readonly file: string
  readonly offset: number
  readonly bytes: number
  readonly parts: readonly PiecePart[]
  readonly toDevice: boolean
}

/** A transposed view has one run for each element: this bounds what one piece can enqueue. */
const runsLimit = 4096

/**
 * Cuts what is to be loaded into reads of at most `pieceBytes`, in file order. Neighbours in a file share a read: a
 * checkpoint has many tensors of a few hundred bytes, and each read of a device's piece waits once for its copies.
 */
export function planReads(placements: Iterable<Placement>, pieceBytes: number): Piece[] {
  const inFileOrder = [...placements]
    .filter(({ tensor }) => tensor.bytes > 0)
    .sort((a, b) => compare(a.tensor.file, b.tensor.file) || a.tensor.offset - b.tensor.offset)
  const pieces: Piece[] = []
  let open: { file: string; offset: number; bytes: number; parts: PiecePart[]; runs: number } | undefined
  const close = (): void => {
    if (open === undefined) return
    const { file, offset, bytes, parts } = open
    pieces.push({
      file,
      offset,
      bytes,
      parts,
      toDevice: parts.some((part) => part.destination.buffer.kind === 'device-buffer'),
    })
    open = undefined
  }
  for (const { tensor, destination } of inFileOrder) {
    for (let begin = 0; begin < tensor.bytes; ) {
      const offset = tensor.offset + begin
      const room =
        open === undefined ? 0 : Math.min(pieceBytes - open.bytes, (runsLimit - open.runs) * destination.runBytes)
      if (open === undefined || room <= 0 || open.file !== tensor.file || open.offset + open.bytes !== offset) {
        close()
        open = { file: tensor.file, offset, bytes: 0, parts: [], runs: 0 }
        continue
      }
      const end = Math.min(tensor.bytes, begin + room)
      open.parts.push({ destination, begin, end, at: open.bytes })
      open.bytes += end - begin
      open.runs += Math.ceil((end - begin) / destination.runBytes)
      begin = end
    }
  }
  close()
  return pieces
}

/** Calls `run` for each contiguous range of a piece and where it goes. */
export function forEachRunOfPiece(
  piece: Piece,
  run: (buffer: Destination['buffer'], toOffset: number, fromOffset: number, bytes: number) => void,
): void {
  for (const { destination, begin, end, at } of piece.parts) {
    forEachRun(destination, begin, end, (toOffset, from, bytes) => run(destination.buffer, toOffset, at + from, bytes))
  }
}

function compare(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}
