import type { ConfiguredBackend, Supports } from '@spillway/core'
import type { DeviceAbilities, OpenDevice } from './device-under-test.js'
import type { Rig, RigOptions } from './rig.js'

/** The backend that is tested, and what it is tested on. */
export interface Subject {
  readonly configured: ConfiguredBackend
  readonly name: string
  readonly supports: Supports
  readonly openDevice: OpenDevice
  readonly can: DeviceAbilities
  /** Layers of the models that are placed. */
  readonly layers: number
}

/** A test that gets a device of its own, once for every row. */
export interface RigTest<S = Subject> {
  readonly name: string
  /** Of the version that brought it. */
  readonly level: number
  /** Registered only for a backend that supports this; that what is denied is refused is another test. */
  readonly needs?: keyof Supports
  readonly rig?: Pick<RigOptions, 'memoryLimitBytes' | 'allow'>
  run(rig: Rig, subject: S): Promise<void>
}
