import { type OpenDevice, type Row, rowName } from './device-under-test.js'
import { Rig } from './rig.js'
import type { RigTest, Subject } from './subject.js'
import type { Suite } from './suite.js'

/** Registers each test once for every row. */
export function registerRows<S extends Pick<Subject, 'supports'> | undefined>(
  suite: Suite,
  group: string,
  openDevice: OpenDevice,
  tests: readonly RigTest<S>[],
  rows: readonly Row[],
  subject: S,
): void {
  suite.group(group, () => {
    for (const row of rows) {
      suite.group(rowName(row), () => {
        for (const { name, level, needs, rig, run } of tests) {
          if (needs !== undefined && subject?.supports[needs] === false) continue
          suite.test(name, level, () => Rig.run({ openDevice, row, ...rig }, (opened) => run(opened, subject)))
        }
      })
    }
  })
}
