"""Rows of the embedding table for tokens that were added to the tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["grow_embeddings"]


def grow_embeddings(model: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Add rows to a model's embedding table for the ids of the tokenizer that lie beyond it.

    Many tables are longer than the vocabulary, so that added tokens find their rows there: nothing is done then. New
    rows are the mean of the old ones, in the input and in the output embeddings, so that a new token begins with the
    mean of all logits and not above the others (a bias of the output grows likewise).

    Args:
        model: A model of transformers, before adapters are put into it.
        tokenizer: Its tokenizer, with what was added.

    Returns:
        How many rows were added.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    # Not len(tokenizer): some vocabularies have holes.
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed <= rows:
        return 0
    # Without mean_resizing, which would draw the new rows from a normal distribution around the mean.
    model.resize_token_embeddings(needed, mean_resizing=False)
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    weights = {id(table.weight): table.weight for table in tables if table is not None}
    biases = {id(bias): bias for table in tables if (bias := getattr(table, "bias", None)) is not None}
    with torch.no_grad():
        for table in (*weights.values(), *biases.values()):
            _fill(table, rows)
    return int(needed - rows)


def _fill(table: Tensor, rows: int) -> None:
    """Set all rows from `rows` on to the mean of those before, taken in float64 and rounded once."""
    total = torch.zeros(table.shape[1:], dtype=torch.float64, device=table.device)
    for start in range(0, rows, 4096):  # in blocks: PyTorch would copy the whole table to float64 first
        total += table[start : min(start + 4096, rows)].sum(dim=0, dtype=torch.float64)
    table[rows:] = (total / rows).to(table.dtype)
