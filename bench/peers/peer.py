"""What peers share: the protocol of bench/lib/peer.mjs, one JSON object a line on standard output.

First {"versions": {name: version}, "subjects": [name], "notes": [text]}, or {"unavailable": reason}; then, for each line
of standard input, which names a subject, {"amount": number, "seconds": number}.
"""

import json
import os
import sys

_answers = os.dup(1)
# Standard output belongs to the protocol; what libraries print goes to standard error.
os.dup2(2, 1)


def say(**answer):
    os.write(_answers, (json.dumps(answer) + "\n").encode())


def import_or_say(*names):
    """The modules; says that they are unavailable, and exits, when one is not installed."""
    try:
        return [__import__(name) for name in names]
    except ImportError as error:
        say(unavailable=f"python3 has not all of {', '.join(names)}: {error}")
        sys.exit(0)


def build(torch, transformers, directory, device):
    """The bf16 model that config.json in the directory describes, with the weights it is initialized with."""
    config = transformers.AutoConfig.from_pretrained(directory)
    # By what name an argument says so depends on the version; what is not said is the default.
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = transformers.AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    dtypes = {weight.dtype for weight in model.parameters()}
    if dtypes != {torch.bfloat16}:
        raise SystemExit(f"the model's weights should be bfloat16; they are {dtypes}")
    return model.eval()


def serve(modules, subjects):
    """Takes samples until standard input ends. subjects: by name, functions that return (amount, seconds).

    Each is called once before: that warms it up, and one that fails does not end the others.
    """
    notes = []
    for name, sample in list(subjects.items()):
        try:
            sample()
        except Exception as error:
            del subjects[name]
            notes.append(f"{name} was not measured: {type(error).__name__}: {str(error)[:200]}")
    versions = {module.__name__: module.__version__ for module in modules}
    say(versions={"python": sys.version.split()[0], **versions}, subjects=list(subjects), notes=notes)
    for line in sys.stdin:
        amount, seconds = subjects[line.strip()]()
        say(amount=amount, seconds=seconds)
