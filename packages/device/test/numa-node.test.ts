import { expect, test } from 'vitest'
import { addon } from '../src/addon.js'
import { withSystemFiles } from './memory-limits.js'

const device = 'sys/bus/pci/devices/0000:e5:00.0/numa_node'
const cpusOf = (node: number): string => `sys/devices/system/node/node${node}/cpulist`

test.each<[string, Record<string, string | number>, number | undefined, number[]]>([
  ['has two', { [device]: 1, [cpusOf(0)]: '0-1', [cpusOf(1)]: '2-3,6,10-11' }, 1, [2, 3, 6, 10, 11]],
  ['has one processor there', { [device]: 0, [cpusOf(0)]: 7 }, 0, [7]],
  ['has memory without processors there', { [device]: 2, [cpusOf(2)]: '' }, 2, []],
  ['has one and says -1', { [device]: -1, [cpusOf(0)]: '0-3' }, undefined, []],
  ['says nothing', {}, undefined, []],
  ['names no processors', { [device]: 0 }, 0, []],
  ['says what nobody can read', { [device]: 'near', [cpusOf(0)]: '0-3' }, undefined, []],
  ...['0-3,x', '0-', '0+3', '3-1', '-2', '0-99999999'].map(
    (list): [string, Record<string, string | number>, number, number[]] => [
      `lists processors as ${list}`,
      { [device]: 0, [cpusOf(0)]: list },
      0,
      [],
    ],
  ),
])('the node of a device on a machine that %s', (_, files, node, cpus) =>
  withSystemFiles(files, async () => {
    // Drivers write it in upper case, the system in lower.
    expect(addon().numaNodeOf('0000:E5:00.0')).toEqual([node, cpus])
    expect(addon().numaNodeOf('0000:e6:00.0')).toEqual([undefined, []])
  }),
)
