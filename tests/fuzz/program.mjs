// Programs against the public interface, as data: so that one can be written down before it runs, run again, and cut
// down to what is needed for a failure.
//
// Arguments are symbols:
//   { value }                       as it is; left out: undefined
//   { ref: step }                   what that step made; of a device also { ref, part: 'virtualMemory' | … }
//   { native: step }                its native handle
//   { hostile: name }               of hostile-values.mjs
//   { object: { field: symbol } }   options
//   { list: [symbol] }, { bigint: digits }
//   { getter: { disposes, value } } a field whose getter disposes something first
//   { proxy: symbol }, { inherits: symbol }   something that stands for an object
//   { bytes, of }, { signal }, { callback }
import { hostileValues } from './hostile-values.mjs'
import { plainValue } from './plain-values.mjs'
import { calls, classNames, parts } from './public-api.mjs'
import { Random } from './random.mjs'

const kinds = Object.keys(classNames).filter((kind) => kind !== 'virtualMemory')
const hostileNames = [...hostileValues.keys()]
const mostDevices = 3

/** What a generator believes to be there; calls that fail make it believe too much, which is as good. */
class Inventory {
  /** @type {{ id: number, kind: string, device: number, alive: boolean }[]} */
  objects = []

  add(id, kind, device) {
    this.objects.push({ id, kind, device: kind === 'device' ? id : device, alive: true })
  }
  live(kind) {
    return this.objects.filter((object) => object.alive && object.kind === kind)
  }
  end(id) {
    for (const object of this.objects) {
      if (object.id === id || object.device === id) object.alive = false
    }
  }
}

/** A random program of about `length` calls on one to three devices, by `seed` alone. */
export function randomProgram(seed, length) {
  const random = new Random(seed)
  const inventory = new Inventory()
  const steps = []
  const push = (step) => {
    steps.push({ id: steps.length, ...step })
    return steps.length - 1
  }
  const open = (more) => {
    const id = push({
      call: 'openDevice',
      args: [{ value: 'host' }, { object: { memoryLimitBytes: { value: 2 ** 22 }, threads: { value: 2 }, ...more } }],
      settled: true,
    })
    inventory.add(id, 'device', id)
  }
  open({})
  if (random.chance(0.5)) open({ adversarialSeed: { value: random.next() } })
  if (random.chance(0.4)) open({ check: { value: true }, linkBytesPerSecond: { value: 2 ** 28 } })

  const total = calls.reduce((sum, { weight }) => sum + weight, 0)
  const draw = () => {
    let left = (random.next() / 2 ** 32) * total
    for (const call of calls) {
      left -= call.weight
      if (left < 0) return call
    }
    return calls[0]
  }
  const capturing = []
  while (steps.length < length) {
    const devices = inventory.live('device')
    if (devices.length === 0) {
      open({})
      continue
    }
    // Left to chance, most captures end with their stream.
    if (capturing.length > 0 && random.chance(0.15)) {
      const { ref, device } = capturing.pop()
      inventory.add(push({ call: 'stream.endCapture', on: { ref }, args: [], settled: true }), 'graph', device)
      continue
    }
    const call = draw()
    if (call.name === 'openDevice' && devices.length >= mostDevices) continue
    const device = random.pick(devices).id
    const writer = new ArgumentWriter(random, inventory, device)
    const on = call.on === undefined ? undefined : writer.target(call.on)
    // Nothing there yet to call it on, mostly: make something.
    if (call.on !== undefined && on === undefined) continue
    const args = call.takes.slice(0, random.chance(0.7) ? undefined : call.needs).map((type) => writer.argument(type))
    if (call.how !== 'kernel' && random.chance(0.25)) writer.spoil(call, args)
    const id = push({
      call: call.name,
      ...(on === undefined ? {} : { on: random.chance(0.02) ? writer.hostile() : on }),
      args,
      // Some promises are left alone until the end: things are disposed while they are pending.
      settled: random.chance(0.7),
    })
    if (call.name === 'stream.beginCapture') capturing.push({ ref: on.ref, device })
    if (call.makes !== undefined) inventory.add(id, call.makes, device)
    if (call.ends && on?.ref !== undefined) inventory.end(on.ref)
  }
  return { name: `seed ${seed}`, steps }
}

