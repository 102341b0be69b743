// @ts-check
/** @import { Stream, TensorView } from '../../packages/core/dist/index.js' */
/** @import { Kernels } from '../../packages/decoder/dist/index.js' */

/**
 * @typedef {object} Operands
 * @property {TensorView} x one row, all zeros but for a one
 * @property {TensorView} norm ones
 * @property {TensorView} normed as x
 * @property {TensorView} weight
 * @property {TensorView} product one row of as many as `weight` has
 * @property {TensorView} y
 */

/**
 * What is launched for a matrix, and what comes out where activations are zeros but for a one: of the weights that it
 * meets, one for each row of the matrix.
 * @typedef {object} ProductForm
 * @property {number} launches
 * @property {boolean} gated whether y is half as long as the matrix has rows
 * @property {number} tolerance of each element of y, relative
 * @property {(kernels: Kernels, stream: Stream, operands: Operands) => void} enqueue
 */

/** @param {Operands} operands */
const normOf = ({ x, norm }) => {
  const [, inputs] = x.shape
  // The mean of the squares and this are 1: the one stays one.
  return { x, norm, epsilon: 1 - 1 / Number(inputs) }
}

/** @param {Operands} operands */
const rmsNormOf = (operands) => {
  const { norm, ...rest } = normOf(operands)
  return { ...rest, weight: norm, y: operands.normed }
}

/** A token's products as the decoder computes them, and with the kernels beside them as launches of their own. */
export const productForms = /** @satisfies {Readonly<Record<string, ProductForm>>} */ ({
  linear: {
    launches: 1,
    gated: false,
    tolerance: 0,
    enqueue: (kernels, stream, { x, weight, y }) => kernels.linear(stream, { x, weight, y }),
  },
  normLinear: {
    launches: 1,
    gated: false,
    tolerance: 1e-6,
    enqueue: (kernels, stream, operands) => {
      kernels.normLinear(stream, { ...normOf(operands), weight: operands.weight, y: operands.y })
    },
  },
  normSwiglu: {
    launches: 1,
    gated: true,
    tolerance: 1e-6,
    enqueue: (kernels, stream, operands) => {
      kernels.normSwiglu(stream, { ...normOf(operands), weight: operands.weight, y: operands.y })
    },
  },
  'norm, linear': {
    launches: 2,
    gated: false,
    tolerance: 1e-6,
    enqueue: (kernels, stream, operands) => {
      kernels.rmsNorm(stream, rmsNormOf(operands))
      kernels.linear(stream, { x: operands.normed, weight: operands.weight, y: operands.y })
    },
  },
  'norm, linear, siluMul': {
    launches: 3,
    gated: true,
    tolerance: 1e-6,
    enqueue: (kernels, stream, operands) => {
      kernels.rmsNorm(stream, rmsNormOf(operands))
      kernels.linear(stream, { x: operands.normed, weight: operands.weight, y: operands.product })
      kernels.siluMul(stream, { gateUp: operands.product, y: operands.y })
    },
  },
})

/**
 * The elements of y of one matrix, from the weights that meet the one.
 * @param {ProductForm} form
 * @param {readonly number[]} weights
 */
export function expectedOf({ gated }, weights) {
  if (!gated) return weights
  const up = weights.slice(weights.length / 2)
  return up.map((value, i) => (Number(weights[i]) / (1 + Math.exp(-Number(weights[i])))) * value)
}
