import { type NativeDevice, openDevice } from '@spillway/device'

export interface DeviceRow {
  readonly name: string
  /** Whether a seed decides the order of its work. */
  readonly seeded: boolean
  readonly checked: boolean
  readonly open: (options: { readonly memoryLimitBytes: number; readonly seed: number }) => Promise<NativeDevice>
}

/** Every device, in each way it can work. A new one is a row here. */
export const devices: readonly DeviceRow[] = [
  hostRow('host', { seeded: false, checked: false }),
  hostRow('host, checked', { seeded: false, checked: true }),
  hostRow('host, adversarial', { seeded: true, checked: false }),
  hostRow('host, adversarial, checked', { seeded: true, checked: true }),
]

function hostRow(name: string, { seeded, checked }: Pick<DeviceRow, 'seeded' | 'checked'>): DeviceRow {
  const open: DeviceRow['open'] = ({ memoryLimitBytes, seed }) =>
    openDevice('host', { memoryLimitBytes, check: checked, ...(seeded ? { adversarialSeed: seed } : {}) })
  return { name, seeded, checked, open }
}
