"""The lengths of a call in a batch where no field says which tokens are padding: the ids themselves, or an error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_neft.errors import LengthsError
from lightning_neft.noise.calls import is_compiling
from lightning_neft.noise.documents import PaddingId, documents_from_ids
from lightning_neft.noise.lengths import Length, clean_lookup, padding_or_tokens
from lightning_neft.noise.tracing import BatchIds

__all__ = ["UndescribedBatch", "padding_doubt", "undescribed_weight"]


@dataclass(frozen=True)
class UndescribedBatch:
    """A batch without a field that describes padding.

    Attributes:
        length: The length rule.
        covers_all: Whether all tokens get noise, so that the batch needs no labels.
        names_ids: Whether its token ids are under their name, hence (B, L).
        ids: Its tensors; None if only the width of a call matters.
    """

    length: Length
    covers_all: bool
    names_ids: bool
    ids: BatchIds | None

    def check(self, name: str, shape: torch.Size, ids: Tensor | None) -> None:
        """Refuse a call whose lengths are unknown.

        Args:
            name: Name of the embedding.
            shape: Shape of its output without the last dimension.
            ids: What it was called with, if that was a tensor.

        Raises:
            LengthsError: The lengths are unknown.
        """
        called = f"{name} was called with tokens of shape {tuple(shape)}"
        if not self.covers_all:
            raise LengthsError(
                f"{called}, and the batch has no labels for them, so prompt and response cannot be distinguished. Add "
                "labels (-100 on the prompt), or use scope='all'."
            )
        if self.length != "true":
            return
        if len(shape) == 1:
            raise LengthsError(
                f"{called}, and nothing in the batch says to which sequences they belong. Return the mask (B, L) from "
                f"batch_to_mask, or use a number, length=512. {clean_lookup(name)}"
            )
        if self.ids is not None and (not is_compiling() or not self.ids.has_tables):
            # A compiled graph cannot compare ids.
            self.ids.require(None if is_compiling() else ids, name)
        if len(shape) == 2 and not self.names_ids and shape[0] > shape[1]:
            raise LengthsError(
                f"{called}, without a mask and without ids named input_ids: (B, L) or (L, B)? Return the mask (B, L) "
                "from batch_to_mask (all 1 if nothing is padding), or use a number, length=512."
            )


def undescribed_weight(
    output: Tensor, ids: Tensor | None, length: Length, padding: PaddingId | None
) -> tuple[Tensor, Tensor | None]:
    """Weight of each token of a call; the ids themselves may show padding.

    Args:
        output: The embedding's output.
        ids: What the embedding was called with, if that was a tensor.
        length: The length rule.
        padding: The padding id, if it is known.

    Returns:
        As `match_weight`. The bool is True if many rows end with several padding ids that may be tokens.
    """
    shape = output.shape[:-1]
    if padding is not None and length != "padded" and ids is not None and ids.shape == shape and ids.dim() > 1:
        documents, doubt = documents_from_ids(ids.reshape(-1, ids.shape[-1]), padding)
        tokens = documents.reshape(shape)
        lengths = torch.full_like(tokens, length) if isinstance(length, int) else tokens.sum(-1, keepdim=True)
        return torch.where(tokens > 0, lengths.to(torch.float32).clamp(min=1).rsqrt(), 0.0), doubt
    counted = length if isinstance(length, int) else shape[-1]
    if is_compiling():
        # Counted by a tensor operation: a length in Python would be compiled into the graph.
        ones = torch.ones_like(output.detach()[..., 0], dtype=torch.float32)
        lengths = ones * length if isinstance(length, int) else ones.sum(-1, keepdim=True)
        return lengths.rsqrt().expand(shape), None
    return torch.full((1,), counted, dtype=torch.float32, device=output.device).rsqrt().expand(shape), None


def padding_doubt(name: str, padding: PaddingId) -> LengthsError:
    """The error of a call whose ids may end with padding or with tokens."""
    return LengthsError(f"the input of {name} {padding_or_tokens(padding)}")
