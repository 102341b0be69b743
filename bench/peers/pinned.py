"""Pinned memory as the driver itself allocates it; without a GPU, memory touched by one thread in small pages.

  python3 pinned.py cuda|host BYTES...
"""

import ctypes
import itertools
import mmap
import sys
import time

import peer


def driver_allocation():
    """A function that allocates so many bytes and gives them back; it returns the seconds that allocating took."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        peer.say(unavailable=str(error))
        sys.exit(0)

    def check(result, call):
        if result != 0:
            raise RuntimeError(f"{call} failed with {result}")

    context = ctypes.c_void_p()
    check(cuda.cuInit(0), "cuInit")
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0), "cuDevicePrimaryCtxRetain")
    check(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent")

    def allocate(count):
        memory = ctypes.c_void_p()
        portable = 1
        begin = time.perf_counter()
        check(cuda.cuMemHostAlloc(ctypes.byref(memory), ctypes.c_size_t(count), portable), "cuMemHostAlloc")
        seconds = time.perf_counter() - begin
        check(cuda.cuMemFreeHost(memory), "cuMemFreeHost")
        return seconds

    return allocate


def single_thread(count):
    begin = time.perf_counter()
    with mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 0, count)
        return time.perf_counter() - begin


def sampler(allocate, count):
    """Its first call warms up the driver, which takes no 32 GiB; whoever takes the sample warms the memory."""
    counts = itertools.chain([min(count, 64 << 20)], itertools.repeat(count))

    def sample():
        bytes_now = next(counts)
        return bytes_now, allocate(bytes_now)

    return sample


def main(device, *sizes):
    allocate = driver_allocation() if device == "cuda" else single_thread
    peer.serve([], {size: sampler(allocate, int(size)) for size in sizes})


main(*sys.argv[1:])
