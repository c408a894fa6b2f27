"""Parts of a batch that look like a description of the padding, under a name that nothing reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_neft.errors import LengthsError
from lightning_neft.noise.contents import Contents, Part
from lightning_neft.noise.fields import FIELDS

__all__ = ["check_unread"]

# Masks of something else than padding, and the names that `fields` recognises.
_OTHER = {"global_attention_mask", "special_tokens_mask", "loss_mask", "completion_mask", "assistant_masks", *FIELDS}
_LENGTHS = {"length", "lengths", "lens", "seq_len", "seq_lens", "seq_lengths", "input_lengths", "sequence_lengths"}


def check_unread(contents: Contents, undescribed: Sequence[Tensor], has_padding: bool) -> None:
    """Refuse a batch whose padding may be described by something whose name is unknown. Reads values: for one batch.

    Such are tensors of the token ids' shape with `mask` or `pad` in their name, or without a name and with only 0 and
    1; and lengths by name, in a tensor, a list or a tuple, or in a list without a name.

    Args:
        contents: The batch.
        undescribed: Its ids beside which no field says which tokens are padding; empty if no ids are known.
        has_padding: Whether a padding id is known, so that a list without a name need not be understood.

    Raises:
        LengthsError: There is such a thing; says what to type.
    """
    leaves = contents.tensors
    tables = [leaf for leaf in leaves if leaf.value.dim() >= 2 and _is_whole(leaf.value) and not _is_binary(leaf.value)]
    if undescribed:
        tables = [leaf for leaf in tables if any(leaf.value.data_ptr() == ids.data_ptr() for ids in undescribed)]
    lists = _lists(contents.leaves)
    for ids in tables:
        for leaf in leaves:
            if leaf is ids or leaf.name in _OTHER:
                continue
            if leaf.value.shape == ids.value.shape and (reason := _mask_reason(leaf)):
                raise LengthsError(_message(leaf.path, tuple(leaf.value.shape), ids, reason, _suggestion(leaf)))
            if leaf.name in _LENGTHS and leaf.value.shape == ids.value.shape[:1] and _is_whole(leaf.value):
                raise _unread_lengths(leaf.path, tuple(leaf.value.shape), ids, f"{leaf.path}[:, None]")
        for name, path, numbers in lists:
            rows, width = ids.value.shape[0], ids.value.shape[-1]
            is_likely = not name and not has_padding and max(numbers) == width and min(numbers) > 0
            if len(numbers) == rows and (name in _LENGTHS or is_likely):
                tensor = f"torch.tensor({path}, device={ids.path}.device)[:, None]"
                raise _unread_lengths(path, (rows,), ids, tensor)


def _lists(leaves: Sequence[Part]) -> list[tuple[str, str, list[int]]]:
    """Lists and tuples of whole numbers: the name, the path and the numbers of each."""
    found: dict[str, tuple[str, list[Any]]] = {}
    for part in leaves:
        if part.container_name is not None:
            path = part.path.rpartition("[")[0]
            found.setdefault(path, (part.container_name, []))[1].append(part.value)
    return [
        (name, path, numbers)
        for path, (name, numbers) in found.items()
        if all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    ]


def _is_whole(value: Tensor) -> bool:
    return not value.is_floating_point() and not value.is_complex()


def _is_binary(value: Tensor) -> bool:
    return value.numel() > 0 and bool(((value == 0) | (value == 1)).all())


def _mask_reason(leaf: Part) -> str | None:
    if "mask" in leaf.name.lower() or "pad" in leaf.name.lower():
        return "has the name of a mask"
    return "holds only 0 and 1" if not leaf.name and _is_binary(leaf.value) else None


def _suggestion(leaf: Part) -> str:
    # As the key_padding_mask of PyTorch, 1 on padding.
    return f"{leaf.path} == 0" if "pad" in leaf.name.lower() else leaf.path


def _unread_lengths(path: str, shape: tuple[int, ...], ids: Part, lengths: str) -> LengthsError:
    mask = f"torch.arange({ids.path}.shape[1], device={ids.path}.device) < {lengths}"
    return LengthsError(_message(path, shape, ids, "may hold the lengths", mask))


def _message(path: str, shape: tuple[int, ...], ids: Part, reason: str, mask: str) -> str:
    return (
        f"{path} {shape} {reason}, and nothing else in the batch describes the padding of {ids.path} "
        f"{tuple(ids.value.shape)}. If it does: batch_to_mask=lambda batch: {mask} (1 on tokens). If no token is "
        f"padding: batch_to_mask=lambda batch: torch.ones_like({ids.path})."
    )
