export declare const heldOutFraction: number
export declare function trainingText(): string
export declare function heldOut(): string
export declare function wordsOf(text: string): string[]
export declare function bookWords(): Set<string>
export declare function sha256(text: string): string
