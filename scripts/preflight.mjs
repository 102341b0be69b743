// What this machine lacks before anything is installed or built. Pure: facts in (see probes.mjs), problems out,
// all of them at once.

/** The oldest that build the addons. */
export const OLDEST = { gcc: 11, clang: 14, cmake: [3, 22] }

/**
 * What a system calls the packages, and how they are installed there.
 * @type {Record<string, { install: string, superuser: boolean, packages: Record<'compiler' | 'staticLibrary' | 'cmake' | 'make', string> }>}
 */
const SYSTEMS = {
  debian: {
    install: 'apt-get install',
    superuser: true,
    packages: { compiler: 'g++', staticLibrary: 'g++', cmake: 'cmake', make: 'make' },
  },
  fedora: {
    install: 'dnf install',
    superuser: true,
    // -static-libstdc++ needs a package of its own there
    packages: { compiler: 'gcc-c++ libstdc++-static', staticLibrary: 'libstdc++-static', cmake: 'cmake', make: 'make' },
  },
  arch: {
    install: 'pacman -S',
    superuser: true,
    packages: { compiler: 'gcc', staticLibrary: 'gcc', cmake: 'cmake', make: 'make' },
  },
  alpine: {
    install: 'apk add',
    superuser: true,
    packages: { compiler: 'g++', staticLibrary: 'g++', cmake: 'cmake', make: 'make' },
  },
  macos: {
    install: 'brew install',
    superuser: false,
    packages: { compiler: 'llvm', staticLibrary: 'llvm', cmake: 'cmake', make: 'make' },
  },
}
const LABELS = { debian: 'Debian, Ubuntu', fedora: 'Fedora', arch: 'Arch', alpine: 'Alpine', macos: 'macOS' }

/** @typedef {{ command: string, family: 'gcc' | 'clang' | 'unknown', major: number, works: boolean, worksStatically: boolean, output: string }} Compiler */
/**
 * `undefined` means: not needed now, so not asked.
 * @typedef {object} Facts
 * @property {string} platform Node's process.platform
 * @property {string | null} system a key of SYSTEMS, or null when the system is another one
 * @property {boolean} superuser
 * @property {string | null} [namedCompiler] the user's CXX
 * @property {Compiler | null} [compiler] null: none found
 * @property {string | null} [cmake] its version; null: none found
 * @property {'ninja' | 'make' | null} [buildTool]
 * @property {boolean} [npm]
 * @property {{ reachable: boolean, url: string, detail: string }} [registry]
 */
/** @typedef {{ sentence: string, commands: string[], needs: Array<'compiler' | 'staticLibrary' | 'cmake' | 'make'>, system: string | null, superuser: boolean }} Problem */

/** @param {Facts} facts @returns {Problem[]} */
export function findProblems(facts) {
  const problems = []
  const add = (sentence, needs, commands) => {
    const { system, superuser } = facts
    problems.push({
      sentence,
      needs,
      commands: commands ?? installCommands(system, superuser, needs),
      system,
      superuser,
    })
  }
  if (facts.platform !== 'linux') {
    add('Spillway runs on Linux only today: its host device keeps device memory in Linux memory files (memfd).', [], [])
  }
  if (facts.compiler !== undefined) checkCompiler(facts, add)
  if (facts.cmake === null) add('cmake was not found; the addons are built with cmake 3.22 or newer.', ['cmake'])
  else if (facts.cmake !== undefined && olderThan(facts.cmake, OLDEST.cmake)) {
    add(
      `cmake ${facts.cmake} is too old; the addons need 3.22 or newer. Where the system has no newer one, use pipx.`,
      ['cmake'],
    )
    problems.at(-1).commands.push('pipx install cmake')
  }
  if (facts.buildTool === null) add('Neither make nor ninja was found; cmake needs one of them.', ['make'])
  if (facts.npm === false) {
    add(
      'npm was not found; it comes with Node and fetches the tools.',
      [],
      ['install Node with npm from https://nodejs.org/en/download'],
    )
  }
  if (facts.registry && !facts.registry.reachable) {
    add(
      `The npm registry${facts.registry.url ? ` at ${withoutCredentials(facts.registry.url)}` : ''} could not be reached` +
        `${facts.registry.detail ? ` (${facts.registry.detail})` : ''}; packages must be fetched from it once. ` +
        'Check the connection, or tell npm about your mirror, proxy or certificates:',
      [],
      ['npm config set registry URL', 'npm config set https-proxy URL', 'npm config set cafile FILE'],
    )
  }
  return problems
}

