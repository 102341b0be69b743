"""Loading a checkpoint from the page cache to the GPU with transformers, and with safetensors alone.

  python3 torch_load.py DIRECTORY cuda|host
"""

import os
import sys
import time

import peer

torch, transformers, safetensors = modules = peer.import_or_say("torch", "transformers", "safetensors")


def main(directory, device):
    if device != "cuda" or not torch.cuda.is_available():
        return peer.say(unavailable="it needs a GPU")
    import safetensors.torch

    file = os.path.join(directory, "model.safetensors")
    torch.zeros(1, device="cuda")

    def timed(load):
        def sample():
            torch.cuda.synchronize()
            begin = time.perf_counter()
            loaded = load()
            torch.cuda.synchronize()
            seconds = time.perf_counter() - begin
            del loaded
            torch.cuda.empty_cache()
            return os.path.getsize(file), seconds

        return sample

    def from_pretrained():
        return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype="auto", device_map="cuda")

    subjects = {
        "transformers, from_pretrained": timed(from_pretrained),
        "safetensors, load_file": timed(lambda: safetensors.torch.load_file(file, device="cuda")),
    }
    peer.serve(modules, subjects)


main(*sys.argv[1:])
