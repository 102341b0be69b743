// A vitest reporter that writes what test-run.mjs counts to the file named in SPILLWAY_TEST_COUNTS.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

export default class CountReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const counts = { passed: 0, failed: 0, skipped: 0, cuda: 0 }
    for (const module of modules) {
      let failedTests = 0
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') {
          counts.passed++
          if (/\.cuda\.test\.ts$/.test(module.moduleId)) counts.cuda++
        } else if (state === 'skipped') counts.skipped++
        // 'pending' after the end: the process of this file died before it got there.
        else failedTests++
      }
      // A file that does not load, or a hook that throws, fails without a failed test.
      counts.failed += failedTests === 0 && !module.ok() ? 1 : failedTests
    }
    counts.failed += unhandledErrors.length
    const file = process.env.SPILLWAY_TEST_COUNTS
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, JSON.stringify(counts))
  }
}
