interface OptionText {
  readonly help: string
  /** Name on the command line without dashes; default: the key in kebab-case. */
  readonly flag?: string
}

/** One option of a backend: flags, help, validation and types all come from it. */
export type OptionSpec = OptionText &
  (
    | {
        readonly type: 'integer' | 'number' | 'bytes'
        readonly default?: number
        readonly min?: number
        readonly max?: number
      }
    | { readonly type: 'string'; readonly default?: string }
    | { readonly type: 'names'; readonly default?: readonly string[] }
    | { readonly type: 'choice'; readonly choices: readonly string[]; readonly default: string }
    | { readonly type: 'flag'; readonly default: boolean }
  )

export type OptionSpecs = Readonly<Record<string, OptionSpec>>
