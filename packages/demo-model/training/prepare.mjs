#!/usr/bin/env node
// Writes the texts that train.py reads: node prepare.mjs [--addresses] FOLDER
// Every text is checked against data.json, so that a later training starts from the same bytes or stops here.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { heldOut, sha256, trainingText } from './book.mjs'

const expected = JSON.parse(readFileSync(new URL('data.json', import.meta.url), 'utf8'))

/** The book's two parts, each as promised by data.json; throws when either differs. */
export function checkedBook() {
  return { training: checked('training', trainingText()), heldOut: checked('heldOut', heldOut()) }
}

/**
 * Presidents' addresses to Congress of 1790 to 1912, one a paragraph: more prose of the book's century, for the first
 * part of the training. Fetched with npm when asked for: the tests need the book alone, and this package is 22 MB.
 */
function checkedAddresses() {
  const folder = mkdtempSync(join(tmpdir(), 'addresses-'))
  try {
    // On Windows npm is a script, which only a shell starts; the arguments are constants.
    const shell = process.platform === 'win32'
    execFileSync('npm', ['pack', '--silent', expected.addresses.package], { cwd: folder, shell, stdio: 'pipe' })
    const archive = readdirSync(folder).find((name) => name.endsWith('.tgz'))
    execFileSync('tar', ['-xzf', archive], { cwd: folder })
    const data = join(folder, 'package', 'data')
    const texts = readdirSync(data)
      .filter((name) => /^\d{4}_.*\.txt$/.test(name) && Number(name.slice(0, 4)) <= 1912)
      .sort()
      .map((name) => asTheBookPrints(readFileSync(join(data, name), 'utf8')))
    return checked('addresses', texts.join('\n\n'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Quotation marks and dashes as the book has them; otherwise what is learned of them here is lost there. */
function asTheBookPrints(text) {
  return text
    .replaceAll(/\s+/g, ' ')
    .trim()
    .replaceAll('--', '—')
    .replaceAll(/(^|[\s(—])"/g, '$1“')
    .replaceAll('"', '”')
    .replaceAll(/(^|[\s(“—])'/g, '$1‘')
    .replaceAll("'", '’')
}

function checked(name, text) {
  const found = { bytes: Buffer.byteLength(text), sha256: sha256(text) }
  if (found.bytes !== expected[name].bytes || found.sha256 !== expected[name].sha256) {
    throw new Error(
      `the text '${name}' has ${found.bytes} bytes and SHA-256 ${found.sha256}, data.json has ${expected[name].bytes} ` +
        `and ${expected[name].sha256}: install ${expected[name].package} exactly`,
    )
  }
  return text
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({ options: { addresses: { type: 'boolean' } }, allowPositionals: true })
  const folder = positionals[0]
  if (folder === undefined || positionals.length > 1) {
    console.error('usage: node prepare.mjs [--addresses] FOLDER')
    process.exit(2)
  }
  mkdirSync(folder, { recursive: true })
  const texts = { 'training.txt': checkedBook().training, 'held-out.txt': checkedBook().heldOut }
  if (values.addresses) texts['addresses.txt'] = checkedAddresses()
  for (const [name, text] of Object.entries(texts)) {
    writeFileSync(join(folder, name), text)
    console.log(`${name}: ${Buffer.byteLength(text)} bytes`)
  }
}
