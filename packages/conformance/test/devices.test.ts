import { openDevice } from '@spillway/device'
import { describe, test } from 'vitest'
import { testDevice } from '../src/index.js'

testDevice({ describe, test, openDevice: (options) => openDevice('host', options) })
