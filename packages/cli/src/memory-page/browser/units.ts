const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** Three digits: 512 bytes, 1.50 MiB, 20 MiB, 139 GiB. */
export function showBytes(bytes: number): string {
  const exponent = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  const value = bytes / 1024 ** exponent
  const digits = Number.isInteger(value) || value >= 1000 ? 0 : value < 10 ? 2 : value < 100 ? 1 : 0
  return `${value.toFixed(digits)} ${units[exponent]}`
}

export function showExactBytes(bytes: number): string {
  return `${bytes.toLocaleString('en')} bytes`
}

export function showShare(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}

export function showMs(ms: number): string {
  if (ms < 10) return `${ms.toFixed(3)} ms`
  return ms < 1000
    ? `${ms.toFixed(0)} ms`
    : ms < 120_000
      ? `${(ms / 1000).toFixed(2)} s`
      : `${(ms / 60_000).toFixed(1)} min`
}

/** In hexadecimal, as debuggers show addresses. */
export function showAddress(address: number): string {
  return `0x${address.toString(16)}`
}

/** A name, or what stands for the empty one. */
export function showPool(name: string): string {
  return name === '' ? 'no pool' : `pool ${name}`
}

export function showTag(name: string): string {
  return name === '' ? 'no tag' : name
}
