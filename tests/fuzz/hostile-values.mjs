import { runInNewContext } from 'node:vm'

// What a function may be given although it asked for something else. Made anew for each use: some can be used once.

/** What the getters, traps and conversions below throw. */
export class PlannedError extends Error {
  name = 'PlannedError'
}
const planned = () => {
  throw new PlannedError('thrown by an argument')
}
const everyTrap = (trap) =>
  Object.fromEntries(Reflect.ownKeys(Object.getOwnPropertyDescriptors(Reflect)).map((name) => [name, trap]))

const withThen = (value) => Object.defineProperty({}, 'then', { value })

function detached() {
  const bytes = new Uint8Array(16)
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
  return bytes
}
function outOfBounds() {
  const buffer = new ArrayBuffer(64, { maxByteLength: 64 })
  const bytes = new Uint8Array(buffer, 32, 32)
  buffer.resize(8)
  return bytes
}
function revoked() {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

/** No small positive number is here: it might be a legal size, or a link so slow that nothing ends. */
export const hostileValues = new Map(
  Object.entries({
    undefined: () => undefined,
    null: () => null,
    NaN: () => Number.NaN,
    infinity: () => Number.POSITIVE_INFINITY,
    'minus infinity': () => Number.NEGATIVE_INFINITY,
    'minus one': () => -1,
    'minus zero': () => -0,
    'a fraction': () => 0.5,
    'the smallest number': () => Number.MIN_VALUE,
    '2^53': () => 2 ** 53,
    '2^53 - 1': () => 2 ** 53 - 1,
    '2^52': () => 2 ** 52,
    '2^46 + 2^16': () => 2 ** 46 + 2 ** 16,
    '2^64': () => 2 ** 64,
    '2^63': () => 2 ** 63,
    'the largest number': () => Number.MAX_VALUE,
    'a bigint': () => 1n,
    'a negative bigint': () => -1n,
    'a large bigint': () => 2n ** 64n,
    'an empty text': () => '',
    'a number as text': () => '4096',
    'a long text': () => 'x'.repeat(100_000),
    'a text with a zero': () => 'weights\0',
    'a lone surrogate': () => '\ud800',
    'the name of a method': () => 'constructor',
    'the name of the prototype': () => '__proto__',
    true: () => true,
    false: () => false,
    'a symbol': () => Symbol('hostile'),
    'a function': () => () => 4096,
    'a function that throws': () => planned,
    'a class': () => class {},
    'an empty array': () => [],
    'an array of a number': () => [4096],
    'an array of arrays': () => [[[]]],
    'an empty object': () => ({}),
    'an object without prototype': () => Object.create(null),
    'an object with null fields': () => ({ bytes: null, offset: null, toOffset: null, tag: null, storage: null }),
    'a frozen object': () => Object.freeze({ kind: 'stream' }),
    'an object like a stream': () => ({ kind: 'stream', disposed: false, capturing: false, priority: 'normal' }),
    'an object like a buffer': () => ({ kind: 'device-buffer', storage: 'device', bytes: 4096, pointer: 4096n }),
    'getters that throw': () =>
      Object.defineProperties(
        {},
        Object.fromEntries(
          ['bytes', 'offset', 'toOffset', 'tag', 'storage', 'signal', 'priority', 'external', 'stream', 'check', 'at']
            .concat(['threads', 'fromOffset', 'number', 'aborted', 'module', 'kind', 'then', 'memoryLimitBytes'])
            .map((name) => [name, { get: planned, enumerable: true }]),
        ),
      ),
    'a text conversion that throws': () => ({ toString: planned, valueOf: planned, [Symbol.toPrimitive]: planned }),
    'a conversion to a number': () => ({ valueOf: () => 4096, toString: () => '4096' }),
    'a proxy whose traps throw': () => new Proxy(() => {}, everyTrap(planned)),
    'an object proxy whose traps throw': () => new Proxy({}, everyTrap(planned)),
    'a revoked proxy': revoked,
    'a proxy of nothing': () => new Proxy({}, {}),
    'a text object': () => new String('host'),
    'a number object': () => new Number(4096),
    'a date that is none': () => new Date(Number.NaN),
    'a regular expression': () => /host/,
    'a map': () => new Map([['bytes', 1]]),
    'an error': () => new Error('hostile'),
    'a promise': () => Promise.resolve(4096),
    'a thenable that throws': () => withThen(planned),
    'a thenable that never settles': () => withThen(() => undefined),
    'an aborted signal': () => AbortSignal.abort(),
    'a signal aborted with undefined': () => {
      const controller = new AbortController()
      controller.abort(undefined)
      return controller.signal
    },
    'an object like a signal': () => ({ aborted: false }),
    'an object like an aborted signal': () => ({ aborted: true, reason: Symbol('hostile') }),
    'an array buffer': () => new ArrayBuffer(16),
    'a shared array buffer': () => new SharedArrayBuffer(16),
    'bytes of a shared array buffer': () => new Uint8Array(new SharedArrayBuffer(16)),
    'bytes of a detached buffer': detached,
    'bytes past the end of a shrunk buffer': outOfBounds,
    'no bytes': () => new Uint8Array(0),
    'more bytes than fit': () => new Uint8Array(1 << 20),
    'a Buffer': () => Buffer.alloc(16),
    'signed bytes': () => new Int8Array(16),
    'clamped bytes': () => new Uint8ClampedArray(16),
    doubles: () => new Float64Array(16),
    'a data view': () => new DataView(new ArrayBuffer(16)),
    'bytes of another realm': () => runInNewContext('new Uint8Array(16)'),
    'the global object': () => globalThis,
  }),
)
