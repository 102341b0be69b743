// @ts-check
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, type } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cudaStatus, systemMemory } from './spillway.mjs'

/** @import { Gpu, Hardware, RunResult } from './result.ts' */

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/**
 * @param {'host' | 'cuda'} device
 * @returns {Hardware}
 */
export function describeHardware(device) {
  return {
    device,
    gpu: device === 'cuda' ? describeGpu() : null,
    cpu: { model: cpus()[0]?.model.trim() || 'unknown', threads: availableParallelism() },
    memoryBytes: systemMemory().totalBytes,
    // What comes after the numbers names the machine more than the system.
    system: `${type()} ${/^[\d.]*\d/.exec(release())?.[0] ?? ''}`,
  }
}

/** @returns {Gpu} */
function describeGpu() {
  const {
    gpus: [gpu],
    driverVersion,
    reason,
  } = cudaStatus()
  if (gpu === undefined) throw new Error(`there is no GPU: ${reason}`)
  const { name, totalBytes, computeCapability } = gpu
  return {
    name,
    totalBytes,
    computeCapability: `${Math.floor(computeCapability / 10)}.${computeCapability % 10}`,
    cuda: `${Math.floor(driverVersion / 1000)}.${(driverVersion % 1000) / 10}`,
    driver: driverRelease(),
  }
}

/** The driver says what CUDA it can do, not which release it is. */
function driverRelease() {
  try {
    const text = readFileSync('/proc/driver/nvidia/version', 'utf8')
    const found = /\b\d{3}\.\d+(?:\.\d+)?\b/.exec(text)
    if (found) return found[0]
  } catch {
    // Some virtual machines hide that file.
  }
  return ask('nvidia-smi', ['--query-gpu=driver_version', '--format=csv,noheader'])?.split('\n')[0] ?? null
}

/**
 * SPILLWAY_BENCH_COMMIT, as `git describe --always --abbrev=40 --dirty` prints it, for copies of the tree without git;
 * else what git says.
 * @returns {RunResult['commit']}
 */
export function describeCommit() {
  const given = process.env.SPILLWAY_BENCH_COMMIT || ask('git', ['rev-parse', 'HEAD'])
  if (!given) return null
  const id = given.replace(/-dirty$/, '')
  const changed = process.env.SPILLWAY_BENCH_COMMIT ? id !== given : Boolean(ask('git', ['status', '--porcelain']))
  return { id, dirty: changed }
}

/**
 * @param {string} command
 * @param {string[]} args
 */
function ask(command, args) {
  try {
    return execFileSync(command, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return null
  }
}
