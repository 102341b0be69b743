// @ts-check
import { loadModel, openDevice } from './spillway.mjs'

/** @import { ConfiguredBackend } from '../../packages/core/dist/index.js' */
/** @import { Context } from './benchmark.ts' */
/** @import { ModelShape } from './model-shape.mjs' */

/**
 * @typedef {object} DummyModelOptions
 * @property {ConfiguredBackend} [offload] default: all weights on the device
 * @property {number} [memoryLimitBytes]
 * @property {number} [maxRows] tokens computed at once
 */

/**
 * A model of random weights on a device of its own, so that budget and counters are its own too. Dispose the model, then
 * the device.
 * @param {Context} context
 * @param {ModelShape} shape
 * @param {string} directory
 * @param {DummyModelOptions} [options]
 */
export async function openDummyModel(
  { device: name, signal, progress },
  shape,
  directory,
  { offload, memoryLimitBytes, maxRows } = {},
) {
  const device = await openDevice(name, memoryLimitBytes === undefined ? {} : { memoryLimitBytes })
  try {
    const model = await loadModel(directory, {
      device,
      loadFormat: 'dummy',
      contextLength: shape.contextLength,
      signal,
      ...(offload === undefined ? {} : { offload }),
      ...(maxRows === undefined ? {} : { maxRows }),
      onProgress: ({ phase, loadedBytes, totalBytes }) =>
        progress(`loading ${shape.title}: ${phase} ${Math.floor((100 * loadedBytes) / totalBytes)} %`),
    })
    return { device, model }
  } catch (error) {
    await device.dispose()
    throw error
  }
}
