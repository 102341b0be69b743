import { describe, expect, test } from 'vitest'
import { readEnvironment, readNativeVariant } from '../src/index.js'
import { thrown } from './thrown.js'

describe('switching pinned memory off', () => {
  const ours = 'SPILLWAY_DISABLE_PIN_MEMORY'
  const theirs = 'VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY'

  test.each(['1', 'true', 'TRUE', 'True'])('either variable set to %s does', (value) => {
    expect(readEnvironment({ [ours]: value }).pinMemoryDisabledBy).toBe(ours)
    expect(readEnvironment({ [theirs]: value }).pinMemoryDisabledBy).toBe(theirs)
  })

  test.each(['', '0', 'false', 'FALSE', undefined])('either variable set to %s does not', (value) => {
    expect(readEnvironment({ [ours]: value, [theirs]: value }).pinMemoryDisabledBy).toBeUndefined()
  })

  test.each(['yes', 'on', '2', ' 1', 'maybe'])('ours set to %s is an error that says what is allowed', (value) => {
    const error = thrown(() => readEnvironment({ [ours]: value }))
    expect(error.code).toBe('SPILLWAY_INVALID_ENVIRONMENT')
    expect(error.message).toContain(ours)
    expect(error.message).toContain(JSON.stringify(value))
    expect(error.message).toContain('1, true, 0, false')
  })

  test.each(['yes', 'on', '2'])("theirs set to %s is not ours to refuse, and doesn't count", (value) => {
    expect(readEnvironment({ [theirs]: value }).pinMemoryDisabledBy).toBeUndefined()
  })

  test('ours is named when both are set', () => {
    expect(readEnvironment({ [ours]: '1', [theirs]: '1' }).pinMemoryDisabledBy).toBe(ours)
  })
})

test('SPILLWAY_REQUIRE_CUDA', () => {
  expect(readEnvironment({}).requireCuda).toBe(false)
  expect(readEnvironment({ SPILLWAY_REQUIRE_CUDA: '1' }).requireCuda).toBe(true)
  expect(thrown(() => readEnvironment({ SPILLWAY_REQUIRE_CUDA: 'cuda' })).code).toBe('SPILLWAY_INVALID_ENVIRONMENT')
})

test('SPILLWAY_NATIVE_VARIANT is read without looking at the others', () => {
  expect(readNativeVariant({ SPILLWAY_NATIVE_VARIANT: 'address', SPILLWAY_REQUIRE_CUDA: '?' })).toBe('address')
  expect(readNativeVariant({ SPILLWAY_NATIVE_VARIANT: '' })).toBeUndefined()
  expect(readEnvironment({ SPILLWAY_NATIVE_VARIANT: 'undefined' }).nativeVariant).toBe('undefined')
  const error = thrown(() => readNativeVariant({ SPILLWAY_NATIVE_VARIANT: '../../evil' }))
  expect(error.code).toBe('SPILLWAY_INVALID_ENVIRONMENT')
  expect(error.message).toContain('address, undefined, thread')
})

test('colours follow FORCE_COLOR before NO_COLOR', () => {
  expect(readEnvironment({}).color).toBeUndefined()
  expect(readEnvironment({ NO_COLOR: '' }).color).toBeUndefined()
  expect(readEnvironment({ NO_COLOR: '1' }).color).toBe(false)
  expect(readEnvironment({ NO_COLOR: '1', FORCE_COLOR: '3' }).color).toBe(true)
  expect(readEnvironment({ FORCE_COLOR: '0' }).color).toBe(false)
})

test('what is read from process.env is what it says', () => {
  expect(readEnvironment()).toEqual(readEnvironment(process.env))
})
