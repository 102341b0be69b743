import { defineConfig } from 'tsup'

export default defineConfig({
  entry: ['src/index.ts'],
  format: ['esm'],
  target: 'node20',
  sourcemap: true,
  dts: false, // tsc makes the .d.ts: tsup's own way needs the JS API that TypeScript 7 does not have
  clean: ['!native/**', '!native-*/**'], // all but the addons, which are another task's output
})
