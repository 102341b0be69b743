import type { OptionSpecs } from '@spillway/core'
import { mostTracedTokens } from './step-trace.js'

const generalOptions: OptionSpecs = {
  json: { type: 'flag', default: false, help: 'One JSON object on stdout, everything else on stderr' },
  help: { type: 'flag', default: false, help: 'This text' },
}

const deviceOptions: OptionSpecs = {
  device: { type: 'string', default: 'auto', help: 'Device to use: auto, host, cuda or cuda:INDEX' },
  deviceMemory: { type: 'bytes', min: 1, help: 'Cap on device memory, such as 6GiB; default: all there is' },
  threads: { type: 'integer', min: 1, max: 1024, help: 'Host device: threads for kernels; default: one a processor' },
  linkRate: {
    type: 'bytes',
    min: 2 ** 20,
    help: 'Host device: bytes a second between host and device, to try slow links; at least 1MiB',
  },
  ...generalOptions,
}

/** Of the device that a model runs on. */
const modelDeviceOptions: OptionSpecs = {
  ...deviceOptions,
  matrixLibrary: {
    type: 'string',
    default: 'auto',
    help: 'GPU: cuBLASLt for the prompt: auto, none, or its name or path',
  },
  pinMemory: {
    type: 'choice',
    choices: ['auto', 'on', 'off'],
    default: 'auto',
    help: 'Whether offloaded weights lie in pinned host memory',
  },
}

const modelOptions: OptionSpecs = {
  model: { type: 'string', help: "Directory with a model in Hugging Face's files; default: the demo model" },
  loadFormat: {
    type: 'choice',
    choices: ['auto', 'dummy'],
    default: 'auto',
    help: 'dummy: random weights from config.json alone',
  },
  contextLength: {
    type: 'integer',
    min: 1,
    help: "Tokens of prompt and text together; default: the model's, at most 2048",
  },
  enforceEager: {
    type: 'flag',
    default: false,
    help: 'Enqueue every kernel of every token instead of replaying a captured graph',
  },
  memoryTrace: {
    type: 'string',
    help: 'File to write what the device allocates to, every second: for spillway memory',
  },
  offloadBackend: {
    type: 'string',
    default: 'auto',
    help: 'Where weights live: auto, none, prefetch, a module, or two joined by +',
  },
}

export type CommandName = 'run' | 'logits' | 'doctor' | 'memory' | 'bench link'

/** What stands on the command line without a flag. */
export const commandOperands: Readonly<Partial<Record<CommandName, readonly string[]>>> = { memory: ['TRACE'] }

/** Those that load a model, and so have options of backends. */
export const modelCommands: ReadonlySet<CommandName> = new Set(['run', 'logits'])

/** The options of each command; those of backends come besides. */
export const commandOptions: Readonly<Record<CommandName, OptionSpecs>> = {
  run: {
    prompt: { type: 'string', help: 'What the text continues; default: a line that suits the demo model' },
    maxTokens: {
      type: 'integer',
      default: 128,
      min: 0,
      help: 'Tokens to generate at most; 0, with --explain: nothing is loaded',
    },
    temperature: { type: 'number', default: 0.7, min: 0, max: 100, help: '0: always the likeliest token' },
    topK: { type: 'integer', min: 1, help: 'Sample among the K likeliest tokens' },
    topP: { type: 'number', min: 0, max: 1, help: 'Sample among the likeliest tokens that together have this share' },
    seed: { type: 'integer', min: 0, help: 'Same seed, same text; default: another text each time' },
    stop: { type: 'string', help: 'Text that ends the output; may be given several times' },
    explain: {
      type: 'flag',
      default: false,
      help: 'Where weights lie and what a token costs: a table before they are loaded, one with measured times at the end',
    },
    trace: {
      type: 'string',
      help: `File for a Chrome trace of the prompt and ${mostTracedTokens} tokens: computing, copies, waits`,
    },
    ...modelOptions,
    ...modelDeviceOptions,
  },
  logits: {
    tokens: { type: 'string', help: 'Token ids, separated by commas' },
    ...modelOptions,
    ...modelDeviceOptions,
  },
  doctor: modelDeviceOptions,
  memory: {
    html: { type: 'string', help: 'File to write the page to: open it in a browser' },
    watch: { type: 'flag', default: false, help: 'With --html: write it again whenever the trace is, until Ctrl-C' },
    ...generalOptions,
  },
  'bench link': {
    size: {
      type: 'bytes',
      min: 1,
      help: 'Bytes of one copy; default: 256MiB on a GPU, 64MiB on the host device, less on a slow link',
    },
    rounds: { type: 'integer', default: 5, min: 1, max: 1000, help: 'How often each limit is measured' },
    ...deviceOptions,
  },
}

export const commandHelp: Readonly<Record<CommandName, string>> = {
  run: 'Write text with a model, its weights offloaded as asked',
  logits: 'The likeliest token after each of the given ones; with --json all logits',
  'bench link': 'How fast bytes move on this machine: the limits of all offloading',
  memory: 'How device memory was used, from a trace: a summary, or a page that shows every block',
  doctor: 'What this machine has: devices, memory, link, kernels, backends',
}
