import type { TouchMode } from './abi-probe.js'

const mask = (1n << 64n) - 1n

function mix(value: bigint): bigint {
  let mixed = ((value ^ (value >> 30n)) * 0xbf58476d1ce4e5b9n) & mask
  mixed = ((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn) & mask
  return mixed ^ (mixed >> 31n)
}

/** What the kernel `touch` does (native/touch.cc), to bytes of JavaScript: slow, for some kilobytes. */
export function touched(ranges: readonly { bytes: Uint8Array; mode: TouchMode }[], seed = 0): void {
  let hash = mix(BigInt(seed))
  for (const { bytes, mode } of ranges) {
    if (mode !== 'write') {
      let sum = 0n
      for (const [i, byte] of bytes.entries()) sum += mix(BigInt(i * 256 + byte + 1))
      hash = mix(hash ^ (sum & mask))
    }
    if (mode === 'read') continue
    for (let i = 0; i < bytes.length; i++) bytes[i] = Number(mix((hash + BigInt(i)) & mask) >> 56n)
  }
}
