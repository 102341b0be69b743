// `spillway run --explain --trace` on a GPU, as packages/cli/test/explain.test.ts has it on the host device.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { spillway } from '../../packages/cli/test/command.js'
import type { ExplainedRun, Span } from '../../packages/cli/test/explained-run.js'
import { describeOnCuda } from './on-cuda.js'

const scratch = mkdtempSync(join(tmpdir(), 'spillway-explain-cuda-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

describeOnCuda('run --explain --trace', () => {
  test('the plan, what was measured, and a trace of the same tokens', async () => {
    const path = join(scratch, 'run.json')
    const words = ['run', '--device', 'cuda', '--json', '--context-length', '128', '--seed', '5', '--max-tokens', '40']
    words.push('--offload-backend', 'prefetch', '--offload-group-size', '1')
    const plain = JSON.parse((await spillway(words)).stdout) as ExplainedRun
    const { status, stdout } = await spillway([...words, '--explain', '--trace', path])
    expect(status).toBe(0)
    const { tokens, stats, explanation } = JSON.parse(stdout) as ExplainedRun
    expect(tokens).toEqual(plain.tokens)
    const { before, after, limits } = explanation
    expect(limits.deviceBytesPerSecond).toBeGreaterThan(limits.linkBytesPerSecond)
    expect(before.memory.hostBytes).toBe(stats.offloadedBytes)
    const linkMs = (1000 * stats.offloadedBytes) / limits.linkBytesPerSecond
    for (const { predictedStepMs } of [before, after!]) expect(predictedStepMs).toBeGreaterThan(0.999 * linkMs)
    expect(after!.measuredStepMs).toBeGreaterThan(0)

    const { traceEvents } = JSON.parse(readFileSync(path, 'utf8')) as { traceEvents: Span[] }
    const spans = traceEvents.filter(({ ph }) => ph === 'X')
    for (const { module, bytes } of stats.onloads!.modules) {
      const copies = spans.filter(({ cat, args }) => cat === 'copy' && args.module === module)
      expect(copies.length, module).toBeGreaterThan(0)
      for (const { args } of copies) expect(args.bytes).toBe(bytes)
      expect(after!.modules.find((one) => one.module === module)!.measured!.linkMs).toBeGreaterThan(0)
    }
    const computed = new Set(spans.filter(({ cat }) => cat === 'compute').map(({ args }) => args.module))
    expect([...computed].sort()).toEqual(before.modules.map(({ module }) => module).sort())
  })
})
