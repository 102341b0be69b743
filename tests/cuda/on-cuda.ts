import { cudaStatus, type NativeDevice, type OpenDeviceOptions, openDevice } from '@spillway/device'
import { afterAll, describe, expect } from 'vitest'
import { expectNothingLeft } from '../../packages/device/test/device-rig.js'

const { available } = cudaStatus()

/** `describe` for tests that need an NVIDIA GPU. Without one they are skipped, or fail when SPILLWAY_REQUIRE_CUDA=1. */
export const describeOnCuda = describe.skipIf(!available && process.env.SPILLWAY_REQUIRE_CUDA !== '1')

/** What a GPU cannot prove: who judges order, makes orders up, and fails when told, is the host device. */
export const cudaAbilities = { check: false, adversarial: false, failures: false }

let first: NativeDevice | undefined

/** Beside a device that stays open: with the last one goes the driver's context, which takes half a second to make. */
export async function openCuda(options: OpenDeviceOptions = {}): Promise<NativeDevice> {
  first ??= await openDevice('cuda')
  return openDevice('cuda', options)
}

afterAll(() => first?.dispose())

/** With a device of its own, on which `body` leaves nothing. */
export async function onCuda(body: (device: NativeDevice) => Promise<void>): Promise<void> {
  const device = await openCuda()
  try {
    await body(device)
    await expect.poll(() => Object.values(device.counters().liveHandles).every((count) => count === 0)).toBe(true)
    expectNothingLeft(device)
  } finally {
    await device.dispose()
  }
}

/** PTX of `add_one(uint32_t* data, uint32_t count)`, for threads in one dimension. */
export const addKernel = `.version 7.0
.target sm_80
.address_size 64
.visible .entry add_one(.param .u64 data, .param .u32 count)
{
  .reg .pred %outside;
  .reg .b32 %i, %block, %size, %thread, %count, %value;
  .reg .b64 %data, %at;
  ld.param.u64 %data, [data];
  ld.param.u32 %count, [count];
  mov.u32 %block, %ctaid.x;
  mov.u32 %size, %ntid.x;
  mov.u32 %thread, %tid.x;
  mad.lo.u32 %i, %block, %size, %thread;
  setp.ge.u32 %outside, %i, %count;
  @%outside ret;
  cvta.to.global.u64 %data, %data;
  mul.wide.u32 %at, %i, 4;
  add.u64 %at, %data, %at;
  ld.global.u32 %value, [%at];
  add.u32 %value, %value, 1;
  st.global.u32 [%at], %value;
  ret;
}
`
