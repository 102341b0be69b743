// What is left of devices, and of a process that had some.
import { readdirSync, readlinkSync } from 'node:fs'

/** A device that was disposed answers nothing any more. */
export function isEnded(device) {
  try {
    device.counters()
    return false
  } catch {
    return true
  }
}

/** What a device still counts; empty: nothing. */
export function whatIsLeft(device) {
  try {
    const { liveHandles, mappedBytes, pinnedBytes, pageableBytes } = device.counters()
    const all = { ...liveHandles, mappedBytes, pinnedBytes, pageableBytes, usedBytes: device.budget.usedBytes }
    return Object.entries(all)
      .filter(([, count]) => count !== 0)
      .map(([what, count]) => `${what}: ${count}`)
      .join(', ')
  } catch {
    return ''
  }
}

/** Memory files of devices that this process has open. */
export function memoryFiles() {
  let count = 0
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${name}`).startsWith('/memfd:spillway-')) count++
    } catch {
      // The descriptor that lists the folder is gone by now.
    }
  }
  return count
}

/** Whether `done` within `limitMs`; `collect`: with the garbage collector's help. */
export async function until(done, limitMs, collect = false) {
  for (const start = performance.now(); performance.now() - start < limitMs; ) {
    if (collect) globalThis.gc()
    if (done()) return true
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  return false
}
