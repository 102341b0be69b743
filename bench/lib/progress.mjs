// @ts-check
/** What is being done, on stderr: drawn over itself on a terminal, left out where nobody watches it. */
export class Progress {
  #prefix = ''

  /** @param {string} prefix of what `show` gets */
  begin(prefix) {
    this.#prefix = prefix
    if (!process.stderr.isTTY) process.stderr.write(`${prefix} …\n`)
  }

  /** @param {string} text */
  show(text) {
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${this.#prefix}: ${text}`)
  }

  end() {
    if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
  }
}
