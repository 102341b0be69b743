"""Greedy decoding by Hugging Face transformers, batch 1, eager, with its default cache. The weights are random.

The loop is the shortest that returns every token to the host, as ours does: generate() would only add to it. The
subjects are ways to compute attention. With sdpa, PyTorch 2.11 may choose cuDNN, which builds a new plan for every length
of the cache: "sdpa, no cudnn" keeps it from that (github.com/modelscope/FunASR/issues/3704).

  python3 transformers_decode.py DIRECTORY cuda|host PROMPT_TOKENS SAMPLE_TOKENS CONTEXT_LENGTH
"""

import sys
import time

import peer

torch, transformers = modules = peer.import_or_say("torch", "transformers")


class Sequence:
    """One sequence that goes on sample by sample, and starts anew when the context is full."""

    def __init__(self, model, attention, device, prompt_tokens, context_length):
        self.model, self.attention, self.device = model, attention, device
        self.prompt_tokens, self.context_length = prompt_tokens, context_length
        self.length = context_length

    def start(self):
        prompt = [[(i * 7919 + 1) % self.model.config.vocab_size for i in range(self.prompt_tokens)]]
        self.cache, self.length = None, 0
        self.step(torch.tensor(prompt, device=self.device))
        for _ in range(2):
            self.step(self.last)

    def step(self, tokens):
        out = self.model(input_ids=tokens, past_key_values=self.cache, use_cache=True)
        self.cache = out.past_key_values
        self.length += tokens.shape[1]
        self.last = out.logits[:, -1].argmax(-1, keepdim=True)
        return self.last.item()

    def sample(self, tokens):
        implementation, _, without = self.attention.partition(", no ")
        self.model.set_attn_implementation(implementation)
        torch.backends.cuda.enable_cudnn_sdp(without != "cudnn")
        if self.length + tokens + 1 > self.context_length:
            self.start()
        self.step(self.last)
        begin = time.perf_counter()
        for _ in range(tokens):
            self.step(self.last)
        return tokens, time.perf_counter() - begin


def main(directory, device, prompt_tokens, sample_tokens, context_length):
    device = "cpu" if device == "host" else device
    if device == "cuda" and not torch.cuda.is_available():
        return peer.say(unavailable="torch sees no GPU")
    model = peer.build(torch, transformers, directory, device)
    sequences = {
        attention: Sequence(model, attention, device, int(prompt_tokens), int(context_length))
        for attention in ("sdpa", "sdpa, no cudnn", "eager")
    }
    with torch.inference_mode():
        subjects = {
            f"transformers, {attention}": lambda one=one: one.sample(int(sample_tokens))
            for attention, one in sequences.items()
        }
        peer.serve(modules, subjects)


main(*sys.argv[1:])
