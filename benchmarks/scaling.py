"""What a training step costs by sequence length, batch and vocabulary, and which part of it is the noise.

    python benchmarks/scaling.py

One of the three is varied at a time around 8 rows of 256 tokens and a vocabulary of 4,096, on the tiny Llama of
`workload.py` in float32. A step is noise, forward, backward, clipping and AdamW; the noise is what `EmbeddingNoise`
takes by its own clock. All settings take turns. It is checked that the noise was there. Writes the results and the
figure.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import RESULTS, Record, in_turns, spread, write_results
from transformers import LlamaConfig, LlamaForCausalLM
from workload import TINY

from lightning_neft import EmbeddingNoise
from lightning_neft.cli.process import keep_freed_memory

BASE = {"length": 256, "batch": 8, "vocabulary": 4096}
VALUES = {
    "length": (64, 128, 256, 512, 1024),
    "batch": (1, 2, 4, 8, 16, 32),
    "vocabulary": (1024, 4096, 16384, 32768, 65536),
}
FIGURE = RESULTS.parents[1] / "docs" / "figures" / "scaling.svg"


def main() -> None:
    """Measure, write the results, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    parser.add_argument("--figure", type=Path, default=FIGURE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    # As a fit does.
    keep_freed_memory()
    settings = list(dict.fromkeys(tuple({**BASE, axis: value}.values()) for axis in VALUES for value in VALUES[axis]))
    steps: dict[str, Callable[[], float]] = {}
    noise_seconds: dict[str, list[float]] = {}
    for setting in settings:
        name = "x".join(map(str, setting))
        steps[name] = _step(*setting, noise_seconds.setdefault(name, []))
    in_turns(steps, 1)
    for values in noise_seconds.values():
        values.clear()
    seconds = in_turns(steps, args.rounds)
    rows = {axis: [_row(axis, value, seconds, noise_seconds) for value in VALUES[axis]] for axis in VALUES}
    for axis, of_axis in rows.items():
        for row in of_axis:
            print(f"{axis} {row[axis]:6}: {row['tokens_per_second']:7.0f} tokens/s, noise {row['noise_share']:.2%}")
    write_results(args.out, {"base": BASE, "rows": rows}, ("torch", "transformers", "lightning-neft"))
    draw(rows, args.figure)


def _step(length: int, batch: int, vocabulary: int, noise_seconds: list[float]) -> Callable[[], float]:
    """Return what makes one step and returns its seconds."""
    torch.manual_seed(0)
    shape = {**TINY, "vocab_size": vocabulary}
    model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=2048, use_cache=False)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
    ids = torch.randint(3, vocabulary, (batch, length))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    noise = EmbeddingNoise(5.0).attach(model)
    hooks = model.get_input_embeddings()._forward_hooks
    (key, hook), *_ = hooks.items()
    number = iter(range(10**9))

    def clocked(*args: Any) -> Any:
        begun = time.perf_counter()
        output = hook(*args)
        noise_seconds[-1] += time.perf_counter() - begun
        if torch.equal(output, args[2]):
            raise SystemExit("a step had no noise")
        return output

    hooks[key] = clocked

    def step() -> float:
        # What another setting has freed goes back to the system at the next large free: here, not within the step.
        torch.empty(2**20)
        begun = time.perf_counter()
        noise.arm(given, next(number))
        noise_seconds.append(time.perf_counter() - begun)
        loss = model(**given).loss
        noise.disarm()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - begun

    return step


def _row(axis: str, value: int, seconds: dict[str, list[float]], noise_seconds: dict[str, list[float]]) -> Record:
    setting = {**BASE, axis: value}
    name = "x".join(map(str, setting.values()))
    taken = spread(seconds[name])
    return {
        **setting,
        "step_seconds": taken,
        "tokens_per_second": setting["length"] * setting["batch"] / taken["median"],
        "noise_share": spread(
            [noise / step for noise, step in zip(noise_seconds[name], seconds[name], strict=True)],
        )["median"],
    }


def draw(rows: dict[str, list[Record]], path: Path) -> None:
    """Draw tokens per second, and the share of the noise, over each of the three."""
    import matplotlib

    matplotlib.use("Agg")
    # Text that can be searched, and the same file from the same numbers.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "scaling", "font.size": 9})
    import matplotlib.pyplot as plt

    labels = {"length": "tokens in a row", "batch": "rows in a batch", "vocabulary": "words in the vocabulary"}
    figure, axes = plt.subplots(2, len(rows), figsize=(9, 4.8), sharey="row", sharex="col", layout="constrained")
    for column, (axis, of_axis) in enumerate(rows.items()):
        values = [row[axis] for row in of_axis]
        speed, share = axes[0][column], axes[1][column]
        speed.plot(values, [row["tokens_per_second"] for row in of_axis], "o-", color="#1f5f8b")
        share.plot(values, [100 * row["noise_share"] for row in of_axis], "o-", color="#b5541c")
        share.axhline(1, color="#888888", linestyle="--", linewidth=1)
        share.set_xscale("log", base=2)
        share.set_xticks(values, [f"{value:,}" for value in values], rotation=45)
        share.minorticks_off()
        share.set_xlabel(labels[axis])
        for plot in (speed, share):
            plot.grid(alpha=0.3)
            plot.spines[["top", "right"]].set_visible(False)
    # At the end: it switches off the scaling to what is drawn afterwards, and the columns share their axis.
    axes[0][0].set_ylim(bottom=0)
    axes[1][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel("tokens a second")
    axes[1][0].set_ylabel("noise, % of a step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
