// Programs that leave out, or misplace, what orders their operations: a wait, a join, the point where memory goes.
import { addressOf, launchTouch } from '../abi/abi-probe.js'
import { type PlantedBug, page, rig, slotBytes } from './planted-bug.js'

export const orderBugs: readonly PlantedBug[] = [
  {
    name: 'a missing wait: the kernel does not wait for the copy into its slot',
    kinds: ['read-after-write'],
    names: ['copy on stream 2 (high)', 'touch on stream 1 (normal)', "'slot' of 16384 bytes, bytes 0 to 16383"],
    async program(device, mended) {
      const { compute, copies, slab, slot, output, order, end } = await rig(device)
      copies.copy(slot, slab)
      if (mended) order(copies, compute)
      read(compute, slot, output)
      await end()
    },
  },
  {
    name: 'a wait on an event that was recorded too early',
    kinds: ['read-after-write'],
    names: ['copy on stream 2 (high)', 'touch on stream 1 (normal)'],
    async program(device, mended) {
      const { compute, copies, slab, slot, output, event, order, end } = await rig(device)
      copies.record(event)
      copies.copy(slot, slab)
      compute.wait(event)
      if (mended) order(copies, compute)
      read(compute, slot, output)
      await end()
    },
  },
  {
    name: 'early free: memory is unmapped while enqueued work may use it, or by luck does not any more',
    kinds: ['early-free'],
    names: ['fill on stream 1 (normal)', 'unmap on host', 'address range'],
    async program(device, mended) {
      const { compute, end } = await rig(device)
      const bytes = device.virtualMemory.granularityBytes
      const range = device.virtualMemory.reserve(bytes)
      const memory = device.virtualMemory.createPhysical(bytes, 'pool')
      range.map(0, memory)
      const buffer = range.buffer(0, bytes)
      compute.fill(buffer, 1)
      if (mended) await compute.synchronize()
      try {
        range.unmap(0, bytes)
      } catch (error) {
        // The device refuses when the fill is not over. By luck it is.
        if (mended) throw error
      }
      await compute.synchronize()
      for (const handle of [buffer, memory, range]) await handle.dispose()
      await end()
    },
  },
  {
    name: 'use after free: a kernel has the address of a buffer that is gone',
    kinds: ['use-after-free'],
    names: ['touch on stream 1 (normal)', "device buffer 4 'gone'", 'byte 100'],
    async program(device, mended) {
      const { compute, output, end } = await rig(device)
      const gone = device.allocate(page, { tag: 'gone' })
      compute.fill(gone, 1)
      const address = addressOf(gone) + 100n
      if (!mended) await gone.dispose()
      await compute.synchronize()
      launchTouch(compute, {
        touch: mended
          ? [
              { buffer: gone, offset: 100, bytes: 8, mode: 'read' },
              { buffer: output, bytes: 8, mode: 'write' },
            ]
          : [
              { address, bytes: 8, mode: 'read' },
              { buffer: output, bytes: 8, mode: 'write' },
            ],
      })
      if (mended) await gone.dispose()
      await end()
    },
  },
  {
    name: 'read before copy: the kernel is enqueued before its onload, in order',
    kinds: ['read-before-write'],
    names: ['touch on stream 1 (normal)', "'slot' of 16384 bytes, bytes 0 to 16383"],
    async program(device, mended) {
      const { compute, copies, slab, slot, output, order, end } = await rig(device)
      if (mended) {
        copies.copy(slot, slab)
        order(copies, compute)
      }
      read(compute, slot, output)
      if (!mended) {
        order(compute, copies)
        copies.copy(slot, slab)
      }
      await end()
    },
  },
  {
    name: 'read before copy, through a copy that only passes on what was never written',
    kinds: ['read-before-write'],
    names: ['touch on stream 1 (normal)', "'slot' of 16384 bytes, bytes 4096 to 8191"],
    async program(device, mended) {
      const { compute, slot, output, end } = await rig(device)
      const staging = device.allocate(slotBytes, { tag: 'staging' })
      compute.fill(staging, 3)
      const unwritten = device.allocate(page, { tag: 'unwritten' })
      if (mended) compute.fill(unwritten, 3)
      compute.copy(staging, unwritten, { toOffset: page, bytes: page })
      compute.copy(slot, staging)
      read(compute, slot, output)
      await staging.dispose()
      await unwritten.dispose()
      await end()
    },
  },
  {
    name: 'write–write on two streams',
    kinds: ['write-after-write'],
    names: ['fill on stream 1 (normal)', 'copy on stream 2 (high)', 'bytes 4096 to 8191'],
    async program(device, mended) {
      const { compute, copies, slab, slot, order, end } = await rig(device)
      compute.fill(slot, 1, { offset: 0, bytes: 2 * page })
      if (mended) order(compute, copies)
      copies.copy(slot, slab, { toOffset: page, fromOffset: page, bytes: 2 * page })
      await end()
    },
  },
  {
    name: 'a slot overwritten while read: the next onload does not wait for the kernel',
    kinds: ['write-after-read'],
    names: ['touch on stream 1 (normal)', 'copy on stream 2 (high)'],
    async program(device, mended) {
      const { compute, copies, slab, slot, output, order, end } = await rig(device)
      copies.copy(slot, slab)
      order(copies, compute)
      read(compute, slot, output)
      if (mended) order(compute, copies)
      copies.copy(slot, slab)
      await end()
    },
  },
  {
    name: 'host read of a buffer still being written',
    kinds: ['read-after-write'],
    names: ['copy on stream 1 (normal)', 'host read on host', 'await stream 1 (normal).synchronize()'],
    async program(device, mended) {
      const { compute, slab, slot, end } = await rig(device)
      compute.fill(slot, 9)
      compute.copy(slab, slot)
      const done = compute.synchronize()
      if (mended) await done
      slab.read(0, 16)
      await done
      await end()
    },
  },
  {
    name: 'host write to a buffer still being read',
    kinds: ['write-after-read'],
    names: ['copy on stream 2 (high)', 'host write on host'],
    async program(device, mended) {
      const { copies, slab, slot, end } = await rig(device)
      copies.copy(slot, slab)
      if (mended) await copies.synchronize()
      slab.write(new Uint8Array(16), 8)
      await end()
    },
  },
  {
    name: 'a fork never joined, in a capture',
    kinds: ['unjoined-fork'],
    names: ['copy on stream 2 (high)', "'slot' of 16384 bytes"],
    async program(device, mended) {
      const { compute, copies, slab, slot, order, end } = await rig(device)
      compute.beginCapture()
      order(compute, copies)
      copies.copy(slot, slab)
      if (mended) order(copies, compute)
      try {
        const graph = compute.endCapture()
        compute.launch(graph)
        await graph.dispose()
      } catch (error) {
        if (mended) throw error // else: the device drops the capture
      }
      await end()
    },
  },
  {
    name: 'a fork never joined, without a capture',
    kinds: ['write-after-write'],
    names: ['touch on stream 2 (high)', 'fill on stream 1 (normal)'],
    async program(device, mended) {
      const { compute, copies, slot, output, order, end } = await rig(device)
      compute.fill(slot, 1)
      order(compute, copies)
      read(copies, slot, output)
      if (mended) order(copies, compute)
      compute.fill(output, 0)
      await end()
    },
  },
  {
    name: 'two graphs on two streams over one buffer, the second not ordered after the first',
    kinds: ['write-after-write'],
    names: ['fill on stream 1 (normal)', 'recorded', 'in a graph launched'],
    async program(device, mended) {
      const { compute, copies, slot, order, end } = await rig(device)
      const graphs = [1, 2].map((value) => {
        compute.beginCapture()
        compute.fill(slot, value)
        return compute.endCapture()
      })
      compute.launch(graphs[0]!)
      compute.launch(graphs[0]!)
      if (mended) order(compute, copies)
      copies.launch(graphs[1]!)
      for (const graph of graphs) await graph.dispose()
      await end()
    },
  },
  {
    name: 'a graph that should wait for an event outside of it, and does not',
    kinds: ['read-after-write'],
    names: ['copy on stream 2 (high)', 'touch on stream 1 (normal)'],
    async program(device, mended) {
      const { compute, copies, slab, slot, output, event, end } = await rig(device)
      copies.copy(slot, slab)
      copies.record(event)
      compute.beginCapture()
      if (mended) compute.wait(event, { external: true })
      read(compute, slot, output)
      const graph = compute.endCapture()
      compute.launch(graph)
      await graph.dispose()
      await end()
    },
  },
]

function read(
  stream: Parameters<typeof launchTouch>[0],
  from: Parameters<typeof addressOf>[0],
  to: Parameters<typeof addressOf>[0],
): void {
  launchTouch(stream, {
    touch: [
      { buffer: from, mode: 'read' },
      { buffer: to, mode: 'write' },
    ],
  })
}
