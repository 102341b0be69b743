import { afterEach, expect, test, vi } from 'vitest'
import { Output } from '../src/output.js'

const [isTTY, isTextTTY, columns] = [process.stderr.isTTY, process.stdout.isTTY, process.stderr.columns]
afterEach(() => {
  vi.restoreAllMocks()
  process.stderr.isTTY = isTTY
  process.stdout.isTTY = isTextTTY
  process.stderr.columns = columns
})

function stderrOf(body: (output: Output) => void, terminal: boolean): string {
  let written = ''
  process.stderr.isTTY = terminal
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    written += String(text)
    return true
  })
  body(new Output(false))
  return written
}

test('progress is drawn over itself on a terminal, and gone before the next line', () => {
  const written = stderrOf((output) => {
    output.progress('loading: weights 10 %')
    output.progress('loading: weights 90 %')
    output.note('ready')
  }, true)
  expect(written).toBe('\r\u001b[Kloading: weights 10 %\r\u001b[Kloading: weights 90 %\r\u001b[Kready\n')
})

test('elsewhere it is left out', () => {
  expect(stderrOf((output) => output.progress('loading: weights 10 %'), false)).toBe('')
})

test('progress never wraps', () => {
  process.stderr.columns = 12
  expect(stderrOf((output) => output.progress('loading: weights 10 %'), true)).toBe('\r\u001b[Kloading: we')
})

test.each([
  ['a terminal', true, 'The cap\ninterrupted\nThe whale\ninterrupted\n'],
  ['a file', false, 'The capinterrupted\nThe whale\ninterrupted\n'],
])('text on %s that breaks off', (_, terminal, expected) => {
  process.stdout.isTTY = terminal
  let written = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    written += String(text)
    return true
  })
  process.stderr.isTTY = terminal
  vi.spyOn(process.stderr, 'write').mockImplementation(process.stdout.write)
  const output = new Output(false)
  const interrupted = (): void => output.note('interrupted')
  output.text('The ')
  output.text('cap')
  interrupted()
  output.line('The whale')
  interrupted()
  expect(written).toBe(expected)
})

test('a cause is told where the message does not say it', () => {
  const told = (message: string) =>
    stderrOf((output) => output.error(new Error(message, { cause: new Error('no room') })), false)
  expect(told('failed')).toBe('SPILLWAY_INTERNAL: failed\n  because: no room\n')
  expect(told('failed: no room')).toBe('SPILLWAY_INTERNAL: failed: no room\n')
  expect(stderrOf((output) => output.error(new Error('failed')), false)).toBe('SPILLWAY_INTERNAL: failed\n')
})
