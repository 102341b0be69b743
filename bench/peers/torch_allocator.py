"""The most memory that PyTorch's allocator reserves while a trace is replayed, in units of the most that was requested.

A trace is a line of bench/lib/memory-trace.ts as JSON. Settings are those of PYTORCH_ALLOC_CONF, and hold for the
process; nothing is cached when a trace begins. Each block is written by its stream, and what another stream uses is
given to record_stream, as PyTorch's documentation has it.

  python3 torch_allocator.py TRACES SETTINGS
"""

import json
import os
import sys

import peer


def check(what, found, expected):
    if found != expected:
        raise RuntimeError(f"{what}: {found}, {expected} expected")


class Replay:
    def __init__(self, torch, trace):
        self.torch, self.trace = torch, trace
        self.streams = {number: torch.cuda.Stream() for number in trace["streams"]}
        self.operations = [(one["operation"], one) for one in trace["operations"]]
        self.allocations = sum(operation == "allocate" for operation, _ in self.operations)

    def sample(self):
        cuda = self.torch.cuda
        check("bytes reserved before", cuda.memory_reserved(), 0)
        cuda.reset_peak_memory_stats()
        before = cuda.memory_stats().get("allocation.all.allocated", 0)
        try:
            self.run()
            stats = cuda.memory_stats()
        finally:
            cuda.synchronize()
            cuda.set_stream(cuda.default_stream())
            cuda.empty_cache()
        requested = self.trace["peakRequestedBytes"]
        check("allocations", stats["allocation.all.allocated"] - before, self.allocations)
        if len(self.streams) == 1:
            # Else blocks that wait for another stream are counted until they need not.
            check("bytes requested", stats["requested_bytes.all.peak"], requested)
        return stats["reserved_bytes.all.peak"] / requested, 1

    def run(self):
        torch, cuda, streams = self.torch, self.torch.cuda, self.streams
        live = {}
        for operation, one in self.operations:
            if operation == "allocate":
                cuda.set_stream(streams[one["stream"]])
                block = torch.empty(one["bytes"], dtype=torch.uint8, device="cuda")
                block.zero_()
                live[one["id"]] = block, one["stream"]
                del block
            elif operation == "use":
                block, own = live[one["id"]]
                other = streams[one["stream"]]
                other.wait_stream(streams[own])
                cuda.set_stream(other)
                block.zero_()
                block.record_stream(other)
                del block
            elif operation == "free":
                del live[one["id"]]
            else:
                cuda.synchronize()


def main(file, settings):
    # Read when torch starts.
    for variable in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        os.environ.pop(variable, None)
        if settings:
            os.environ[variable] = settings
    (torch,) = modules = peer.import_or_say("torch")
    if not torch.cuda.is_available():
        return peer.say(unavailable="torch sees no GPU")
    with open(file) as lines:
        replays = [Replay(torch, json.loads(line)) for line in lines]
    peer.serve(modules, {replay.trace["name"]: replay.sample for replay in replays})


main(*sys.argv[1:])
