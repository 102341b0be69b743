#!/usr/bin/env python3
"""Draws loss.svg from loss.csv and evaluation.json: `python3 plot.py`."""

import csv
import json
import pathlib

import matplotlib

matplotlib.use("svg")
# Text stays text and identifiers stay the same, so that the file is small and a new run of this script changes nothing.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "loss", "font.family": "sans-serif"})
from matplotlib import pyplot  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


def main():
    with open(HERE / "loss.csv") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    evaluation = json.loads((HERE / "evaluation.json").read_text())
    steps = [row["step"] for row in rows]
    figure, left = pyplot.subplots(figsize=(7.5, 4))
    left.plot(
        steps, [row["held_out_bits_per_byte"] for row in rows], color="#1f5fa8", label="held-out 5 %, bits per byte"
    )
    trigram = evaluation["byteTrigramBitsPerByte"]
    left.axhline(trigram, color="#888888", linestyle="--", label=f"byte trigram, {trigram:.2f}")
    left.set_xlabel("step (32,704 tokens each)")
    left.set_ylabel("bits per byte")
    left.set_ylim(1.5, 3.5)
    right = left.twinx()
    right.plot(
        steps,
        [row["training_nats_per_token"] for row in rows],
        color="#c46a1b",
        linewidth=1,
        label="training batches, nats per token",
    )
    right.set_ylabel("nats per token")
    right.set_ylim(2, 8)
    # What a batch holds explains the curve's rise: the book takes the addresses' place.
    left.axvspan(0.6 * steps[-1], 0.9 * steps[-1], color="#eeeeee", zorder=0)
    left.text(0.75 * steps[-1], 1.55, "addresses give way\nto the book", ha="center", fontsize=8, color="#555555")
    lines = left.get_lines() + right.get_lines()
    left.legend(lines, [line.get_label() for line in lines], loc="upper right", frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(
        HERE / "loss.svg", metadata={"Title": "Loss of the demo model in training", "Date": None, "Creator": None}
    )


if __name__ == "__main__":
    main()
