"""Estimated time of a recipe on A100s, not measured; `docs/explanation/estimates.md` explains the formula."""

from __future__ import annotations

from lightning_neft.hub.base_models import BaseModel

__all__ = ["PEAK_FLOPS", "UTILISATION", "training_seconds"]

# The bf16 peak of an A100 by NVIDIA's data sheet, and the assumed utilisation, within the 0.3 to 0.5 of large models in
# PaLM's table 3 (arXiv 2204.02311).
PEAK_FLOPS = 312e12
UTILISATION = 0.4


def training_seconds(
    model: BaseModel,
    tokens: int,
    length: int,
    *,
    devices: int = 1,
    is_frozen: bool = False,
    is_checkpointed: bool = False,
) -> float:
    """Return the seconds of a run; the embedding is a lookup, which costs nothing.

    Per weight, two operations forward, two for the gradients of the inputs and two for those of the weights (Kaplan et
    al., arXiv 2001.08361, sec. 2.1); attention as in PaLM (arXiv 2204.02311, app. B).

    Args:
        model: The base model.
        tokens: Tokens of all epochs.
        length: Tokens of a row.
        devices: Number of devices that share the samples.
        is_frozen: Whether only adapters are trained.
        is_checkpointed: Whether the backward pass recomputes the activations of the blocks.

    Example:
        >>> from lightning_neft.hub.base_models import find_base_model
        >>> round(training_seconds(find_base_model("llama-2-7b"), 1_000_000, 512))
        324
    """
    passes = 3 - is_frozen + is_checkpointed
    tables = model.vocabulary * model.width * (1 if model.is_tied else 2)
    weights = (model.active or model.parameters) - tables + model.vocabulary * model.width
    of_token = 2 * passes * weights + 4 * passes * model.layers * model.width * length
    return tokens * of_token / (devices * PEAK_FLOPS * UTILISATION)
