export interface SampleDescription {
  words: number
  wordsOfTheBook: number
  longestVerbatimSpan: string
  longestVerbatimSpanCharacters: number
}

export interface Evaluation {
  bounds: { bitsPerByte: number; wordsOfTheBook: number }
  model: {
    heldOutBytes: number
    heldOutTokens: number
    windowTokens: number
    bitsPerByte: number
  }
  samples: { seed: number; temperature: number; count: number; tokens: number } & SampleDescription
  byteTrigramBitsPerByte: number
}

export declare function readEvaluation(): Evaluation
export declare function committedSamples(): string[]
export declare function describeSamples(texts: string[]): SampleDescription