class ArgumentWriter {
  #random
  #inventory
  #device

  constructor(random, inventory, device) {
    this.#random = random
    this.#inventory = inventory
    this.#device = device
  }

  /** An object of one of these kinds: of the same device, now and then of another one, or disposed. */
  object(wanted) {
    const all = this.#inventory.objects.filter(({ kind }) => wanted.includes(kind))
    const local = all.filter(({ alive, device }) => alive && device === this.#device)
    const from = local.length === 0 || this.#random.chance(0.05) ? all : local
    return from.length === 0 ? undefined : { ref: this.#random.pick(from).id }
  }

  target(kind) {
    if (!parts.includes(kind)) return this.object([kind])
    return { ref: this.#device, part: kind }
  }

  argument(type) {
    const random = this.#random
    if (typeof type === 'string') return plainValue(type, random)
    if (type.native !== undefined) {
      const object = this.object(random.chance(0.2) ? kinds : [type.native])
      return object === undefined ? { value: null } : { native: object.ref }
    }
    if (type.handle !== undefined) return this.object(type.handle) ?? { value: null }
    if (type.list !== undefined) {
      return { list: Array.from({ length: 1 + random.below(3) }, () => this.argument(type.list)) }
    }
    const fields = {}
    for (const [field, of] of Object.entries(type.options)) {
      if (!type.needed.includes(field) && random.chance(0.6)) continue
      fields[field] = this.argument(of)
      if (random.chance(0.02)) {
        const victim = this.object(kinds.filter((kind) => kind !== 'device'))
        if (victim !== undefined) fields[field] = { getter: { disposes: victim.ref, value: fields[field] } }
      }
    }
    return { object: fields }
  }

  hostile() {
    const random = this.#random
    if (random.chance(0.7)) return { hostile: random.pick(hostileNames) }
    const object = this.object(kinds)
    if (object === undefined) return { hostile: 'undefined' }
    return random.pick([object, { proxy: object }, { inherits: object }, { native: object.ref }])
  }

  /** Puts something hostile in place of one argument, or of one field of it; or leaves arguments out. */
  spoil(call, args) {
    const random = this.#random
    if (args.length === 0 || random.chance(0.1)) {
      args.length = random.below(args.length + 1)
      return
    }
    const at = random.below(args.length)
    const type = call.takes[at]
    if (type.options !== undefined && args[at].object !== undefined && random.chance(0.7)) {
      args[at].object[random.pick(Object.keys(type.options))] = this.hostile()
    } else {
      args[at] = this.hostile()
    }
  }
}

/** Objects of every kind on one device, and another device with the same; returns the ids by kind. */
function prelude(push, options) {
  const G = 65_536
  const sets = [options, {}].map((more) => {
    const device = push({
      call: 'openDevice',
      args: [{ value: 'host' }, { object: { memoryLimitBytes: { value: 2 ** 22 }, threads: { value: 1 }, ...more } }],
      settled: true,
    })
    const on = { ref: device }
    const memory = { ref: device, part: 'virtualMemory' }
    const make = (call, target, args) => push({ call, on: target, args, settled: true })
    const ids = { device }
    ids.stream = make('device.createStream', on, [])
    ids.event = make('device.createEvent', on, [])
    ids['device-buffer'] = make('device.allocate', on, [{ value: 4096 }, { object: { tag: { value: 'weights' } } }])
    ids['host-buffer'] = make('device.allocateHost', on, [
      { value: 4096 },
      { object: { storage: { value: 'mapped' } } },
    ])
    ids.pool = make('device.memoryPool', on, [{ value: 'apart' }, { object: {} }])
    ids.range = make('virtualMemory.reserve', memory, [{ value: 2 * G }])
    ids.physical = make('virtualMemory.createPhysical', memory, [{ value: G }, { value: 'pool' }])
    make('stream.beginCapture', { ref: ids.stream }, [])
    ids.graph = make('stream.endCapture', { ref: ids.stream }, [])
    return ids
  })
  return { own: sets[0], other: sets[1] }
}

/** One program for each call and place of an argument: everything hostile there, everything else as it should be. */
export function* systematicPrograms() {
  for (const call of calls) {
    if (call.how === 'kernel') continue
    const places = call.on === undefined ? [] : [{ name: 'this', write: (step, symbol) => ({ ...step, on: symbol }) }]
    for (const [at, type] of call.takes.entries()) places.push(...argumentPlaces(type, at))
    for (const place of places) yield systematicProgram(call, place)
    yield systematicProgram(call, { name: 'fewer arguments', write: undefined })
  }
}

function* argumentPlaces(type, at) {
  const put = (step, symbol) => ({ ...step, args: step.args.map((old, i) => (i === at ? symbol : old)) })
  for (const { name, write, field } of placesWithin(type)) {
    yield {
      name: `argument ${at + 1}${name}`,
      write: (step, symbol) => put(step, write(step.args[at], symbol)),
      ...(field === undefined ? {} : { field }),
    }
  }
}

/** Where in an argument something else may stand: all of it, a field of its options, an element of its list. */
function* placesWithin(type) {
  yield { name: '', write: (_, symbol) => symbol }
  for (const [field, of] of Object.entries(type.options ?? {})) {
    for (const { name, write } of placesWithin(of)) {
      const put = ({ object }, symbol) => ({ object: { ...object, [field]: write(object[field], symbol) } })
      yield { name: `, ${field}${name}`, write: put, field }
    }
  }
  if (type.list === undefined) return
  for (const { name, write, field } of placesWithin(type.list)) {
    const put = ({ list: [first, ...rest] }, symbol) => ({ list: [write(first, symbol), ...rest] })
    yield { name: `, an element${name}`, write: put, field }
  }
}

function systematicProgram(call, { name, write, field }) {
  const steps = []
  const push = (step) => {
    steps.push({ id: steps.length, ...step })
    return steps.length - 1
  }
  const { own, other } = prelude(push, { check: { value: true } })
  const random = new Random(call.name.length)
  const inventory = new Inventory()
  for (const [kind, id] of Object.entries(own)) inventory.add(id, kind, own.device)
  const writer = new ArgumentWriter(random, inventory, own.device)
  const correct = {
    call: call.name,
    ...(call.on === undefined ? {} : { on: writer.target(call.on) }),
    args: call.takes.map((type) => complete(type, writer)),
    settled: true,
  }
  if (write === undefined) {
    for (let count = 0; count < call.takes.length; count++) push({ ...correct, args: correct.args.slice(0, count) })
    push({ ...correct, args: [...correct.args, { hostile: 'an empty object' }, { hostile: 'a symbol' }] })
    return { name: `${call.name}, ${name}`, steps }
  }
  for (const hostile of hostileNames) push(write(correct, { hostile }))
  for (const kind of kinds) {
    push(write(correct, { ref: other[kind] }))
    push(write(correct, { native: own[kind] }))
    push(write(correct, { proxy: { ref: own[kind] } }))
    push(write(correct, { inherits: { ref: own[kind] } }))
  }
  for (const kind of kinds.filter((one) => one !== 'device')) {
    if (field !== undefined) push(write(correct, { getter: { disposes: own[kind], value: { value: 1 } } }))
  }
  // Last, since the calls may dispose what they are given: objects of the right device.
  for (const kind of kinds) push(write(correct, { ref: own[kind] }))
  for (const kind of kinds.filter((one) => one !== 'pool'))
    push({ call: `${kind}.dispose`, on: { ref: own[kind] }, args: [], settled: true })
  push(correct)
  for (const kind of kinds) push(write(correct, { ref: own[kind] }))
  return { name: `${call.name}, ${name}`, steps }
}

/** All of the options present. */
function complete(type, writer) {
  if (type.list !== undefined) return { list: [complete(type.list, writer)] }
  if (type.options === undefined) return writer.argument(type)
  return {
    object: Object.fromEntries(Object.entries(type.options).map(([field, of]) => [field, complete(of, writer)])),
  }
}
