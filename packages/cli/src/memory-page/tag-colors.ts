/** Hues (OKLCH, degrees) of what our own packages call their memory: far from each other. */
const knownHues: Readonly<Record<string, number>> = {
  weights: 255,
  kv_cache: 155,
  workspace: 65,
  runtime: 310,
  loading: 15,
  scratch: 100,
  slot: 200,
}

/**
 * A colour for a tag, the same in every trace and whatever other tags there are. Its lightness is the same for all, so
 * that black text on it can be read and both themes' backgrounds are away from it.
 */
export function tagColor(tag: string): string {
  const known = Object.hasOwn(knownHues, tag) ? knownHues[tag] : undefined
  const hash = hashOf(tag)
  const [hue, chroma] = known === undefined ? [hash % 360, 0.08 + ((hash >>> 16) % 3) * 0.03] : [known, 0.14]
  return `oklch(0.72 ${chroma.toFixed(2)} ${hue})`
}

// FNV-1a, and a last mix: names that differ in their last letter only are to differ in colour.
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
  return (hash ^ (hash >>> 13)) >>> 0
}
