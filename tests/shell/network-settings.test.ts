import { expect, test } from 'vitest'
import { pnpmNetworkEnvironment, withoutNpmSettings } from '../../scripts/network-settings.mjs'

test('npm’s own variables are dropped, the network settings among them are kept', () => {
  const network = {
    npm_config_registry: 'https://mirror.example/',
    NPM_CONFIG_HTTPS_PROXY: 'http://proxy.example:3128',
    npm_config_noproxy: 'intranet.example',
    npm_config_cafile: '/etc/ca.pem',
    npm_config_strict_ssl: 'false',
    'npm_config_//mirror.example/:_authToken': 'secret',
    'npm_config_@scope:registry': 'https://scope.example/',
    npm_config_userconfig: '/home/u/.npmrc',
    HTTPS_PROXY: 'http://proxy.example:3128',
    NODE_EXTRA_CA_CERTS: '/etc/extra.pem',
  }
  const noise = {
    npm_config_loglevel: 'silent',
    npm_config_ignore_scripts: 'true',
    npm_config_user_agent: 'npm/11',
    npm_lifecycle_event: 'test',
    npm_package_name: 'spillway-workspace',
    npm_command: 'run-script',
    npm_execpath: '/usr/lib/npm-cli.js',
  }
  expect(withoutNpmSettings({ ...network, ...noise, PATH: '/bin' })).toEqual({ ...network, PATH: '/bin' })
  expect(withoutNpmSettings({ npm_config_noproxy: '' })).toEqual({})
})

function environmentFor(given: { settings: object; env?: object; globalConfig?: string }) {
  const saved: string[] = []
  const out = pnpmNetworkEnvironment({
    env: {},
    ...given,
    saveCertificates: (pem: string) => {
      saved.push(pem)
      return '/saved.pem'
    },
  })
  return { out, saved }
}

test('npm’s defaults are not forced on pnpm', () => {
  const settings = {
    proxy: null,
    noproxy: [''],
    'strict-ssl': true,
    cafile: null,
  }
  expect(environmentFor({ settings }).out).toEqual({})
})

test('what npm uses is what pnpm gets', () => {
  const settings = {
    registry: 'https://mirror.example/',
    proxy: 'http://proxy.example:3128',
    'https-proxy': 'http://proxy.example:3129',
    noproxy: ['a.example', 'b.example'],
    'strict-ssl': false,
    userconfig: '/home/u/other-npmrc',
    '@scope:registry': 'https://scope.example/',
  }
  expect(environmentFor({ settings }).out).toEqual({
    pnpm_config_registry: 'https://mirror.example/',
    pnpm_config_proxy: 'http://proxy.example:3128',
    pnpm_config_https_proxy: 'http://proxy.example:3129',
    pnpm_config_noproxy: 'a.example,b.example',
    pnpm_config_strict_ssl: 'false',
    NPM_CONFIG_USERCONFIG: '/home/u/other-npmrc',
    'pnpm_config_@scope:registry': 'https://scope.example/',
  })
})

test('settings that npm masks because of their credentials come from where they were given', () => {
  // `npm config list --json` has no `registry` at all then.
  const fromVariable = environmentFor({ settings: {}, env: { npm_config_registry: 'https://u:p@mirror.example/' } })
  expect(fromVariable.out.pnpm_config_registry).toBe('https://u:p@mirror.example/')
  const globalConfig =
    '; site\nregistry = "https://u:p@site.example/"\n//site.example/:_authToken=$' + '{TOKEN}\n# proxy=no\n'
  const fromFile = environmentFor({ settings: {}, env: { TOKEN: 't1' }, globalConfig })
  expect(fromFile.out).toEqual({
    pnpm_config_registry: 'https://u:p@site.example/',
    'pnpm_config_//site.example/:_authToken': 't1',
  })
  const both = environmentFor({
    settings: {},
    env: { 'npm_config_//site.example/:_authToken': 't2', TOKEN: 't1' },
    globalConfig,
  })
  expect(both.out['pnpm_config_//site.example/:_authToken']).toBe('t2')
})

test('certificates reach pnpm in one file, besides those Node was given', () => {
  const { out, saved } = environmentFor({ settings: { ca: ['PEM one', 'PEM two'] } })
  expect(out.NODE_EXTRA_CA_CERTS).toBe('/saved.pem')
  expect(saved).toEqual(['PEM one\nPEM two'])
  expect(environmentFor({ settings: {}, env: { NODE_EXTRA_CA_CERTS: '/etc/extra.pem' } }).saved).toEqual([])
})
