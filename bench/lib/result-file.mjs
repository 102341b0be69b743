// @ts-check
import { existsSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

/** @import { RunResult } from './result.ts' */

/**
 * `2026-11-21-nvidia-h200-decode.json`. Of a whole run, `all`.
 * @param {Pick<RunResult, 'date' | 'hardware' | 'quick'>} result
 * @param {readonly string[]} names
 */
export function fileName({ date, hardware, quick }, names) {
  const machine = hardware.gpu?.name ?? 'host'
  const parts = [date.slice(0, 10), machine, ...names, ...(quick ? ['quick'] : [])]
  return `${parts
    .join('-')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')}.json`
}

/**
 * Where `--out` leads: a folder that is there, or a path that ends with a slash, gets a file of that name.
 * @param {string} out
 * @param {string} name
 */
export function outFile(out, name) {
  const isFolder = out.endsWith('/') || (existsSync(out) && statSync(out).isDirectory())
  return isFolder ? join(resolve(out), name) : resolve(out)
}

/**
 * In one step: whoever reads it finds a whole one.
 * @param {string} file
 * @param {RunResult} result
 */
export function writeResult(file, result) {
  mkdirSync(dirname(file), { recursive: true })
  const partial = `${file}.${process.pid}`
  writeFileSync(partial, `${JSON.stringify(result, null, 2)}\n`)
  renameSync(partial, file)
}