function checkCompiler({ compiler, namedCompiler }, add) {
  const oldest = `g++ ${OLDEST.gcc} or clang++ ${OLDEST.clang}`
  if (compiler === null) {
    if (namedCompiler) add(`The compiler named in CXX, ${namedCompiler}, was not found.`, ['compiler'])
    else
      add(`No C++ compiler was found (looked for c++, g++ and clang++); the addons need ${oldest}, or newer.`, [
        'compiler',
      ])
    return
  }
  const { family, major, command } = compiler
  if (family !== 'unknown' && major < OLDEST[family]) {
    add(
      `The C++ compiler ${command} is ${family === 'gcc' ? 'g++' : 'clang++'} ${major}; the addons need ${oldest}, or newer. ` +
        'If a newer one has another name, set it: CXX=g++-12 npm test.',
      ['compiler'],
    )
  } else if (!compiler.works) {
    add(`The C++ compiler ${command} cannot build a C++20 program: ${firstError(compiler.output)}.`, ['compiler'])
  } else if (!compiler.worksStatically) {
    add(`The C++ compiler ${command} has no static C++ library, which the addons are linked with.`, ['staticLibrary'])
  }
}

/** @returns {string[]} one command for a known system, else one for each */
function installCommands(system, superuser, needs) {
  const names = system ? [system] : Object.keys(SYSTEMS)
  return names.map((name) => {
    const { install, superuser: asRoot, packages } = SYSTEMS[name]
    const unique = [...new Set(needs.flatMap((need) => packages[need].split(' ')))]
    const command = `${asRoot && !superuser ? 'sudo ' : ''}${install} ${unique.join(' ')}`
    return system ? command : `${command}   (${LABELS[name]})`
  })
}

/** The text for people. @param {Problem[]} problems */
export function formatProblems(problems) {
  const lines = ['This machine is not ready yet:']
  for (const { sentence, commands } of problems) {
    lines.push(`  * ${sentence}`, ...commands.map((command) => `      ${command}`))
  }
  const installable = problems.filter(({ needs }) => needs.length > 0)
  if (installable.length > 1) {
    const { system, superuser } = installable[0]
    lines.push(
      '  All of it at once:',
      ...installCommands(
        system,
        superuser,
        installable.flatMap(({ needs }) => needs),
      ).map((command) => `      ${command}`),
    )
  }
  return lines.join('\n')
}

/** A key of SYSTEMS for process.platform and the text of /etc/os-release. */
export function systemOf(platform, osRelease) {
  if (platform === 'darwin') return 'macos'
  const words = [...osRelease.matchAll(/^ID(?:_LIKE)?=(.*)$/gm)].flatMap(([, value]) =>
    value.replace(/["']/g, '').split(' '),
  )
  const known = {
    debian: 'debian',
    ubuntu: 'debian',
    fedora: 'fedora',
    rhel: 'fedora',
    centos: 'fedora',
    arch: 'arch',
    alpine: 'alpine',
  }
  return words.map((word) => known[word]).find(Boolean) ?? null
}

function olderThan(version, oldest) {
  const [major, minor] = version.split('.').map(Number)
  return major < oldest[0] || (major === oldest[0] && minor < oldest[1])
}

function firstError(output) {
  const lines = output.trim().split('\n')
  return (lines.find((line) => /error/i.test(line)) ?? lines[0] ?? '').trim().slice(0, 200) || 'no reason was given'
}

function withoutCredentials(url) {
  return url.replace(/\/\/[^/@]*@/, '//')
}
