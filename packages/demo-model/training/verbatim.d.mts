export declare function longestVerbatimSpan(sample: string): string
