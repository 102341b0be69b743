/**
 * - `read-after-write`, `write-after-read`, `write-after-write`: nothing orders the later operation after the earlier
 * - `early-free`: the host unmaps memory that enqueued work may still use
 * - `use-after-free`: a kernel touches the address of a buffer that is gone
 * - `read-before-write`: a kernel reads device memory that nothing was ever written to
 * - `undeclared-read`, `undeclared-write`: a kernel touches what its launch did not declare
 * - `unjoined-fork`: a capture ends while work of a stream that joined it is waited for by nobody
 */
export type OrderViolationKind =
  | 'read-after-write'
  | 'write-after-read'
  | 'write-after-write'
  | 'early-free'
  | 'use-after-free'
  | 'read-before-write'
  | 'undeclared-read'
  | 'undeclared-write'
  | 'unjoined-fork'

export interface CheckedOperation {
  /** `copy`, `fill`, `host read`, `host write`, `unmap`, or the kernel's name. */
  readonly what: string
  /** Such as `stream 2 (high)`: streams are numbered from 1 in the order they were made. Or `host`. */
  readonly stream: string
  /** Call stack of where it was enqueued, innermost frame first. */
  readonly site: string
  /** Of an operation in a graph: where the graph was launched; `site` is then where it was recorded. */
  readonly launchSite?: string
}

/** Two operations that conflict, or one that is wrong by itself. */
export interface OrderViolation {
  readonly kind: OrderViolationKind
  /** Everything, for people; several lines. */
  readonly message: string
  /** Storage, number in the order of creation, tag and size. */
  readonly buffer: string
  /** First byte of the buffer that both touch. */
  readonly offset: number
  readonly bytes: number
  /** What `later` should have come after, where there is such an operation. */
  readonly earlier?: CheckedOperation
  readonly later: CheckedOperation
  /** How often it was found: the same two places in the program and the same kind are one violation. */
  readonly times: number
}

type Description = Omit<OrderViolation, 'message'>

interface Sentence {
  readonly what: string
  readonly verbs: readonly [earlier: string, later: string]
  readonly advice: (violation: Description) => string
}

const wait = ({ earlier, later }: Description): string => {
  if (later.stream === 'host') return `await ${earlier?.stream}.synchronize() before the host goes on`
  if (earlier?.stream === later.stream) return 'make the second launch wait for the first'
  if (earlier?.stream === 'host') return 'let the host finish with the memory before it enqueues work on it'
  return `record an event on ${earlier?.stream} after the earlier operation, and let ${later.stream} wait for it before the later one`
}
const declare = (): string => 'add the range to the accesses of the launch, or keep the kernel from touching it'

const sentences: Readonly<Record<OrderViolationKind, Sentence>> = {
  'read-after-write': {
    what: 'reads bytes that may not be written yet',
    verbs: ['writes them', 'reads them'],
    advice: wait,
  },
  'write-after-read': {
    what: 'overwrites bytes that may still be read',
    verbs: ['reads them', 'writes them'],
    advice: wait,
  },
  'write-after-write': {
    what: 'writes bytes that another operation may write after it',
    verbs: ['writes them', 'writes them'],
    advice: wait,
  },
  'early-free': {
    what: 'takes memory away that may still be in use',
    verbs: ['uses it', 'frees it'],
    advice: wait,
  },
  'use-after-free': {
    what: 'touches memory that was freed',
    verbs: ['', 'touches it'],
    advice: () => 'keep the buffer until the work that uses its address is enqueued, and declare it with the launch',
  },
  'read-before-write': {
    what: 'reads device memory that nothing was ever written to',
    verbs: ['', 'reads it'],
    advice: () => 'enqueue the copy, fill or kernel that writes these bytes before, or declare a smaller range',
  },
  'undeclared-read': {
    what: 'depends on bytes that its launch did not declare to read',
    verbs: ['', 'touches them, or writes what depends on them'],
    advice: declare,
  },
  'undeclared-write': {
    what: 'writes bytes that its launch did not declare to write',
    verbs: ['', 'writes them'],
    advice: declare,
  },
  'unjoined-fork': {
    what: 'is the last work of a stream that joined a capture, and nobody waits for it',
    verbs: ['', 'is left behind'],
    advice: ({ later }) =>
      `record an event on ${later.stream} after it, and let the stream that began the capture wait for it before endCapture`,
  },
}

export function describeViolation(violation: Description): string {
  const { kind, buffer, offset, bytes, earlier, later, times } = violation
  const { what, verbs, advice } = sentences[kind]
  const range = bytes === 0 ? '' : bytes === 1 ? `, byte ${offset}` : `, bytes ${offset} to ${offset + bytes - 1}`
  return [
    `${kind}: ${later.what} on ${later.stream} ${what}${times > 1 ? ` (found ${times} times)` : ''}`,
    ...(buffer === '' ? [] : [`  memory   ${buffer}${range}`]),
    ...(earlier === undefined ? [] : describeOperation('earlier', earlier, verbs[0])),
    ...describeOperation(earlier === undefined ? 'work' : 'later', later, verbs[1]),
    `  to mend  ${advice(violation)}`,
  ].join('\n')
}

function describeOperation(role: string, operation: CheckedOperation, verb: string): string[] {
  const { what, stream, site, launchSite } = operation
  const lines = [
    `  ${role.padEnd(8)} ${what} on ${stream} ${verb}; ${launchSite ? 'recorded' : 'enqueued'}`,
    ...stack(site),
  ]
  return launchSite ? [...lines, '           in a graph launched', ...stack(launchSite)] : lines
}

function stack(site: string): string[] {
  return site
    .split('\n')
    .slice(0, 5)
    .map((line) => `             ${line}`)
}
