import { testModelLoad } from '../device-memory/model-load.js'
import { describeOnCuda, openCuda } from './on-cuda.js'

const MiB = 2 ** 20

describeOnCuda('a load on a GPU', () =>
  testModelLoad(openCuda, { storedBytes: 530 * MiB, repackedBytes: 270 * MiB, layers: 40, scratches: 1000 }),
)
