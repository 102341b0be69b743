import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const packages = fileURLToPath(new URL('./packages', import.meta.url))

export default defineConfig({
  test: {
    include: ['packages/*/test/**/*.test.ts', 'tests/**/*.test.ts'],
    // One child process per test file. Worker threads would share one copy of each addon, lose setenv()
    // (process.env is a copy there), and crash all together.
    pool: 'forks',
    // The host device starts threads of its own: more workers than this would only take turns on the cores.
    maxWorkers: Math.min(4, availableParallelism()),
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The tests see the sources, so coverage and stack traces need no source maps.
    alias: [
      { find: /^@spillway\/([a-z-]+)$/, replacement: `${packages}/$1/src/index.ts` },
      { find: /^@spillway\/([a-z-]+)\/([a-z-]+)$/, replacement: `${packages}/$1/src/$2.ts` },
    ],
    coverage: { provider: 'v8', include: ['packages/*/src/**/*.ts'], reporter: ['text', 'json-summary'] },
  },
})
