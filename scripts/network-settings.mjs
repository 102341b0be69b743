// How the user reaches the npm registry: registry, proxy, certificates, credentials.
//
// npm hands its settings to scripts as npm_config_* variables. Most of them must not reach the tools started from here
// (npm test --silent would silence them too), but those about the network must. pnpm 12 reads ~/.npmrc, but neither
// npm_config_* nor npm's global npmrc, does not expand a `~/` in cafile, and takes certificates from the environment
// only through NODE_EXTRA_CA_CERTS: so npm is asked for what is in force, and pnpm gets it in its own words.
import { readFileSync, writeFileSync } from 'node:fs'

const NETWORK = new Set([
  'registry',
  'proxy',
  'http-proxy',
  'https-proxy',
  'noproxy',
  'no-proxy',
  'ca',
  'cafile',
  'cert',
  'key',
  'strict-ssl',
  'local-address',
  'maxsockets',
  'fetch-retries',
  'fetch-retry-factor',
  'fetch-retry-mintimeout',
  'fetch-retry-maxtimeout',
  'fetch-timeout',
  // where npm's other settings, and what it downloaded before, are
  'userconfig',
  'globalconfig',
  'cache',
])

/** The setting an npm_config_* variable stands for, or null. Host and scope settings keep their spelling, as in npm. */
export function settingOf(variable) {
  const match = /^npm_config_(.+)$/i.exec(variable)
  if (!match) return null
  const name = match[1]
  return name.startsWith('//') || name.startsWith('@') ? name : name.toLowerCase().replace(/(?!^)_/g, '-')
}

function isNetwork(setting) {
  return NETWORK.has(setting) || setting.startsWith('//') || setting.startsWith('@')
}

/** `env` without what npm adds for its scripts, except the network settings. */
export function withoutNpmSettings(env) {
  const kept = {}
  for (const [name, value] of Object.entries(env)) {
    const setting = settingOf(name)
    if (
      setting === null ? /^npm_(package|lifecycle|command|node_execpath|execpath)/i.test(name) : !isNetwork(setting)
    ) {
      continue
    }
    // npm always sets npm_config_noproxy, mostly to nothing.
    if (setting !== null && value === '') continue
    kept[name] = value
  }
  return kept
}

/**
 * Variables that make pnpm reach the registry the way npm would.
 * `settings`: `npm config list --json`, which leaves out whatever holds credentials. `env`: what the scripts run in.
 * `globalConfig`: the text of npm's global npmrc. `saveCertificates`: writes PEM text to a file and returns its path.
 */
export function pnpmNetworkEnvironment({ settings, env, globalConfig = '', saveCertificates }) {
  // Credentials go through the environment, never through a file of ours; pnpm reads the user's npmrc itself.
  const unmasked = new Map(npmrcEntries(globalConfig, env))
  for (const [name, value] of Object.entries(env)) {
    const setting = settingOf(name)
    if (setting !== null) unmasked.set(setting, value)
  }
  const effective = (setting) => (setting in settings ? settings[setting] : unmasked.get(setting))

  /** @type {Record<string, string>} */
  const out = {}
  const registry = effective('registry')
  if (registry) out.pnpm_config_registry = registry
  if (effective('https-proxy')) out.pnpm_config_https_proxy = effective('https-proxy')
  if (effective('proxy')) out.pnpm_config_proxy = effective('proxy')
  const noProxy = [effective('noproxy') ?? []].flat().filter(Boolean).join(',')
  if (noProxy) out.pnpm_config_noproxy = noProxy
  if (effective('strict-ssl') === false) out.pnpm_config_strict_ssl = 'false'
  if (effective('local-address')) out.pnpm_config_local_address = effective('local-address')
  if (settings.userconfig) out.NPM_CONFIG_USERCONFIG = settings.userconfig
  for (const setting of new Set([...Object.keys(settings), ...unmasked.keys()])) {
    const value = effective(setting)
    if (typeof value === 'string' && /^(\/\/|@[^:]+:registry$)/.test(setting)) out[`pnpm_config_${setting}`] = value
  }

  const files = [settings.cafile, env.NODE_EXTRA_CA_CERTS].filter(Boolean)
  const inline = [settings.ca ?? []].flat().filter(Boolean)
  if (settings.cafile || inline.length > 0) {
    const texts = [...new Set(files)].map(readIfThere)
    out.NODE_EXTRA_CA_CERTS = saveCertificates([...texts, ...inline].join('\n'))
  }
  return out
}

/** Writes certificates (public text) to `file`; returns the path. */
export function saveCertificatesTo(file) {
  return (pem) => {
    writeFileSync(file, `${pem.trim()}\n`)
    return file
  }
}

/** The text of a file, or '' when it cannot be read: npm then works without it, too. */
export function readIfThere(file) {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

/** The `name = value` lines of an npmrc, with its ${NAME} replaced. */
function npmrcEntries(text, env) {
  const lines = text.split(/\r?\n/).map((line) => /^\s*([^#;=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line))
  return lines.filter(Boolean).map(([, name, value]) => {
    const plain = value.replace(/^(["'])(.*)\1$/, '$2')
    return [name, plain.replace(/\$\{([^}]+)\}/g, (whole, variable) => env[variable] ?? whole)]
  })
}
