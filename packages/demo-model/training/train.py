#!/usr/bin/env python3
"""Trains the demo model, or a teacher for it. README.md beside this file has the commands that made the committed one.

A plain Llama decoder written for fast training of a very small model on one GPU: the weights of all layers lie in one
tensor a kind, so that the optimizer's steps are few. `--export` writes it as LlamaForCausalLM of transformers and
checks that the reloaded files compute the same logits.

One book is very little text, and what limits the result is overfitting. Hence dropout and weight decay far above the
usual, the average of the weights over the last steps (EMA), and teachers: several larger networks, trained the same
way from other seeds, whose averaged prediction the small one learns from besides the text itself (Hinton, Vinyals and
Dean, "Distilling the knowledge in a neural network", 2015). Matrices are updated by Muon (Jordan et al., 2024).
"""

import argparse
import csv
import json
import math
import pathlib
import time

import torch
import torch.nn.functional as F
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)

BOS, EOS = "<s>", "</s>"
BOS_ID, EOS_ID = 0, 1
ROPE_THETA = 10000.0
NORM_EPSILON = 1e-5

# Words with the mark before them, numbers, marks with the line ends after them: as Llama 3's tokenizer splits, without
# its case-insensitive group, which not every regular expression engine knows (the book has ’ for an apostrophe anyway).
SPLIT_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_tokenizer(text, vocabulary):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        text.splitlines(keepends=True),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[BOS, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, BOS_ID)]
    )
    assert tokenizer.get_vocab_size() == vocabulary
    return tokenizer


def encode_documents(tokenizer, documents):
    """One stream of ids, every document closed by EOS."""
    ids = []
    for encoding in tokenizer.encode_batch(documents, add_special_tokens=False):
        ids.extend(encoding.ids)
        ids.append(EOS_ID)
    return torch.tensor(ids)


def chapters(text):
    """The book's chapters; each but the first starts with the empty line that sets its heading apart."""
    parts = text.split("\n\nCHAPTER ")
    return [parts[0]] + ["\n\nCHAPTER " + part for part in parts[1:]]


class Decoder(torch.nn.Module):
    def __init__(self, *, vocabulary, width, layers, heads, kv_heads, head_width, ffn, dropout, generator):
        super().__init__()
        self.shape = {
            "vocabulary": vocabulary,
            "width": width,
            "layers": layers,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_width": head_width,
            "ffn": ffn,
        }
        self.dropout = dropout

        def matrix(outputs, inputs, gain=1.0):
            noise = torch.randn(layers, outputs, inputs, generator=generator)
            return torch.nn.Parameter(noise * gain * 0.7 / inputs**0.5)

        residual_gain = 1 / (2 * layers) ** 0.5
        self.embedding = torch.nn.Parameter(torch.randn(vocabulary, width, generator=generator) * 0.04)
        self.q = matrix(heads * head_width, width)
        self.k = matrix(kv_heads * head_width, width)
        self.v = matrix(kv_heads * head_width, width)
        self.o = matrix(width, heads * head_width, residual_gain)
        self.gate = matrix(ffn, width)
        self.up = matrix(ffn, width)
        self.down = matrix(width, ffn, residual_gain)
        self.attention_norm = torch.nn.Parameter(torch.ones(layers, width))
        self.ffn_norm = torch.nn.Parameter(torch.ones(layers, width))
        self.final_norm = torch.nn.Parameter(torch.ones(width))

    def rotation(self, length, device):
        half = self.shape["head_width"] // 2
        frequency = ROPE_THETA ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
        angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos(), angle.sin()

    def hidden(self, tokens):
        cos, sin = self.rotation(tokens.shape[1], tokens.device)
        x = F.embedding(tokens, self.embedding)
        x = F.dropout(x, self.dropout, self.training)
        kinds = (self.attention_norm, self.q, self.k, self.v, self.o, self.ffn_norm, self.gate, self.up, self.down)
        heads, kv_heads, head_width = (self.shape[name] for name in ("heads", "kv_heads", "head_width"))
        dropout = self.dropout if self.training else 0.0
        for weights in zip(*(kind.unbind(0) for kind in kinds), strict=True):
            x = layer(x, cos, sin, heads, kv_heads, head_width, dropout, *weights)
        return F.rms_norm(x, (x.shape[-1],), self.final_norm, NORM_EPSILON)

    def forward(self, tokens):
        hidden = self.hidden(tokens)
        return hidden @ self.embedding.t().to(hidden.dtype)


