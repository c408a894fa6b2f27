"""Estimated memory and time of a recipe, by the formulas below; nothing here was measured.

All numbers are for bf16 or float32 training with AdamW on devices of one kind. `docs/recipes.md` explains the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_neft.hub.base_models import BaseModel

__all__ = ["PEAK_FLOPS", "UTILISATION", "Estimate", "Run", "estimate", "run_of"]

# The bf16 peak of an A100 by NVIDIA's data sheet, and the assumed utilisation, within the 0.3 to 0.5 of large models in
# PaLM's table 3 (arXiv 2204.02311).
PEAK_FLOPS = 312e12
UTILISATION = 0.4
# Bytes per weight of QLoRA's NF4 with double quantisation: 4 + 0.127 bits (arXiv 2305.14314, sec. 3).
_NF4 = 4.127 / 8


@dataclass(frozen=True)
class Run:
    """What determines the memory and time of a run.

    Attributes:
        rows: Rows on a device at a time.
        length: Maximum tokens of a row.
        weight_bytes: Bytes of a weight that is not quantised.
        activation_bytes: Bytes of an activation between the blocks.
        lora_rank: Rank of the adapters; None to train all weights.
        is_quantised: Whether the frozen weights have 4 bits.
        is_checkpointed: Whether the backward pass recomputes the activations of the blocks.
        shards: Number of devices over which weights, gradients and optimiser states are split.
        devices: Number of devices that share the samples.
        samples: Samples of an epoch; None if unknown.
        epochs: Number of epochs.
        has_logits: Whether the model predicts every token.
    """

    rows: int
    length: int
    weight_bytes: int
    activation_bytes: int
    lora_rank: int | None = None
    is_quantised: bool = False
    is_checkpointed: bool = False
    shards: int = 1
    devices: int = 1
    samples: int | None = None
    epochs: int = 3
    has_logits: bool = True


@dataclass(frozen=True)
class Estimate:
    """Bytes on each device, and the time of all epochs on A100s.

    Attributes:
        weights: All weights, adapters included.
        gradients: Gradients of the trained weights.
        states: AdamW's two moments.
        activations: What the forward pass stores, with the logits, if all rows have the maximum length.
        seconds: An upper bound, as if all rows had the maximum length; None if the number of samples is unknown.
    """

    weights: float
    gradients: float
    states: float
    activations: float
    seconds: float | None

    @property
    def total(self) -> float:
        """Bytes on each device, without the CUDA context, communication buffers and fragmentation."""
        return self.weights + self.gradients + self.states + self.activations


def estimate(model: BaseModel, run: Run) -> Estimate:
    """Estimate a run.

    Example:
        >>> from lightning_neft.hub.base_models import find_base_model
        >>> found = estimate(find_base_model("llama-2-7b"), Run(8, 512, 2, 2, is_checkpointed=True))
        >>> round(found.weights / 1e9, 1), round((found.gradients + found.states) / 1e9, 1)
        (13.5, 40.4)
    """
    tables = model.vocabulary * model.width * (1 if model.is_tied else 2)
    adapters = 0 if run.lora_rank is None else run.lora_rank * model.layers * sum(map(sum, _matrices(model)))
    frozen_bytes = model.parameters * run.weight_bytes
    if run.is_quantised:
        # Embedding and head are not quantised, but kept in float32.
        frozen_bytes = (model.parameters - tables) * _NF4 + tables * 4  # type: ignore[assignment]
    # Adapters are kept in float32.
    trained, trained_bytes = (model.parameters, run.weight_bytes) if run.lora_rank is None else (adapters, 4)
    return Estimate(
        weights=(frozen_bytes + adapters * 4) / run.shards,
        gradients=trained * trained_bytes / run.shards,
        states=2 * trained * trained_bytes / run.shards,
        activations=_activations(model, run),
        seconds=_seconds(model, run, tables),
    )


def _matrices(model: BaseModel) -> list[tuple[int, int]]:
    """Return the input and output sizes of the matrices of a block."""
    width, head = model.width, model.head_width or model.width // model.heads
    queries, keys = model.heads * head, model.kv_heads * head
    attention = [(width, queries), (width, keys), (width, keys), (queries, width)]
    return [*attention, *[(width, model.feed_forward)] * (_gates(model) + 1), (model.feed_forward, width)]


def _gates(model: BaseModel) -> int:
    return 0 if model.model_type == "opt" else 1


def _activations(model: BaseModel, run: Run) -> float:
    """Return the bytes that a forward pass stores for the backward pass.

    Counted as by Korthikanti et al. (arXiv 2205.05198, sec. 4.1), without attention scores, which are never stored, and
    without dropout: inputs of norms and matrices, queries, keys, values, and products of the feed-forward part.
    """
    head = model.head_width or model.width // model.heads
    attention = 2 * model.width + 2 * model.heads * head + 2 * model.kv_heads * head
    feed_forward = 2 * model.width + (2 + 2 * _gates(model)) * model.feed_forward
    block = attention + feed_forward
    kept = model.layers * model.width + block if run.is_checkpointed else model.layers * block
    tokens = run.rows * run.length
    # Logits and their gradient in float32, as if every token were trained.
    logits = 2 * 4 * model.vocabulary if run.has_logits else 0
    return tokens * (kept * run.activation_bytes + logits)


def _seconds(model: BaseModel, run: Run, tables: int) -> float | None:
    """Return the seconds of all epochs; the embedding is a lookup, which costs nothing.

    Per weight, two operations forward, two for the gradients of the inputs and two for those of the weights (Kaplan et
    al., arXiv 2001.08361, sec. 2.1); attention as in PaLM (arXiv 2204.02311, app. B).
    """
    if run.samples is None:
        return None
    passes = 3 - (run.lora_rank is not None) + run.is_checkpointed
    weights = model.parameters - tables + model.vocabulary * model.width
    of_token = 2 * passes * weights + 4 * passes * model.layers * model.width * run.length
    return run.samples * run.epochs * run.length * of_token / (run.devices * PEAK_FLOPS * UTILISATION)


def run_of(config: Mapping[str, Any], samples: int | None) -> Run:
    """Return the run that a resolved config, as printed by `--print_config`, describes.

    Args:
        config: The config; one device is assumed where it leaves their number to the Trainer.
        samples: Samples of an epoch.
    """
    model, data, trainer = config["model"], config["data"], config["trainer"]
    devices = trainer["devices"] if isinstance(trainer["devices"], int) else 1
    devices *= trainer["num_nodes"]
    is_sharded = isinstance(trainer["strategy"], Mapping)
    shards = trainer["strategy"]["init_args"].get("data_parallel_size", 1) if is_sharded else 1
    precision = str(trainer["precision"])
    is_half = model["dtype"] in ("bfloat16", "float16") or precision in ("bf16-true", "16-true")
    rows = data["batch_size"]
    if config["global_batch_size"] is not None:
        rows = min(rows, max(1, config["global_batch_size"] // devices))
    return Run(
        rows=rows,
        length=data["max_length"],
        weight_bytes=2 if is_half else 4,
        activation_bytes=4 if precision in ("None", "32", "32-true") else 2,
        lora_rank=None if model["lora"] is None else model["lora"]["r"],
        is_quantised=model["quantization"] is not None,
        is_checkpointed=model["gradient_checkpointing"],
        shards=shards,
        devices=devices,
        samples=samples,
        epochs=trainer["max_epochs"],
        has_logits=config["task"] != "sequence_classification",
    )
