// Defects that the fuzzer must find, put around the real package: what finds nothing may just be blind.

const defects = {
  /** A crash, as a null pointer in an addon would be one. */
  crash: (library) => change(library, 'NativeStream', 'fill', () => process.kill(process.pid, 'SIGSEGV')),
  /** An error without a code. */
  'raw error': (library) =>
    change(library, 'NativeStream', 'fill', (fill, args) => {
      if (args[1] === null) throw new TypeError('byte is null')
      return fill(...args)
    }),
  /** A handle that nobody can dispose. */
  leak: (library) => {
    const kept = []
    return change(library, 'NativeDevice', 'createEvent', (createEvent, args) => {
      kept.push(createEvent(...args))
      return createEvent(...args)
    })
  },
  /** A promise that never settles. */
  hang: (library) => change(library, 'NativeStream', 'synchronize', () => new Promise(() => undefined)),
}

function change(library, className, member, replacement) {
  const { prototype } = library[className]
  const original = prototype[member]
  prototype[member] = function (...args) {
    return replacement((...rest) => Reflect.apply(original, this, rest), args)
  }
  return library
}

export function planted(name, library) {
  return name === undefined ? library : defects[name](library)
}