def rotate(x, cos, sin):
    left, right = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-right, left], dim=-1) * sin).to(x.dtype)


def layer(x, cos, sin, heads, kv_heads, head_width, dropout, attention_norm, q, k, v, o, ffn_norm, gate, up, down):
    batch, length, width = x.shape
    y = F.rms_norm(x, (width,), attention_norm, NORM_EPSILON)

    def split(matrix, count):
        return F.linear(y, matrix).view(batch, length, count, head_width).transpose(1, 2)

    queries = rotate(split(q, heads), cos, sin)
    keys = rotate(split(k, kv_heads), cos, sin).repeat_interleave(heads // kv_heads, dim=1)
    values = split(v, kv_heads).repeat_interleave(heads // kv_heads, dim=1)
    attended = F.scaled_dot_product_attention(queries, keys, values.to(queries.dtype), is_causal=True)
    y = F.linear(attended.transpose(1, 2).reshape(batch, length, heads * head_width), o)
    x = x + F.dropout(y, dropout, dropout > 0)
    y = F.rms_norm(x, (width,), ffn_norm, NORM_EPSILON)
    y = F.linear(F.dropout(F.silu(F.linear(y, gate)) * F.linear(y, up), dropout, dropout > 0), down)
    return x + F.dropout(y, dropout, dropout > 0)


class Muon:
    """Momentum whose update is made orthogonal by Newton and Schulz's iteration; for stacks of matrices.

    After Keller Jordan's description of Muon (2024), scaled to the size an Adam step would have (Liu et al., "Muon is
    scalable for LLM training", 2025).
    """

    def __init__(self, parameters, weight_decay):
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.momentum = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, rate):
        for parameter, momentum in zip(self.parameters, self.momentum, strict=True):
            momentum.lerp_(parameter.grad, 0.05)
            x = parameter.grad.lerp(momentum, 0.95).bfloat16()
            wide = x.shape[-2] > x.shape[-1]
            if wide:
                x = x.mT
            x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
            for _ in range(5):
                gram = x @ x.mT
                x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
            if wide:
                x = x.mT
            parameter.mul_(1 - rate * self.weight_decay)
            parameter.add_(x.to(parameter.dtype), alpha=-rate * 0.2 * max(parameter.shape[-2:]) ** 0.5)


@torch.no_grad()
def bits_per_byte(model, ids, total_bytes, length, device):
    """Every token of `ids` predicted once, from BOS and the tokens before it in its own window.

    The windows have `length` - 1 tokens and do not overlap; the last one is filled up with tokens that do not count.
    """
    ignored = -100
    targets = F.pad(ids, (0, -len(ids) % (length - 1)), value=ignored).view(-1, length - 1).to(device)
    inputs = F.pad(targets[:, :-1], (1, 0), value=BOS_ID).clamp(min=0)
    logits = model(inputs)
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=ignored, reduction="sum").item()
    return nats / math.log(2) / total_bytes


def rounded(model, weights):
    """A copy of the model with `weights`, rounded to bf16 as they will be stored, for arithmetic in fp32."""
    copy = Decoder(**model.shape, dropout=0.0, generator=torch.Generator().manual_seed(0)).to(model.embedding.device)
    copy.load_state_dict({name: tensor.bfloat16().float() for name, tensor in weights.items()})
    return copy.eval()


