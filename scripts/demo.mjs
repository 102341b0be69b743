// npm run demo, after the build: the main job. A trained model, larger than the memory its device is given, writes text
// with its weights offloaded; every claim it prints is checked, and a wrong one ends it with status 1.
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { configure, formatBytes, none } from '../packages/core/dist/index.js'
import { loadModel } from '../packages/decoder/dist/index.js'
import { demoModelMetadata, modelDirectory } from '../packages/demo-model/dist/index.js'
import { cudaStatus, openDevice } from '../packages/device/dist/index.js'
import prefetch from '../packages/prefetch/dist/index.js'

const deviceMemory = 4.5 * 2 ** 20
const contextLength = 256
const prompt = 'The captain'
const sampling = { maxTokens: 96, temperature: 0.7, seed: 7 }

const color = (process.stdout.isTTY && !process.env.NO_COLOR) || ['1', '2', '3'].includes(process.env.FORCE_COLOR ?? '')
const paint = (code) => (text) => (color ? `\u001b[${code}m${text}\u001b[0m` : text)
const bold = paint('1')
const dim = paint('2')
const green = paint('32')
const red = paint('31')

const failures = []
function check(name, value, holds) {
  console.log(`  ${name.padEnd(48)} ${holds ? green(value) : red(`${value}  <- wrong`)}`)
  if (!holds) failures.push(name)
}

async function generate({ backend, memoryLimitBytes, onText }) {
  const device = await openDevice('host', memoryLimitBytes === undefined ? {} : { memoryLimitBytes })
  let live
  try {
    const model = await loadModel(modelDirectory(), { device, offload: configure(backend), contextLength })
    try {
      const generation = model.generate(prompt, sampling)
      const tokens = []
      for await (const step of generation) {
        tokens.push(...step.tokens)
        onText?.(step.text)
      }
      const { timings } = await generation.result
      live = { tokens, timings, stats: model.stats(), pinnedBytes: device.counters().pinnedBytes }
    } finally {
      await model.dispose()
    }
    // Now every copy is done and counted.
    const { hostToDeviceBytesByTag, graphLaunches } = device.counters()
    return { ...live, copiedBytes: hostToDeviceBytesByTag.weights ?? 0, graphLaunches }
  } finally {
    await device.dispose()
  }
}

const host = await openDevice('host')
console.log(bold('Devices'))
console.log(`  ${host.name}, ${formatBytes(host.budget.limitBytes)} of memory`)
const { gpus, reason } = cudaStatus()
console.log(dim(`  cuda: ${reason || gpus.map(({ name }) => name).join(', ')}`))
await host.dispose()

const fileBytes = statSync(join(modelDirectory(), 'model.safetensors')).size
console.log(bold('\nSizes'))
console.log(
  `  model   ${formatBytes(fileBytes)} of weights, ${demoModelMetadata.layers} layers, ` +
    `${(demoModelMetadata.parameters / 1e6).toFixed(1)} million parameters, trained on Moby-Dick`,
)
console.log(`  device  ${formatBytes(deviceMemory)}: less than the weights alone`)

console.log(bold('\nWithout offloading'))
try {
  await generate({ backend: none, memoryLimitBytes: deviceMemory })
  check('none', 'it fitted', false)
} catch (error) {
  console.log(`  ${error.code}: ${error.message}`)
  check('caught, as expected, and this process goes on', error.code, error.code === 'SPILLWAY_OUT_OF_MEMORY')
}

console.log(bold('\nWith --offload-backend prefetch'))
process.stdout.write(`  ${prompt}`)
const offloaded = await generate({
  backend: prefetch,
  memoryLimitBytes: deviceMemory,
  onText: (text) => process.stdout.write(text.replaceAll('\n', '\n  ')),
})
const unlimited = await generate({ backend: none })
const { stats, pinnedBytes, copiedBytes, graphLaunches, timings } = offloaded
// Of replayed tokens only the device counts the copies: of each the same.
const copiedToSlots = copiedBytes - stats.residentBytes
const replayedBytes = (copiedToSlots - stats.onloadedBytes) / graphLaunches

console.log(bold('\n\nWhat happened'))
check('offloaded (weights on the host)', formatBytes(stats.offloadedBytes), stats.offloadedBytes > 0)
check('pinned host memory, counted by the device', formatBytes(pinnedBytes), pinnedBytes >= stats.offloadedBytes)
check('resident (weights on the device)', formatBytes(stats.residentBytes), stats.residentBytes > 0)
check(
  'slots (what offloaded layers pass through)',
  formatBytes(stats.slotBytes),
  stats.slotBytes > 0 && stats.slotBytes < stats.offloadedBytes,
)
check(
  'copied to slots, as the device counted it',
  formatBytes(copiedToSlots),
  copiedToSlots > 10 * stats.offloadedBytes && Number.isInteger(replayedBytes) && replayedBytes > 0,
)
check(
  'peak on the device, cache and scratch included',
  `${formatBytes(stats.peakDeviceBytes)} of ${formatBytes(deviceMemory)}`,
  stats.peakDeviceBytes <= deviceMemory,
)
const identical = JSON.stringify(offloaded.tokens) === JSON.stringify(unlimited.tokens)
check('tokens identical to an unlimited run:', identical ? 'yes' : 'no', identical && offloaded.tokens.length > 0)
console.log(
  dim(
    `  ${timings.decodeTokensPerSecond.toFixed(0)} tokens/s offloaded, ` +
      `${unlimited.timings.decodeTokensPerSecond.toFixed(0)} with everything resident`,
  ),
)

if (failures.length > 0) {
  console.error(red(`\nNot as it should be: ${failures.join('; ')}`))
  process.exit(1)
}
console.log(bold('\nNext'))
console.log("  npx spillway run --prompt 'Call me' --device-memory 4.5MiB --context-length 256")
console.log('  npx spillway run --offload-backend prefetch --offload-group-size 4 --json')
console.log('  npx spillway doctor')
