import { type Device, SpillwayError } from '@spillway/core'
import { handleOf } from '@spillway/device'
import type { KernelOperations, LinearEntry } from './kernel-addon.js'

export interface MatrixLibraryOptions {
  /**
   * A GPU whose matrix library may compute products of many rows with bf16 weights, several times faster than the
   * decoder's own kernels. Default: no library.
   */
  readonly device?: Device
  /**
   * Which library: `auto` (the default) is cuBLASLt where the system finds one, `none` is none, all else a name or path
   * for the system's loader. Throws SPILLWAY_NOT_SUPPORTED when that cannot be used.
   */
  readonly matrixLibrary?: string
}

export interface MatrixLibraryChoice {
  /** The addon's number for it; absent: none. */
  readonly library?: number
  /** Who computes products of many rows, and why. */
  readonly description: string
}

const cublasLt: readonly string[] = [
  ...['libcublasLt.so.13', 'libcublasLt.so.12'],
  // Where the toolkit installs itself, without telling the system's loader.
  ...['/usr/local/cuda/lib64/libcublasLt.so.13', '/usr/local/cuda/lib64/libcublasLt.so.12'],
]

/**
 * Opens it, or says why not. `linear`: that entry point was asked for by name, and computes everything. Throws
 * SPILLWAY_INVALID_ARGUMENT, SPILLWAY_NOT_SUPPORTED.
 */
export function chooseMatrixLibrary(
  operations: KernelOperations,
  { device, linear, matrixLibrary: wanted = 'auto' }: MatrixLibraryOptions & { readonly linear?: LinearEntry },
): MatrixLibraryChoice {
  if (typeof wanted !== 'string' || wanted === '') {
    throw new SpillwayError(
      'SPILLWAY_INVALID_ARGUMENT',
      `matrixLibrary must be auto, none, or a library's name or path, it is ${JSON.stringify(wanted)}`,
    )
  }
  if (device === undefined || wanted === 'none' || linear !== undefined) {
    return { description: 'own kernels: no library was asked for' }
  }
  const opened =
    device.type === 'cuda'
      ? operations.openMatrixLibrary(handleOf(device), wanted === 'auto' ? cublasLt : [wanted])
      : { reason: 'the device is no NVIDIA GPU' }
  if ('number' in opened) return { library: opened.number, description: opened.description }
  if (wanted !== 'auto') {
    throw new SpillwayError(
      'SPILLWAY_NOT_SUPPORTED',
      `the matrix library ${wanted} cannot be used (${opened.reason}): give another path, or leave matrixLibrary out`,
    )
  }
  return { description: `own kernels: ${opened.reason}` }
}
