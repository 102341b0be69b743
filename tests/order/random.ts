// Benchmarks draw from the same: a trace is the same bytes for tests and for what is published.
export { Random } from '../../bench/lib/random.mjs'
