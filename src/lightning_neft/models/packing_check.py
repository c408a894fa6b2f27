"""Ask a model, before it trains on packed rows, whether the documents of a row do not see each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_neft.errors import ModelError
from lightning_neft.models.modes import eager, evaluating

__all__ = ["check_packing"]

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
