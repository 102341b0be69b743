import { openDevice } from '@spillway/device'
import { describe } from 'vitest'
import { rounds } from '../nightly.js'
import { testModelLoad } from './model-load.js'

const MiB = 2 ** 20
const sizes = { storedBytes: 54 * MiB, repackedBytes: 28 * MiB, layers: 8, scratches: rounds(100, 1000) }

describe('checked', () => testModelLoad((options) => openDevice('host', { check: true, ...options }), sizes))
describe('adversarial', () => testModelLoad((options) => openDevice('host', { adversarialSeed: 1, ...options }), sizes))
