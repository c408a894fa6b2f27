"""How much memory and time a recipe would take: estimates by the formulas below, which nobody measured.

All numbers are for bf16 or float32 training with AdamW on devices of the same kind. `docs/recipes.md` has the formulas
in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_neft.hub.base_models import BaseModel

__all__ = ["PEAK_FLOPS", "UTILISATION", "Estimate", "Run", "estimate", "run_of"]

# An A100's bf16 peak, by NVIDIA's data sheet, and the share of it that such runs reach: an assumption, within the 0.3
# to 0.5 that PaLM's table 3 (arXiv 2204.02311) has for large models.
PEAK_FLOPS = 312e12
UTILISATION = 0.4
# What QLoRA's NF4 takes with its doubly quantised constants, bytes a weight: 4 + 0.127 bits (arXiv 2305.14314, sec. 3).
_NF4 = 4.127 / 8


@dataclass(frozen=True)
class Run:
    """What of a run decides what it takes.

    Attributes:
        rows: Rows of a device at a time.
        length: The most tokens of a row.
        weight_bytes: Bytes of a weight that is not quantised.
        activation_bytes: Bytes of a number between the blocks.
        lora_rank: Rank of the adapters; None to train all weights.
        is_quantised: Whether the frozen weights are in 4 bits.
        is_checkpointed: Whether the blocks' activations are computed again in the backward pass.
        shards: Over how many devices weights, gradients and states are split.
        devices: How many devices share the samples.
        samples: Samples of an epoch; None where that is not known.
        epochs: How often each is seen.
        has_logits: Whether there is a prediction for each token.
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
        weights: Of all weights, adapters included.
        gradients: Of those that are trained.
        states: AdamW's two moments.
        activations: What the forward pass keeps, with the logits, if all rows are as long as can be.
        seconds: If all rows are as long as can be, so an upper bound; None where the samples are not known.
    """

    weights: float
    gradients: float
    states: float
    activations: float
    seconds: float | None

    @property
    def total(self) -> float:
        """Bytes on each device, without the CUDA context, the copies of communication and fragmentation."""
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
        # Embedding and head are not, and kept in float32.
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
    """Return inputs and outputs of the matrices of a block."""
    width, head = model.width, model.head_width or model.width // model.heads
    queries, keys = model.heads * head, model.kv_heads * head
    attention = [(width, queries), (width, keys), (width, keys), (queries, width)]
    return [*attention, *[(width, model.feed_forward)] * (_gates(model) + 1), (model.feed_forward, width)]


def _gates(model: BaseModel) -> int:
    return 0 if model.model_type == "opt" else 1


def _activations(model: BaseModel, run: Run) -> float:
    """Return the bytes that a forward pass keeps for the backward one.

    Counted as by Korthikanti et al. (arXiv 2205.05198, sec. 4.1), but without scores, which the attention never stores,
    and without dropout: inputs of norms and matrices, queries, keys, values, and the feed-forward's products.
    """
    head = model.head_width or model.width // model.heads
    attention = 2 * model.width + 2 * model.heads * head + 2 * model.kv_heads * head
    feed_forward = 2 * model.width + (2 + 2 * _gates(model)) * model.feed_forward
    block = attention + feed_forward
    kept = model.layers * model.width + block if run.is_checkpointed else model.layers * block
    tokens = run.rows * run.length
    # Logits and their gradient in float32, as if each token were trained.
    logits = 2 * 4 * model.vocabulary if run.has_logits else 0
    return tokens * (kept * run.activation_bytes + logits)


def _seconds(model: BaseModel, run: Run, tables: int) -> float | None:
    """Return the seconds of all epochs; the embedding is only looked up, so it costs nothing.

    Two operations a weight forward, two for the gradients of the inputs, two for those of the weights (Kaplan et al.,
    arXiv 2001.08361, sec. 2.1), and those of the attention as in PaLM (arXiv 2204.02311, app. B).
    """
    if run.samples is None:
        return None
    passes = 3 - (run.lora_rank is not None) + run.is_checkpointed
    weights = model.parameters - tables + model.vocabulary * model.width
    of_token = 2 * passes * weights + 4 * passes * model.layers * model.width * run.length
    return run.samples * run.epochs * run.length * of_token / (run.devices * PEAK_FLOPS * UTILISATION)


def run_of(config: Mapping[str, Any], samples: int | None) -> Run:
    """Return what a resolved config, as `--print_config` writes it, says.

    Args:
        config: The config; where it leaves the devices to the Trainer, one is taken.
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
