"""Logits at the places where the loss needs them, and nowhere else: in front of the head, whatever comes behind it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neft.errors import ModelError

__all__ = ["ResponseLogits"]

# Where each model's logits are wanted, for as long as it is called for them: (places, ids of the batch). A global,
# because torch.compile takes tensors that it reaches through a module for ones of fixed shape, and would compile again
# for each number of places. The ids for their shape alone: numbers would be compiled into the graph.
_WANTED: dict[int, tuple[Tensor, Tensor]] = {}
_KEYS = itertools.count()


class ResponseLogits:
    """Makes a causal language model compute its logits at given places of the batch alone.

    A hook in front of the output embedding picks the hidden states of these places out of the flattened batch, so that
    the model goes on with a batch of one row. What the model does to logits (scaling, capping) comes after that. Where
    there is no output embedding, or it is called with something else, all logits are computed and then picked from.

    Args:
        model: A model of transformers, bare or inside peft.
    """

    def __init__(self, model: Any) -> None:
        self._key = next(_KEYS)
        try:
            head = model.get_output_embeddings()
        except (AttributeError, NotImplementedError):
            head = None
        if isinstance(head, nn.Module):
            head.register_forward_pre_hook(self._pick)

    @contextmanager
    def at(self, index: Tensor, ids: Tensor) -> Iterator[None]:
        """Within it, a call of the model gives logits at these places.

        Args:
            index: (n,) int64, places in the flattened batch.
            ids: (batch, length), what the model is called with.
        """
        _WANTED[self._key] = (index, ids)
        try:
            yield
        finally:
            del _WANTED[self._key]

    def picked(self, logits: Tensor, index: Tensor, shape: torch.Size) -> Tensor:
        """Return the logits (n, vocabulary) at the places, from what the model gave.

        Raises:
            ModelError: If it gave logits for neither these places nor for each token of the batch.
        """
        # All of a batch's places are never wanted, the last one of each row predicts nothing: the two shapes differ.
        if logits.shape[:2] == shape:
            return logits.flatten(0, 1).index_select(0, index)
        if logits.shape[:2] == (1, len(index)):
            return logits[0]
        raise ModelError(
            f"the model gave logits of shape {tuple(logits.shape)} for tokens of shape {tuple(shape)}: it is none that "
            "says something about the next token at each token, so it cannot be trained as a causal language model"
        )

    def _pick(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The hook: what it returns are the head's arguments; None leaves them."""
        if self._key not in _WANTED:
            return None
        index, ids = _WANTED[self._key]
        if not args or args[0].dim() != 3 or args[0].shape[:2] != ids.shape:
            return None
        return args[0].flatten(0, 1).index_select(0, index)[None], *args[1:]
