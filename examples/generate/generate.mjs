import { configure } from '@spillway/core'
import { loadModel } from '@spillway/decoder'
import { modelDirectory } from '@spillway/demo-model'
import { openDevice } from '@spillway/device'
import prefetch from '@spillway/prefetch'

const device = await openDevice('auto', { memoryLimitBytes: 5 * 2 ** 20 })
const offload = configure(prefetch, { groupSize: 1 })
const model = await loadModel(modelDirectory(), { device, offload, contextLength: 256 })
for await (const { text } of model.generate('The captain', { maxTokens: 64, temperature: 0.7, seed: 1 }))
  process.stdout.write(text)
console.log('\n', model.stats())
await model.dispose()
await device.dispose()
