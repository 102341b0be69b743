// @ts-check
import { allocator } from './allocator.mjs'
import { decode } from './decode.mjs'
import { device } from './device.mjs'
import { load } from './load.mjs'
import { offload } from './offload.mjs'
import { overhead } from './overhead.mjs'
import { pinning } from './pinning.mjs'
import { prefill } from './prefill.mjs'
import { products } from './products.mjs'
import { schedule } from './schedule.mjs'
import { transformers } from './transformers.mjs'

/** @import { Benchmark } from '../lib/benchmark.ts' */

/** By name, in the order in which they run. @type {Readonly<Record<string, Benchmark>>} */
export const benchmarks = {
  device,
  pinning,
  allocator,
  products,
  offload,
  decode,
  prefill,
  schedule,
  overhead,
  transformers,
  load,
}
