// What a run leaves behind as JSON. A type for readers and writers; nothing loads this file.

/** One run: some benchmarks, one after another, in one process. */
export interface RunResult {
  /** Raised when a reader of the old one would read the new one wrongly. */
  readonly schemaVersion: 1
  /** When it began, ISO 8601. */
  readonly date: string
  /** null: unknown. `dirty`: with changes that no commit holds. */
  readonly commit: { readonly id: string; readonly dirty: boolean } | null
  /** Small sizes and few samples: shows that the harness works, says nothing about speed. */
  readonly quick: boolean
  readonly hardware: Hardware
  /** Of node and what else took part. */
  readonly versions: Readonly<Record<string, string>>
  readonly benchmarks: readonly BenchmarkResult[]
}

export interface Hardware {
  readonly device: 'host' | 'cuda'
  /** null on the host device. */
  readonly gpu: Gpu | null
  readonly cpu: { readonly model: string; readonly threads: number }
  readonly memoryBytes: number
  readonly system: string
}

export interface Gpu {
  readonly name: string
  readonly totalBytes: number
  /** `9.0` */
  readonly computeCapability: string
  /** `13.0`: what the driver can do. */
  readonly cuda: string
  /** `580.159.03`; null where nothing tells. */
  readonly driver: string | null
}

export interface BenchmarkResult {
  readonly name: string
  readonly parameters: Readonly<Record<string, string | number | boolean>>
  readonly figures: readonly Figure[]
  /** Proof that what was timed was done. One that failed makes the run fail. */
  readonly checks: readonly Check[]
  /** What was left out, and why. */
  readonly notes: readonly string[]
  /** What broke it off; the figures are those measured before. */
  readonly error?: string
}

/** times: one number of bytes, or the like, divided by another. */
export type Unit = 'bytes/s' | 'tokens/s' | 's' | 'bytes' | 'times'

export interface Figure {
  /** Unique in its benchmark. */
  readonly name: string
  readonly unit: Unit
  /** In the order in which they were taken. */
  readonly samples: readonly number[]
  readonly median: number
  readonly min: number
  readonly max: number
  readonly against?: Against
  /** median / against.value */
  readonly ratio?: number
}

/** What a figure is held against: another figure of the same benchmark, interleaved with it. */
export interface Against {
  readonly kind: 'limit' | 'peer' | 'cap' | 'prediction'
  /** The other figure's name. */
  readonly figure: string
  /** How much of the other's unit one of this figure's needs: bytes a token. 1 when the units are the same. */
  readonly per: number
  /** The other's median / per: in this figure's unit. */
  readonly value: number
}

export interface Check {
  readonly name: string
  readonly passed: boolean
  readonly detail: string
}
