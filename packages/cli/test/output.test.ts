import { afterEach, expect, test, vi } from 'vitest'
import { Output } from '../src/output.js'

const isTTY = process.stderr.isTTY
afterEach(() => {
  vi.restoreAllMocks()
  process.stderr.isTTY = isTTY
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
