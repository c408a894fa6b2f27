"""What of a batch the model and the loss read, and whether documents of a packed row see each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_neft.data.tokenization import IGNORED
from lightning_neft.errors import ModelError
from lightning_neft.models.execution import eager, evaluating
from lightning_neft.noise.antithetic import double_rows as double

__all__ = [
    "NextTokens",
    "check_packing",
    "double_rows",
    "is_packed",
    "model_inputs",
    "next_tokens",
    "sources_of_places",
]


Batch = dict[str, Any]

# What the data layer adds for the loss and the noise. Models take keywords that they do not know for attention's.
_NOT_FOR_THE_MODEL = frozenset(
    {
        "labels",
        "step_share",
        "loss_index",
        "loss_targets",
        "loss_token_weights",
        "loss_weights",
        "sequence_ids",
        "sources",
    }
)


@dataclass(frozen=True)
class NextTokens:
    """Where a causal model is asked for its next token, and what that is.

    Attributes:
        index: (n,) int64, places in the flattened batch.
        targets: (n,) int64.
        weights: (n,) float32, or None if all weigh the same.
    """

    index: Tensor
    targets: Tensor
    weights: Tensor | None = None


def model_inputs(batch: Mapping[str, Any]) -> Batch:
    """Return what the model is called with, without the labels and all that only loss and noise need.

    Example:
        >>> list(model_inputs({"input_ids": 1, "attention_mask": 2, "labels": 3, "step_share": 4}))
        ['input_ids', 'attention_mask']
    """
    return {name: value for name, value in batch.items() if name not in _NOT_FOR_THE_MODEL}


def next_tokens(batch: Mapping[str, Any]) -> NextTokens:
    """Return the places that predict a labelled token, from the data layer or else from the labels.

    Args:
        batch: With `loss_index` and `loss_targets`, and maybe `loss_token_weights`; or else with `labels` (batch,
            length), not shifted, and maybe `loss_weights` of the same shape. The labels are looked for on their
            device, and the process has to wait for it.

    Example:
        >>> tokens = next_tokens({"labels": torch.tensor([[-100, 5, 6], [-100, -100, 7]])})
        >>> tokens.index.tolist(), tokens.targets.tolist()
        ([0, 1, 4], [5, 6, 7])
    """
    if "loss_index" in batch:
        return NextTokens(batch["loss_index"], batch["loss_targets"], batch.get("loss_token_weights"))
    labels = batch["labels"]
    predicts = torch.zeros_like(labels, dtype=torch.bool)
    predicts[:, :-1] = labels[:, 1:] != IGNORED
    index = predicts.flatten().nonzero().squeeze(1)
    weights = batch["loss_weights"].flatten()[index + 1] if "loss_weights" in batch else None
    return NextTokens(index, labels.flatten()[index + 1], weights)


def sources_of_places(batch: Mapping[str, Any], places: int) -> Tensor | None:
    """Return the number of the source of each place with a target; None for a batch that does not say it.

    Args:
        batch: A held-out batch: with `sources`, int64 (rows,).
        places: Number of places that the model is asked at: `loss_index`, or as many in each row.

    Returns:
        int64 (places,).

    Example:
        >>> batch = {"input_ids": torch.zeros(2, 4), "loss_index": torch.tensor([2, 3, 5])}
        >>> sources_of_places({**batch, "sources": torch.tensor([1, 0])}, places=3).tolist()
        [1, 1, 0]
    """
    if "sources" not in batch:
        return None
    sources: Tensor = batch["sources"]
    if "loss_index" in batch:
        return sources[batch["loss_index"] // batch["input_ids"].shape[1]]
    return sources.repeat_interleave(places // len(sources))


def is_packed(batch: Mapping[str, Any]) -> bool:
    """Return whether rows hold several documents, separated by positions that restart.

    Example:
        >>> is_packed({"input_ids": 1, "position_ids": 2}), is_packed({"input_ids": 1, "attention_mask": 2})
        (True, False)
    """
    return "position_ids" in batch and "attention_mask" not in batch


def double_rows(batch: Batch) -> None:
    """Append a copy of each row, in place, with the loss on both, as antithetic noise needs it.

    Raises:
        LengthsError: The batch lays its samples out in one row.

    Example:
        >>> batch = {"input_ids": torch.zeros(1, 3), "loss_index": torch.tensor([1]), "loss_targets": torch.tensor([7])}
        >>> double_rows(batch)
        >>> batch["input_ids"].shape, batch["loss_index"].tolist(), batch["loss_targets"].tolist()
        (torch.Size([2, 3]), [1, 4], [7, 7])
    """
    # By place, not by row: there may happen to be as many as rows.
    places = batch["input_ids"].numel()
    by_place = {name: batch.pop(name) for name in ("loss_index", "loss_targets", "loss_token_weights") if name in batch}
    double(batch)
    for name, value in by_place.items():
        batch[name] = torch.cat([value, value + places if name == "loss_index" else value])


# Tokens of a document: what leaks is strongest right behind the border.
_TOKENS = 64
# How far the logits of a token may be off, relative to their size. Other kernels for other shapes round differently:
# about 1e-6 in float32 and 1e-2 in bfloat16. What leaks is seldom below 1e-1, at least at the first token.
_TOLERANCES = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


@torch.no_grad()
def check_packing(model: Any, batch: Mapping[str, Any], architecture: str) -> None:
    """Compare the logits of two documents in one row with those of each of them alone.

    Three short forward passes in eval mode, as many on each rank. Modes and random state stay as they are.

    Args:
        model: A causal language model of transformers, bare or inside peft.
        batch: A packed batch: with `input_ids` and `position_ids` (rows, length), and `cu_seq_lens_q` and the like if
            it is flat.
        architecture: Name of the model, for the message.

    Raises:
        ModelError: If the logits differ.
    """
    # Which tokens they are does not matter, so the start of the batch does, cut in two.
    ids = batch["input_ids"].flatten()
    size = min(_TOKENS, len(ids) // 2)
    if size == 0:
        return
    documents = [ids[:size], ids[size : 2 * size]]
    with evaluating(model), eager(model):
        try:
            packed = _logits(model, documents, is_flat="cu_seq_lens_q" in batch)
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"{architecture} does not take packed rows ({' '.join(str(error).split())}); use "
                "data.batching=length_grouped"
            ) from error
        alone = torch.cat([_logits(model, [document], is_flat="cu_seq_lens_q" in batch) for document in documents])
    tolerance = _tolerance(model, packed)
    packed, alone = packed.float(), alone.float()
    off = ((packed - alone).norm(dim=-1) / alone.norm(dim=-1).clamp(min=1e-12)).max().item()
    if not off <= tolerance:
        raise ModelError(
            f"{architecture} lets packed documents see each other (their logits are {off:.2%} off those of the "
            "documents alone); use data.batching=length_grouped"
        )


def _logits(model: Any, documents: list[Tensor], is_flat: bool) -> Tensor:
    """Return the logits (tokens, vocabulary) of documents in one row, laid out as the batch is."""
    lengths = [len(document) for document in documents]
    device = documents[0].device
    options: dict[str, Any] = {}
    if is_flat:
        ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
        options = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends.clone()}
        options |= dict.fromkeys(("max_length_q", "max_length_k"), max(lengths))
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    ids = torch.cat(documents)
    logits: Tensor = model(input_ids=ids[None], position_ids=positions[None], use_cache=False, **options).logits
    return logits[0]


def _tolerance(model: Any, logits: Tensor) -> float:
    # Some models give float32 logits whatever they computed in: the coarsest of the dtypes counts.
    dtypes = [logits.dtype, model.dtype]
    if torch.is_autocast_enabled(logits.device.type):
        dtypes.append(torch.get_autocast_dtype(logits.device.type))
    tolerance = max(_TOLERANCES.get(dtype, 5e-2) for dtype in dtypes)
    # TensorFloat-32 has the mantissa of float16.
    is_tf32 = logits.is_cuda and torch.get_float32_matmul_precision() != "highest"
    return max(tolerance, _TOLERANCES[torch.float16]) if is_tf32 else tolerance
