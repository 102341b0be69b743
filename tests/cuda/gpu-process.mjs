// What the tests of the GPU do in processes of their own: node gpu-process.mjs status | hold <bytes> | lose
import { cudaStatus, openDevice } from '../../packages/device/dist/index.js'

const [mode, argument] = process.argv.slice(2)
const codeOf = async (action) => {
  try {
    await action()
    return 'nothing was thrown'
  } catch (error) {
    return error.code ?? String(error)
  }
}
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`)

async function status() {
  const { available, reason, gpus } = cudaStatus()
  let open = 'opened'
  try {
    await (await openDevice('cuda')).dispose()
  } catch (error) {
    open = error.code
  }
  print({ available, reason, gpus: gpus.length, open })
}

/** Until standard input ends. */
async function hold(bytes) {
  const device = await openDevice('cuda')
  device.allocate(bytes, { tag: 'held' })
  print('holding')
  process.stdin.resume().on('end', () => device.dispose())
}

// Writes 4 bytes to address 16.
const wild = `.version 7.0
.target sm_80
.address_size 64
.visible .entry wild()
{
  .reg .b64 %a;
  .reg .b32 %v;
  mov.u64 %a, 16;
  mov.u32 %v, 1;
  st.global.u32 [%a], %v;
  ret;
}
`

async function lose() {
  const device = await openDevice('cuda')
  const streams = [device.createStream(), device.createStream(), device.createStream()]
  const data = device.allocate(1024, { tag: 'data' })
  const host = await device.allocateHost(3, { storage: 'pinned' })
  host.write(Uint8Array.of(7, 7, 7))
  const kernel = await device.loadKernel(new TextEncoder().encode(wild), 'wild')
  streams[0].launchKernel(kernel, { grid: [1], block: [1], arguments: new Uint8Array(0), accesses: [] })
  for (const stream of streams) stream.fill(data, 1)
  const event = device.createEvent()
  streams[0].record(event)
  for (const stream of streams) stream.wait(event)
  const waiting = await Promise.all(streams.map((stream) => codeOf(() => stream.synchronize())))
  const afterwards = [
    await codeOf(() => streams[0].fill(data, 2)),
    await codeOf(() => streams[1].synchronize()),
    await codeOf(() => device.allocate(1024, { tag: 'data' })),
    await codeOf(() => device.createStream()),
  ]
  // Images on the host stay readable.
  const hostBytes = [...host.read()]
  await Promise.all([...streams, event, data, host, kernel].map((handle) => handle.dispose()))
  // Streams end on threads of their own.
  const handles = () => Object.values(device.counters().liveHandles).reduce((sum, count) => sum + count, 0)
  for (let i = 0; i < 500 && handles() > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10))
  const liveHandles = handles()
  await device.dispose()
  const reopened = await codeOf(() => openDevice('cuda'))
  print({ waiting, afterwards, hostBytes, liveHandles, reopened })
}

await { status, hold: () => hold(Number(argument)), lose }[mode]()
