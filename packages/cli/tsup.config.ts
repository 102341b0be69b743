import { defineConfig } from 'tsup'
import base from '../../tsup.base.js'

export default defineConfig([
  { ...base, entry: ['src/cli.ts'], clean: ['!memory-page/**'] },
  {
    // What runs in a browser, for memory-page.ts to put into its page.
    entry: { 'memory-page/page': 'src/memory-page/browser/page.ts' },
    format: ['esm'],
    target: 'es2022',
    platform: 'browser',
    minify: true,
    dts: false,
    clean: false, // the one above does, and both run at once
  },
])
