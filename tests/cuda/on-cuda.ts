import { cudaStatus, type NativeDevice, type OpenDeviceOptions, openDevice } from '@spillway/device'
import { afterAll, describe } from 'vitest'

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
