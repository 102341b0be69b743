import { SpillwayError } from '@spillway/core'

const quotedLimit = 240

/** The codes of this package; docs/ERRORS.md has a heading for each. */
export type CheckpointErrorCode =
  | 'SPILLWAY_CHECKPOINT_MISSING'
  | 'SPILLWAY_CHECKPOINT_UNREADABLE'
  | 'SPILLWAY_CHECKPOINT_TRUNCATED'
  | 'SPILLWAY_CHECKPOINT_HEADER'
  | 'SPILLWAY_CHECKPOINT_TENSOR'
  | 'SPILLWAY_CHECKPOINT_LAYOUT'
  | 'SPILLWAY_CHECKPOINT_DTYPE'
  | 'SPILLWAY_CHECKPOINT_INDEX'
  | 'SPILLWAY_CHECKPOINT_CHANGED'
  | 'SPILLWAY_CHECKPOINT_TENSOR_MISSING'
  | 'SPILLWAY_CHECKPOINT_SHAPE'

/** What an error is about. `file` in the details is the name inside the checkpoint's directory. */
export interface ErrorSubject {
  readonly path: string
  readonly file: string
  readonly tensor?: string | undefined
}

/** `reason` continues "<path>[, tensor <name>]: …" and ends by saying what to do. */
export function checkpointError(
  code: CheckpointErrorCode,
  subject: ErrorSubject,
  reason: string,
  extra: { readonly cause?: unknown; readonly details?: Readonly<Record<string, unknown>> } = {},
): SpillwayError {
  const { path, file, tensor } = subject
  // The end of a long path is what tells files apart.
  const shownPath = quote(path.length <= quotedLimit ? path : `…${path.slice(1 - quotedLimit)}`)
  const where = tensor === undefined ? shownPath : `${shownPath}, tensor ${quote(tensor)}`
  return new SpillwayError(code, `${where}: ${reason}`, {
    cause: extra.cause,
    details: { ...extra.details, file, path, ...(tensor === undefined ? {} : { tensor }) },
  })
}

/**
 * A name as an error message may show it: names come from files of unknown origin, and a message ends on a terminal,
 * so control, format (direction overrides) and separator characters are escaped and long names are cut.
 */
export function quote(text: string): string {
  const shown = text.length <= quotedLimit ? text : `${text.slice(0, quotedLimit)}…`
  return JSON.stringify(shown).replace(/[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    Array.from(
      { length: character.length },
      (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`,
    ).join(''),
  )
}

/** A shape as an error message may show it: `[2, 3]`. */
export function shapeText(shape: readonly number[]): string {
  const shown = shape.slice(0, 16).join(', ')
  return shape.length <= 16 ? `[${shown}]` : `[${shown}, … ${shape.length} dimensions]`
}
