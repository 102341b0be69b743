export {
  type ByteRange,
  type Checkpoint,
  type CheckpointFileInfo,
  type CheckpointTensor,
  openCheckpoint,
} from './checkpoint.js'
export type { CheckpointErrorCode } from './checkpoint-error.js'
export { type LoadOptions, type LoadProgress, type LoadTarget, loadParameters } from './load-parameters.js'
