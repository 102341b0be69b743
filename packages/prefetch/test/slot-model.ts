import type { OffloadedModule, RandomForward } from './random-model.js'

export interface Read {
  /** `module.parameter` that owns the bytes. */
  readonly name: string
  readonly version: number
  readonly bytes: number
}

/** What the ring does by the rules in README.md: who is in each slot, with the bytes of when. */
export class SlotModel {
  readonly elements: readonly OffloadedModule[]
  readonly slotCount: number
  /** Of the bytes on the host, or on the device where they are resident. */
  readonly versions: Map<string, number>
  readonly #slots: { element: number; versions: Map<string, number> }[]
  copies = 0
  copiedBytes = 0

  /** Every slot holds its first element. */
  constructor(elements: readonly OffloadedModule[], prefetchStep: number, versions: ReadonlyMap<string, number>) {
    this.versions = new Map(versions)
    this.elements = elements
    this.slotCount = slotCount(elements, prefetchStep)
    this.#slots = Array.from({ length: this.slotCount }, () => ({ element: -1, versions: new Map() }))
    this.#restore()
  }

  /** Whether the module passes through a slot. */
  has(module: string): boolean {
    return this.elements.some(({ name }) => name === module)
  }

  get slotBytes(): number {
    return slotBytes(this.elements, this.slotCount)
  }

  #restore(): void {
    for (let k = 0; k < this.slotCount; k++) this.#put(k)
  }

  /** A forward, done now; `reads`: every read in order, as `module.parameter` of the owner. */
  forward({ visits, fails }: RandomForward, readsOf: (module: string) => readonly Omit<Read, 'version'>[]): Read[] {
    const seen: Read[] = []
    for (const [i, { module, reads }] of visits.entries()) {
      const element = this.elements.findIndex(({ name }) => name === module)
      if (element >= 0) this.#put(element)
      if (reads !== 'none') {
        const slot = element < 0 ? undefined : this.#slots[element % this.slotCount]
        for (const read of readsOf(module)) {
          seen.push({ ...read, version: slot?.versions.get(read.name) ?? this.versions.get(read.name)! })
        }
      }
      if (element < 0 || (fails === 'within' && i === visits.length - 1)) continue
      const next = element + this.slotCount
      this.#put(next < this.elements.length ? next : element % this.slotCount)
    }
    this.#restore()
    return seen
  }

  #put(element: number): void {
    const slot = this.#slots[element % this.slotCount]!
    if (slot.element === element) return
    slot.element = element
    const { name, parameters, slabBytes } = this.elements[element]!
    slot.versions = new Map(parameters.map((one) => [`${name}.${one.name}`, this.versions.get(`${name}.${one.name}`)!]))
    this.copies++
    this.copiedBytes += slabBytes
  }
}

const inPages = (bytes: number): number => Math.ceil(bytes / 4096) * 4096

function slotBytes(
  elements: readonly OffloadedModule[],
  count: number,
  taken = (bytes: number): number => bytes,
): number {
  const largest = Array.from({ length: count }, (_, k) =>
    Math.max(...elements.filter((_, i) => i % count === k).map(({ slabBytes }) => slabBytes)),
  )
  return largest.reduce((sum, bytes) => sum + taken(bytes), 0)
}

/** As many slots as steps, or the first larger number that takes fewer pages than all before. */
function slotCount(elements: readonly OffloadedModule[], prefetchStep: number): number {
  let best = Math.min(prefetchStep, elements.length)
  for (let count = best + 1; count <= elements.length; count++) {
    if (slotBytes(elements, count, inPages) < slotBytes(elements, best, inPages)) best = count
  }
  return best
}
