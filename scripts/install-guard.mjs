// preinstall of the root, for package managers that get this far (yarn, bun): pnpm passes, and so does `npx spillway`
// (npm_command=exec), which may install this folder before it starts our bin. npm install stops earlier, see
// pnpm-workspace.yaml.
const { npm_command: command = '', npm_config_user_agent: agent = '' } = process.env
if (!agent.startsWith('pnpm/') && command !== 'exec') {
  console.error(
    'This repository is not installed by hand: run `npm test` or `npm run demo`, which install what they need.',
  )
  process.exit(1)
}
