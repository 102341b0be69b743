// Runs in a worker thread: opens a device of its own, loads a model there, and posts every token.
import { parentPort, workerData } from 'node:worker_threads'

const { built, selector, deviceOptions, directory, prefetchOptions, prompt, maxTokens, rounds, ballastBytes } =
  workerData
const { openDevice } = await import(built.device)
const { loadModel } = await import(built.decoder)
const { configure } = await import(built.core)
const { default: prefetch } = await import(built.prefetch)

const device = await openDevice(selector, deviceOptions)
const ballast = ballastBytes > 0 ? device.allocate(ballastBytes, { tag: 'ballast' }) : undefined
const offload = prefetchOptions === undefined ? [] : [configure(prefetch, prefetchOptions)]
const model = await loadModel(directory, { device, offload })
for (let round = 0; round < rounds; round++) {
  for await (const { tokens } of model.generate(prompt, { temperature: 0, maxTokens })) {
    parentPort.postMessage({ tokens })
  }
}
await model.dispose()
await ballast?.dispose()
const { graphLaunches } = device.counters()
const { usedBytes } = device.budget
await device.dispose()
parentPort.postMessage({ done: { graphLaunches, usedBytes } })