def export(model, tokenizer, context, folder):
    """Writes the model as transformers loads it; the weights are already representable in bf16."""
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    shape = model.shape
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["width"],
        intermediate_size=shape["ffn"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        head_dim=shape["head_width"],
        max_position_embeddings=context,
        rms_norm_eps=NORM_EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        attention_bias=False,
        mlp_bias=False,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        dtype="bfloat16",
    )
    names = {
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    state = {"model.embed_tokens.weight": model.embedding.data, "model.norm.weight": model.final_norm.data}
    for ours, theirs in names.items():
        for index, tensor in enumerate(getattr(model, ours).data.unbind(0)):
            state[f"model.layers.{index}.{theirs}.weight"] = tensor
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    llama = LlamaForCausalLM(config)
    result = llama.load_state_dict(state, strict=False)
    assert result.missing_keys in ([], ["lm_head.weight"]) and result.unexpected_keys == [], result
    llama.tie_weights()
    probe = torch.randint(0, shape["vocabulary"], (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = llama.eval()(probe).logits
        ours = model.cpu()(probe)
    assert (before - ours).abs().max() < 1e-3 * before.abs().max(), "the exported network computes something else"
    llama.to(torch.bfloat16).save_pretrained(folder)
    GenerationConfig(
        bos_token_id=BOS_ID, eos_token_id=EOS_ID, do_sample=True, temperature=0.7, top_p=0.95
    ).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, model_max_length=context
    ).save_pretrained(folder)
    # The class name that releases before transformers 5, and other libraries, know.
    settings_path = pathlib.Path(folder) / "tokenizer_config.json"
    settings = json.loads(settings_path.read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings_path.write_text(json.dumps(settings, indent=2) + "\n")
    reloaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(reloaded(probe).logits, before), "the reloaded files compute other logits"
    text = "“Aye, aye,” said the captain—and so on.\n\n"
    assert AutoTokenizer.from_pretrained(folder).encode(text) == tokenizer.encode(text).ids
    print(f"exported {sum(tensor.numel() for tensor in state.values())} parameters to {folder}")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the folder that prepare.mjs filled")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--export", action="store_true", help="write the files of transformers too")
    parser.add_argument("--validate", action="store_true", help="keep the last 5 % of the training text for choosing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--head-width", type=int, default=32)
    parser.add_argument("--ffn", type=int, default=352)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--weight-decay", type=float, default=0.3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--auxiliary", action="store_true", help="start on the addresses besides the book")
    parser.add_argument("--auxiliary-share", type=float, default=0.9, help="their share of a batch at the start")
    parser.add_argument("--auxiliary-hold", type=float, default=0.4, help="part of the run before the share falls")
    parser.add_argument("--auxiliary-until", type=float, default=0.9, help="part of the run at which it reaches 0")
    parser.add_argument("--teacher", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--teacher-weight", type=float, default=0.7)
    parser.add_argument("--eager", action="store_true", help="do not compile; for a machine without a GPU")
    return parser.parse_args()


def load_teachers(paths, device):
    teachers = []
    for path in paths:
        saved = torch.load(path, map_location=device)
        teacher = Decoder(**saved["shape"], dropout=0.0, generator=torch.Generator().manual_seed(0)).to(device)
        teacher.load_state_dict(saved["weights"])
        teachers.append(teacher.eval().requires_grad_(False))
    return teachers


def main():
    global layer
    options = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(options.seed)
    eager = layer
    if not options.eager:
        torch._dynamo.config.cache_size_limit = 64
        layer = torch.compile(layer, dynamic=False)
    options.out.mkdir(parents=True, exist_ok=True)

    training_text = (options.data / "training.txt").read_text()
    book = training_text
    if options.validate:
        cut = book.rfind("\n\n", 0, int(len(book) * 0.95))
        book, test_text = book[:cut] + "\n", book[cut + 2 :]
    else:
        test_text = (options.data / "held-out.txt").read_text()
    # Without the validation part in every run, so that all share one vocabulary.
    tokenizer = train_tokenizer(training_text[: int(len(training_text) * 0.95)], options.vocabulary)
    tokenizer.save(str(options.out / "tokenizer.json"))
    test_ids = torch.tensor(tokenizer.encode(test_text, add_special_tokens=False).ids)
    test_bytes = len(test_text.encode())

    stream = encode_documents(tokenizer, chapters(book)).to(device)
    auxiliary = None
    if options.auxiliary:
        auxiliary = encode_documents(tokenizer, (options.data / "addresses.txt").read_text().split("\n\n")).to(device)
    print(
        f"book {len(stream)} tokens, {len(book.encode()) / len(stream):.2f} bytes a token; auxiliary"
        f" {0 if auxiliary is None else len(auxiliary)} tokens; test {len(test_ids)} tokens, {test_bytes} bytes"
    )

    generator = torch.Generator().manual_seed(options.seed)
    sizes = ("vocabulary", "width", "layers", "heads", "kv_heads", "head_width", "ffn")
    shape = {name: getattr(options, name) for name in sizes}
    model = Decoder(**shape, dropout=options.dropout, generator=generator).to(device).train()
    count = sum(parameter.numel() for parameter in model.parameters())
    stacks = [parameter for parameter in model.parameters() if parameter.dim() == 3]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 3]
    muon = Muon(stacks, options.weight_decay)
    adam = torch.optim.AdamW(
        [
            {"params": [model.embedding], "weight_decay": options.weight_decay},
            {"params": [p for p in others if p is not model.embedding], "weight_decay": 0.0},
        ],
        lr=options.rate,
        betas=(0.9, 0.98),
        eps=1e-10,
        fused=device.type == "cuda",
    )
    average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    teachers = load_teachers(options.teacher, device)

    arange = torch.arange(options.context - 1, device=device)

    def batch(progress):
        """Windows from random places, BOS before each: as they are measured, and as a prompt starts."""
        falling = options.auxiliary_until - options.auxiliary_hold
        share = options.auxiliary_share * min(1, max(0, (options.auxiliary_until - progress) / falling))
        from_auxiliary = 0 if auxiliary is None else round(options.batch * share)
        rows = []
        for source, amount in ((stream, options.batch - from_auxiliary), (auxiliary, from_auxiliary)):
            if amount:
                start = torch.randint(0, len(source) - options.context, (amount,), generator=generator)
                rows.append(source[start.to(device)[:, None] + arange])
        targets = torch.cat(rows)
        inputs = F.pad(targets[:, :-1], (1, 0), value=BOS_ID)
        return inputs, targets

    def losses(inputs, targets, progress):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = model(inputs)
        cross_entropy = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        if not teachers:
            return cross_entropy, cross_entropy
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
            mixture = sum(teacher(inputs).float().softmax(-1) for teacher in teachers) / len(teachers)
        distilled = -(mixture * logits.float().log_softmax(-1)).sum(-1).mean()
        weight = options.teacher_weight
        return (1 - weight) * cross_entropy + weight * distilled, cross_entropy

    rows, seen, started, smoothed, measured_at = [], 0, time.time(), None, -1
    for step in range(1, options.steps + 1):
        progress = (step - 1) / options.steps
        inputs, targets = batch(progress)
        loss, cross_entropy = losses(inputs, targets, progress)
        loss.backward()
        # Warm-up, a level stretch, then straight down to zero.
        rate = options.rate * min(1, step / 50, (1 - progress) / 0.6)
        for group in adam.param_groups:
            group["lr"] = rate
        muon.step(rate)
        adam.step()
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(options.ema, 1 - 1 / (step + 1))
            torch._foreach_lerp_(list(average.values()), [p.detach() for p in model.state_dict().values()], 1 - keep)
        seen += targets.numel()
        current = cross_entropy.detach()
        smoothed = current if smoothed is None else smoothed.lerp(current, 0.05)
        if int(progress * 25) != measured_at:
            measured_at = int(progress * 25)
            test = bits_per_byte(rounded(model, average), test_ids, test_bytes, options.context, device)
            rows.append((step, seen, round(rate, 6), round(smoothed.item(), 4), round(test, 4)))
            print(*rows[-1], f"{time.time() - started:.1f}s", flush=True)
    seconds = time.time() - started
    final = rounded(model, average)
    test = bits_per_byte(final, test_ids, test_bytes, options.context, device)
    if rows[-1][0] == step:
        rows.pop()
    rows.append((step, seen, 0.0, round(smoothed.item(), 4), round(test, 4)))
    with open(options.out / "loss.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "tokens", "rate", "training_nats_per_token", "held_out_bits_per_byte"])
        writer.writerows(rows)
    torch.save({"shape": shape, "weights": final.state_dict()}, options.out / "weights.pt")
    settings = {
        name: value for name, value in vars(options).items() if name not in ("data", "out", "teacher", "export")
    }
    summary = {
        "testBitsPerByte": test,
        "tested": "validation" if options.validate else "held-out",
        "parameters": count,
        "tokens": seen,
        "seconds": round(seconds, 1),
        "settings": {**settings, "teachers": len(teachers)},
    }
    (options.out / "run.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(
        f"RESULT {options.out.name}: {test:.4f} bits per byte, {count} parameters, {step} steps, {seen} tokens,"
        f" {seen / seconds:.0f} tokens/s",
        flush=True,
    )
    if options.export:
        layer = eager
        export(final, tokenizer, options.context, options.out / "model")


if __name__ == "__main__":
    main()
