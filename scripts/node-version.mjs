// Imported first, by itself: an old Node must get this far, so no syntax or module newer than Node 12 here.
// The range is package.json's "engines".
export function nodeProblem(version) {
  const parts = version.split('.').map(Number)
  const enough = (parts[0] === 20 && parts[1] >= 19) || (parts[0] === 22 && parts[1] >= 12) || parts[0] > 22
  if (enough) return null
  return (
    'Node ' +
    version +
    ' does not run Spillway, which needs 20.19 or newer of 20, 22.12 or newer of 22, or later: ' +
    'install one from https://nodejs.org/en/download, or with `nvm install 22`.'
  )
}

/**
 * Loads `module`, which may use newer syntax, and runs its main(). When this Node is too old, ends the process, after
 * printing `lastLine` if there is one.
 */
export function start(module, lastLine) {
  const problem = nodeProblem(process.versions.node)
  if (problem) {
    console.error(problem)
    if (lastLine) console.log(lastLine)
    process.exit(1)
  }
  import(module).then((loaded) => loaded.main(process.argv.slice(2)))
}
