"""Decoding with every layer in host memory, as others do it: the layers of a Llama in PyTorch, a token a step.

  PyTorch, link            copies of 1 GiB from pinned memory: PyTorch's limit, beside ours
  PyTorch, double buffer   written by hand: each layer flat in pinned memory, copied to one of two buffers ahead of its use
  accelerate, cpu_offload  of Hugging Face accelerate

Embedding and head stay on the GPU. There is no cache: of one token it would hold next to nothing.

  python3 torch_offload.py DIRECTORY cuda|host SAMPLE_TOKENS
"""

import sys
import time

import peer

torch, transformers, accelerate = modules = peer.import_or_say("torch", "transformers", "accelerate")


class DoubleBuffer:
    """Layer i passes through buffer i mod 2; its copy waits for the layer that was there before, and it for its copy."""

    def __init__(self, model):
        self.model, self.layers = model, model.model.layers
        self.flat = []
        for layer in self.layers:
            self.flat.append(torch.cat([weight.data.reshape(-1) for weight in layer.parameters()]).pin_memory())
        for part in (model.model.embed_tokens, model.model.norm, model.model.rotary_emb, model.lm_head):
            part.cuda()
        self.buffers = [torch.empty_like(self.flat[0], device="cuda") for _ in range(2)]
        self.copies = torch.cuda.Stream()
        self.copied = [torch.cuda.Event() for _ in range(2)]
        self.used = [torch.cuda.Event() for _ in range(2)]

    def onload(self, i):
        with torch.cuda.stream(self.copies):
            self.copies.wait_event(self.used[i % 2])
            self.buffers[i % 2].copy_(self.flat[i], non_blocking=True)
            self.copied[i % 2].record(self.copies)

    def point_to_buffer(self, i):
        offset = 0
        for weight in self.layers[i].parameters():
            weight.data = self.buffers[i % 2][offset : offset + weight.numel()].view(weight.shape)
            offset += weight.numel()

    def step(self, tokens):
        compute = torch.cuda.current_stream()
        for event in self.used:
            event.record(compute)
        self.onload(0)
        hidden = self.model.model.embed_tokens(tokens)
        positions = torch.arange(tokens.shape[1], device="cuda")[None]
        rotary = self.model.model.rotary_emb(hidden, positions)
        for i, layer in enumerate(self.layers):
            if i + 1 < len(self.layers):
                self.onload(i + 1)
            compute.wait_event(self.copied[i % 2])
            self.point_to_buffer(i)
            out = layer(hidden, position_embeddings=rotary)
            hidden = out[0] if isinstance(out, tuple) else out
            self.used[i % 2].record(compute)
        return self.model.lm_head(self.model.model.norm(hidden))


def timed(step, count):
    def sample():
        # As much again: what another subject left under way is over then.
        for _ in range(count):
            step()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            step()
        torch.cuda.synchronize()
        return time.perf_counter() - begin

    return sample


def main(directory, device, sample_tokens):
    if device != "cuda" or not torch.cuda.is_available():
        return peer.say(unavailable="it needs a GPU")
    # Made on the GPU: that takes seconds instead of minutes.
    by_hand, by_accelerate = (peer.build(torch, transformers, directory, "cuda").cpu() for _ in range(2))
    tokens = torch.ones((1, 1), dtype=torch.long, device="cuda")
    count = int(sample_tokens)
    with torch.inference_mode():
        source = torch.randint(256, (1 << 30,), dtype=torch.uint8, device="cuda").cpu().pin_memory()
        target = torch.empty_like(source, device="cuda")
        link = timed(lambda: target.copy_(source, non_blocking=True), 4)
        ring = DoubleBuffer(by_hand)
        decode = timed(lambda: ring.step(tokens).argmax(-1).item(), count)
        model = accelerate.cpu_offload(by_accelerate, execution_device="cuda:0")
        slow = timed(lambda: model(input_ids=tokens, use_cache=False).logits.argmax(-1).item(), 1)
        subjects = {
            "PyTorch, link": lambda: (4 << 30, link()),
            "PyTorch, double buffer": lambda: (count, decode()),
            "accelerate, cpu_offload": lambda: (1, slow()),
        }
        peer.serve(modules, subjects)


main(*sys.argv[1:])
