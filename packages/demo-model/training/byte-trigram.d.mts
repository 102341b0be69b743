export declare function byteTrigramBitsPerByte(trainingText: string, testText: string): number
