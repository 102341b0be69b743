/** Whether this is the nightly run (`npm run test:nightly`): the long versions of the tests. */
export const nightly: boolean = process.env.SPILLWAY_NIGHTLY === '1'

/** How many rounds a test runs: `representative` in `npm test`, `long` in the nightly run. */
export function rounds(representative: number, long: number): number {
  return nightly ? long : representative
}
