export declare function checkedBook(): { training: string; heldOut: string }
export declare function checkedAddresses(): string
