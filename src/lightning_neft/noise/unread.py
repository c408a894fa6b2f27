"""What a batch holds that looks as if it said which tokens are padding, under a name that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_neft.errors import LengthsError
from lightning_neft.noise.fields import FIELDS, children

__all__ = ["check_unread"]

_MAX_DEPTH = 3
# Masks of something else than padding, and the names that `lengths` reads.
_OTHER = {"global_attention_mask", "special_tokens_mask", "loss_mask", "completion_mask", "assistant_masks", *FIELDS}
_LENGTHS = {"length", "lengths", "lens", "seq_len", "seq_lens", "seq_lengths", "input_lengths", "sequence_lengths"}


@dataclass(frozen=True)
class _Leaf:
    """A tensor of a batch, its name there (none in a tuple) and the expression that gives it."""

    name: str
    path: str
    value: Tensor


def check_unread(batch: Any) -> None:
    """Refuse a batch whose padding may be said by a tensor that is not known by name. Reads values: for one batch.

    Such are tensors of the token ids' shape with `mask` or `pad` in their name, or without a name and of 0 and 1 only;
    and lengths by name.

    Args:
        batch: A batch in which no field says which tokens are padding.

    Raises:
        LengthsError: There is such a tensor; says what to write.
    """
    leaves = list(_leaves(batch, "batch", 0))
    tables = [leaf for leaf in leaves if leaf.value.dim() >= 2 and _is_whole(leaf.value) and not _is_binary(leaf.value)]
    for ids in tables:
        for leaf in leaves:
            if leaf is ids or leaf.name in _OTHER:
                continue
            if leaf.value.shape == ids.value.shape and (reason := _mask_reason(leaf)):
                raise LengthsError(_message(leaf, ids, reason, _suggestion(leaf)))
            if leaf.name in _LENGTHS and leaf.value.shape == ids.value.shape[:1] and _is_whole(leaf.value):
                mask = f"torch.arange({ids.path}.shape[1], device={ids.path}.device) < {leaf.path}[:, None]"
                raise LengthsError(_message(leaf, ids, "may hold the lengths", mask))


def _leaves(value: Any, path: str, depth: int) -> Iterator[_Leaf]:
    if depth > _MAX_DEPTH or isinstance(value, str | bytes):
        return
    for index, (name, item) in enumerate(children(value)):
        key = repr(name) if isinstance(value, Mapping) else str(index)
        there = f"{path}.{name}" if name and not isinstance(value, Mapping) else f"{path}[{key}]"
        if isinstance(item, Tensor):
            yield _Leaf(name, there, item)
        else:
            yield from _leaves(item, there, depth + 1)


def _is_whole(value: Tensor) -> bool:
    return not value.is_floating_point() and not value.is_complex()


def _is_binary(value: Tensor) -> bool:
    return value.numel() > 0 and bool(((value == 0) | (value == 1)).all())


def _mask_reason(leaf: _Leaf) -> str | None:
    if "mask" in leaf.name.lower() or "pad" in leaf.name.lower():
        return "is named like a mask"
    return "holds only 0 and 1" if not leaf.name and _is_binary(leaf.value) else None


def _suggestion(leaf: _Leaf) -> str:
    # As the key_padding_mask of PyTorch, 1 on padding.
    return f"{leaf.path} == 0" if "pad" in leaf.name.lower() else leaf.path


def _message(leaf: _Leaf, ids: _Leaf, reason: str, mask: str) -> str:
    return (
        f"{leaf.path} {tuple(leaf.value.shape)} {reason} and nothing else says which tokens of {ids.path} "
        f"{tuple(ids.value.shape)} are padding. If it does: batch_to_mask=lambda batch: {mask} (1 on tokens). If no "
        f"token is padding: batch_to_mask=lambda batch: torch.ones_like({ids.path})."
    )
