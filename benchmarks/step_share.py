"""The share of the noise in a training step: steps with and without the callback, in turns, in one fit.

    python benchmarks/step_share.py

The tiny Llama of `workload.py` trains in float32 under Lightning's Trainer; each batch comes twice, once with the
callback's hooks called and once without, every second pair the other way round. A step is all from the start of the
batch to the end of the optimiser's step. Two figures: the difference within the pairs, and the callback's own time (its
hooks, and the forward hook less nothing, as it has none without noise) over that of the step without it, which is much
less noisy. It is checked that exactly the steps with the callback had noise, and that a compiled model with noise of
varying lengths has no graph break.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from harness import RESULTS, Record, ratio, spread, target, write_results
from torch.utils.data import DataLoader
from transformers import LlamaConfig, LlamaForCausalLM
from typing_extensions import override
from workload import TINY, lengths

from lightning_neft import EmbeddingNoise, NEFTune

BATCH_SIZE = 8
Batch = dict[str, torch.Tensor]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=RESULTS / "step_share.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    callback = EverySecond()
    trainer = L.Trainer(
        callbacks=[callback],
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # A few more pairs than are counted: the first steps are slower.
    pairs = _batches(args.pairs + 3)
    trainer.fit(Tuned(), DataLoader([batch for batch in pairs for _ in range(2)], batch_size=None))
    report = callback.report(skip=3)
    report["graph_breaks"] = graph_breaks(pairs[:4])
    report["targets"] = [
        target("share of the noise in a step, by the callback's own clock", report["own_share"]["median"], "<= 0.01"),
        target("share of the noise in a step, by the difference of steps", report["difference"]["median"], "<= 0.01"),
        target("graph breaks of a compiled model with noise", report["graph_breaks"], "<= 0"),
    ]
    print({key: report[key] for key in ("own_share", "difference", "interval")})
    write_results(args.out, report, ("torch", "lightning", "transformers", "lightning-neft"))


class Tuned(L.LightningModule):
    """A random Llama, trained plainly."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = LlamaForCausalLM(LlamaConfig(**TINY, use_cache=False, pad_token_id=0)).train()

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.model(**batch).loss
        return loss

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=5e-5, fused=True)


class EverySecond(L.Callback):
    """The callback, called for one step of each pair; and the clock of all steps."""

    def __init__(self) -> None:
        self.neftune = NEFTune(alpha=5.0, seed=0)
        self.times: dict[str, list[float]] = {"with": [], "without": [], "own": []}
        self.noised: list[bool] = []

    def _is_noisy(self, batch_idx: int) -> bool:
        pair, second = divmod(batch_idx, 2)
        return (pair + second) % 2 == 0

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.neftune.on_fit_start(trainer, pl_module)
        embedding = pl_module.model.get_input_embeddings()  # type: ignore[operator, union-attr]
        (hook,) = embedding._forward_hooks.values()
        self._own = 0.0

        def clocked(*args: Any) -> Any:
            begun = time.perf_counter()
            output = hook(*args)
            self._own += time.perf_counter() - begun
            self._landed = output is not None
            return output

        embedding._forward_hooks[next(iter(embedding._forward_hooks))] = clocked

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._own, self._begun = 0.0, time.perf_counter()
        if self._is_noisy(batch_idx):
            self.neftune.on_train_batch_start(trainer, pl_module, batch, batch_idx)
            self._own += time.perf_counter() - self._begun

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        is_noisy, begun = self._is_noisy(batch_idx), time.perf_counter()
        if is_noisy:
            self.neftune.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        ended = time.perf_counter()
        self.times["with" if is_noisy else "without"].append(ended - self._begun)
        if is_noisy:
            self.times["own"].append(self._own + ended - begun)
        if self._landed != is_noisy:
            raise SystemExit(f"step {batch_idx}: the noise was {'on' if self._landed else 'off'}")

    def report(self, skip: int) -> Record:
        """Return the shares over all pairs but the first ones."""
        times = {name: values[skip:] for name, values in self.times.items()}
        differences = np.array(times["with"]) / np.array(times["without"]) - 1
        rng = np.random.default_rng(0)
        medians = np.median(rng.choice(differences, (10_000, len(differences))), axis=1)
        return {
            "step_seconds": {name: spread(values) for name, values in times.items()},
            "own_share": ratio(times, "own", "without"),
            "difference": spread(differences.tolist()),
            # Of the median, by the bootstrap over the pairs.
            "interval": np.quantile(medians, [0.025, 0.975]).tolist(),
        }


def graph_breaks(batches: list[Batch]) -> int:
    """Return the breaks in the graph of a compiled model, the lengths and the width of the batch changing."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = Tuned().model
    compiled = torch.compile(model, backend="aot_eager")
    noise = EmbeddingNoise(5.0).attach(compiled)
    clean, noisy = [], []
    for step, batch in enumerate(batches):
        with torch.no_grad():
            clean.append(model(**batch).loss.item())
        with noise.armed(batch, step):
            loss = compiled(**batch).loss
        loss.backward()
        noisy.append(loss.item())
    if any(one == other for one, other in zip(clean, noisy, strict=True)) or not torch._dynamo.utils.counters["stats"]:
        raise SystemExit("the compiled model had no noise, or was not compiled")
    return sum(torch._dynamo.utils.counters["graph_break"].values())


def _batches(count: int) -> list[Batch]:
    """Batches of Alpaca's lengths, rows of similar length together, none of them wider than 256 tokens."""
    prompts, answers = lengths(2000)
    both = np.sort(np.minimum(prompts + answers, 256))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, len(both) - BATCH_SIZE, count)
    batches = []
    for start in starts:
        counts = torch.from_numpy(both[start : start + BATCH_SIZE])
        mask = torch.arange(int(counts.max())) < counts[:, None]
        ids = torch.from_numpy(rng.integers(3, TINY["vocab_size"], mask.shape)).where(mask, 0)
        batches.append({"input_ids": ids, "attention_mask": mask.long(), "labels": ids.where(mask, -100)})
    return batches


if __name__ == "__main__":
    main()
