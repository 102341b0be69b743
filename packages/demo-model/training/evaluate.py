#!/usr/bin/env python3
"""Measures the model in ../model with transformers: `python3 evaluate.py DATA`, then `node evaluate.mjs`.

DATA is the folder that prepare.mjs filled. The stored bf16 weights are widened to fp32, and all arithmetic is fp32 on
the CPU. Writes samples.txt and evaluation.json; evaluate.mjs adds to the latter what needs no model (the byte trigram,
the share of the book's words, copied stretches).
"""

import json
import math
import pathlib
import sys

import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
WINDOW_TOKENS = 512
SEED = 0
TEMPERATURE = 0.8
SAMPLES = 12
SAMPLE_TOKENS = 400
# Committed: what a change to the model, or another implementation of it, must keep.
BOUNDS = {"bitsPerByte": 1.73, "wordsOfTheBook": 0.95}
PROMPTS = ["Call me Ishmael.", "The captain", "It was a dark night, and the ship", "“What do you see?” said Ahab."]


@torch.no_grad()
def bits_per_byte(model, ids, total_bytes):
    """Windows of BOS and 511 tokens of the text, without overlap, the last one shorter; each token counts once."""
    nats = 0.0
    for part in torch.tensor(ids).split(WINDOW_TOKENS - 1):
        window = torch.cat([torch.tensor([model.config.bos_token_id]), part])[None]
        logits = model(window[:, :-1], use_cache=False).logits[0]
        nats += torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum").item()
    return nats / math.log(2) / total_bytes


def sample(model, tokenizer, prompt, tokens, **settings):
    ids = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**ids, max_new_tokens=tokens, pad_token_id=model.config.eos_token_id, **settings)
    return tokenizer.batch_decode(output[:, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def main():
    data = pathlib.Path(sys.argv[1])
    tokenizer = transformers.AutoTokenizer.from_pretrained(HERE.parent / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(HERE.parent / "model", dtype=torch.float32).eval()
    text = (data / "held-out.txt").read_text()
    ids = tokenizer.encode(text, add_special_tokens=False)
    evaluation = {
        "bounds": BOUNDS,
        "model": {
            "heldOutBytes": len(text.encode()),
            "heldOutTokens": len(ids),
            "windowTokens": WINDOW_TOKENS,
            "bitsPerByte": bits_per_byte(model, ids, len(text.encode())),
            "measuredWith": {"torch": torch.__version__, "transformers": transformers.__version__},
        },
        "samples": {"seed": SEED, "temperature": TEMPERATURE, "count": SAMPLES, "tokens": SAMPLE_TOKENS},
    }
    torch.manual_seed(SEED)
    # From BOS alone, the whole distribution: no top-k, no top-p.
    texts = sample(
        model, tokenizer, [""] * SAMPLES, SAMPLE_TOKENS, do_sample=True, temperature=TEMPERATURE, top_k=0, top_p=1.0
    )
    separator = "\n" + "=" * 72 + "\n"
    (HERE / "samples.txt").write_text(separator.join(part.strip() for part in texts) + "\n")
    (HERE / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n")
    print(json.dumps(evaluation, indent=2))
    for settings in ({"do_sample": False}, {"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 1.0}):
        for prompt in PROMPTS:
            print(f"\n--- {settings}\n{prompt}|{sample(model, tokenizer, prompt, 120, **settings)[0]}")


if __name__ == "__main__":
    main()
