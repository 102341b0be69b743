// The kernels in float64, straight from their definitions.

export function linearReference(
  x: Float64Array,
  weight: Float64Array,
  rows: number,
  inputs: number,
  outputs: number,
  bias?: Float64Array,
  before?: Float64Array,
): Float64Array {
  const y = new Float64Array(rows * outputs)
  for (let r = 0; r < rows; r++) {
    for (let n = 0; n < outputs; n++) {
      let sum = (bias?.[n] ?? 0) + (before?.[r * outputs + n] ?? 0)
      for (let k = 0; k < inputs; k++) sum += (x[r * inputs + k] as number) * (weight[n * inputs + k] as number)
      y[r * outputs + n] = sum
    }
  }
  return y
}

export function rmsNormReference(x: Float64Array, weight: Float64Array, epsilon: number): Float64Array {
  const hidden = weight.length
  const y = new Float64Array(x.length)
  for (let first = 0; first < x.length; first += hidden) {
    const row = x.subarray(first, first + hidden)
    const mean = row.reduce((sum, value) => sum + value * value, 0) / hidden
    for (let i = 0; i < hidden; i++)
      y[first + i] = ((row[i] as number) / Math.sqrt(mean + epsilon)) * (weight[i] as number)
  }
  return y
}

export function siluMulReference(gateUp: Float64Array, ffn: number): Float64Array {
  const y = new Float64Array(gateUp.length / 2)
  for (let i = 0; i < y.length; i++) {
    const gate = gateUp[Math.floor(i / ffn) * 2 * ffn + (i % ffn)] as number
    const up = gateUp[Math.floor(i / ffn) * 2 * ffn + ffn + (i % ffn)] as number
    y[i] = (gate / (1 + Math.exp(-gate))) * up
  }
  return y
}

/** Each head of q and of k in rows of q, k, v. */
export function qkNormReference(
  qkv: Float64Array,
  qWeight: Float64Array,
  kWeight: Float64Array,
  { heads, keyValueHeads, headDim }: HeadShape,
  epsilon: number,
): Float64Array {
  const y = qkv.slice()
  const width = (heads + 2 * keyValueHeads) * headDim
  for (let row = 0; row < qkv.length; row += width) {
    for (let head = 0; head < heads + keyValueHeads; head++) {
      const first = row + head * headDim
      const weight = head < heads ? qWeight : kWeight
      y.set(rmsNormReference(qkv.subarray(first, first + headDim), weight, epsilon), first)
    }
  }
  return y
}

export interface HeadShape {
  readonly heads: number
  readonly keyValueHeads: number
  readonly headDim: number
}

/** One head at one position: pairs i and i + headDim/2 turn by position · inverseFrequency[i]. */
export function rotate(
  head: Float64Array,
  position: number,
  inverseFrequency: Float64Array,
  scaling: number,
): Float64Array {
  const half = head.length / 2
  return head.map((value, i) => {
    // The angle is defined in f32, as Hugging Face computes it.
    const angle = Math.fround(position * (inverseFrequency[i % half] as number))
    const other = i < half ? -(head[i + half] as number) : (head[i - half] as number)
    return scaling * (value * Math.cos(angle) + other * Math.sin(angle))
  })
}

/** One query row's output; keys and values are [positions, keyValueHeads, headDim], all of them visible. */
export function attentionReference(
  queries: Float64Array,
  keys: Float64Array,
  values: Float64Array,
  { heads, keyValueHeads, headDim }: HeadShape,
  scale: number,
): Float64Array {
  const width = keyValueHeads * headDim
  const positions = keys.length / width
  const y = new Float64Array(heads * headDim)
  for (let head = 0; head < heads; head++) {
    const column = Math.floor(head / (heads / keyValueHeads)) * headDim
    const scores = Float64Array.from({ length: positions }, (_, p) => {
      let dot = 0
      for (let i = 0; i < headDim; i++)
        dot += (queries[head * headDim + i] as number) * (keys[p * width + column + i] as number)
      return dot * scale
    })
    const largest = Math.max(...scores)
    const powers = scores.map((score) => Math.exp(score - largest))
    const total = powers.reduce((sum, power) => sum + power, 0)
    for (let i = 0; i < headDim; i++) {
      let sum = 0
      for (let p = 0; p < positions; p++) sum += (powers[p] as number) * (values[p * width + column + i] as number)
      y[head * headDim + i] = sum / total
    }
  }
  return y
}
