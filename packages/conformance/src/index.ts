export { type BackendTestOptions, testBackend } from './backend-tests.js'
export { testDevice } from './device-tests.js'
export type {
  DeviceAbilities,
  DeviceOptions,
  DeviceUnderTest,
  FailurePoint,
  InjectedFailure,
  OpenDevice,
  Row,
} from './device-under-test.js'
export { type Advice, highestLevel, type LevelOptions, lowestLevel, type TestRunner } from './suite.js'
export type { DeviceTestOptions } from './test-options.js'
