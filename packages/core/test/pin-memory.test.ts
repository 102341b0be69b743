import { describe, expect, test } from 'vitest'
import { isSpillwayError, type PinSetting, pinPolicy, readEnvironment, shouldPinMemory } from '../src/index.js'

// The rule of the design, once more and in another form: a list of independent statements about the answer, each with
// the inputs it holds for. Every combination of inputs must be covered by statements that agree.
interface Inputs {
  readonly supported: boolean
  readonly unified: boolean
  readonly wsl: boolean
  readonly confidential: boolean
  readonly setting: PinSetting
  readonly ours: string | undefined
  readonly theirs: string | undefined
}
type Answer = 'yes' | 'no' | 'error'

const isSet = (value: string | undefined): boolean => value === '1' || value === 'true'
const statements: ReadonlyArray<{ says: string; holds: (i: Inputs) => boolean; answer: Answer }> = [
  { says: 'demanded of a device that cannot', holds: (i) => i.setting === 'on' && !i.supported, answer: 'error' },
  { says: 'cannot, not demanded', holds: (i) => !i.supported && i.setting !== 'on', answer: 'no' },
  { says: 'demanded of a device that can', holds: (i) => i.supported && i.setting === 'on', answer: 'yes' },
  { says: 'forbidden', holds: (i) => i.setting === 'off', answer: 'no' },
  { says: 'our variable, flag silent', holds: (i) => isSet(i.ours) && i.setting === 'auto', answer: 'no' },
  { says: 'their variable, flag silent', holds: (i) => isSet(i.theirs) && i.setting === 'auto', answer: 'no' },
  { says: 'unified memory, flag silent', holds: (i) => i.unified && i.setting === 'auto', answer: 'no' },
  { says: 'WSL, flag silent', holds: (i) => i.wsl && i.setting === 'auto', answer: 'no' },
  { says: 'confidential, flag silent', holds: (i) => i.confidential && i.setting === 'auto', answer: 'no' },
  {
    says: 'nothing against it',
    holds: (i) =>
      i.supported &&
      i.setting === 'auto' &&
      !(i.unified || i.wsl || i.confidential || isSet(i.ours) || isSet(i.theirs)),
    answer: 'yes',
  },
]

function decide(i: Inputs): { answer: Answer; reason: string } {
  const environment = readEnvironment({
    SPILLWAY_DISABLE_PIN_MEMORY: i.ours,
    VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY: i.theirs,
  })
  const capabilities = {
    pinnedMemory: i.supported,
    unifiedMemory: i.unified,
    wsl: i.wsl,
    confidentialComputing: i.confidential,
  }
  try {
    const { pin, reason } = shouldPinMemory(capabilities, pinPolicy(i.setting, environment))
    return { answer: pin ? 'yes' : 'no', reason }
  } catch (error) {
    if (!isSpillwayError(error, 'SPILLWAY_PIN_UNSUPPORTED')) throw error
    return { answer: 'error', reason: error.message }
  }
}

const booleans = [false, true]
const values = [undefined, '0', '1', 'true']
const all: Inputs[] = booleans.flatMap((supported) =>
  booleans.flatMap((unified) =>
    booleans.flatMap((wsl) =>
      booleans.flatMap((confidential) =>
        (['auto', 'on', 'off'] as const).flatMap((setting) =>
          values.flatMap((ours) =>
            values.map((theirs) => ({ supported, unified, wsl, confidential, setting, ours, theirs })),
          ),
        ),
      ),
    ),
  ),
)

test('the whole table: supported × unified × WSL × confidential × setting × both variables', () => {
  expect(all).toHaveLength(2 ** 4 * 3 * 4 * 4)
  const count: Record<Answer, number> = { yes: 0, no: 0, error: 0 }
  for (const inputs of all) {
    const answers = new Set(statements.filter(({ holds }) => holds(inputs)).map(({ answer }) => answer))
    expect([...answers], `statements about ${JSON.stringify(inputs)}`).toHaveLength(1)
    const { answer, reason } = decide(inputs)
    expect(answer, JSON.stringify(inputs)).toBe([...answers][0])
    expect(reason.length).toBeGreaterThan(10)
    count[answer]++
  }
  // By counting: 'on' splits by support alone; auto says yes for one of the 8 machines and 2 × 2 values of 16.
  expect(count).toEqual({ error: 128, yes: 128 + 4, no: 768 - 128 - 132 })
})

describe('rows by hand', () => {
  const plain: Inputs = {
    supported: true,
    unified: false,
    wsl: false,
    confidential: false,
    setting: 'auto',
    ours: undefined,
    theirs: undefined,
  }
  test.each<[string, Partial<Inputs>, Answer, RegExp]>([
    ['a plain GPU', {}, 'yes', /can pin/],
    ['GH200', { unified: true }, 'no', /share/],
    ['GH200, --pin-memory on', { unified: true, setting: 'on' }, 'yes', /set to on/],
    ['WSL', { wsl: true }, 'no', /Windows Subsystem for Linux/],
    ['WSL comes before unified', { wsl: true, unified: true }, 'no', /Windows/],
    ['confidential computing', { confidential: true }, 'no', /confidential/],
    ['our variable', { ours: '1' }, 'no', /^SPILLWAY_DISABLE_PIN_MEMORY is set/],
    ['their variable', { theirs: 'true' }, 'no', /^VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY is set/],
    ['flag beats variable', { ours: '1', setting: 'on' }, 'yes', /set to on/],
    ['flag off', { setting: 'off' }, 'no', /set to off/],
    ['no support', { supported: false, ours: '1' }, 'no', /cannot pin/],
    ['off where it cannot', { supported: false, setting: 'off' }, 'no', /cannot pin/],
    ['on where it cannot', { supported: false, setting: 'on' }, 'error', /--pin-memory auto or off/],
  ])('%s', (_, inputs, answer, reason) => {
    const decision = decide({ ...plain, ...inputs })
    expect(decision.answer).toBe(answer)
    expect(decision.reason).toMatch(reason)
  })
})

test('a setting that is none is refused', () => {
  expect(() => pinPolicy('yes' as PinSetting, readEnvironment({}))).toThrowError(
    expect.objectContaining({ code: 'SPILLWAY_INVALID_OPTION' }),
  )
})
