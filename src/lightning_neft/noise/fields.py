"""The fields of a training batch that say something of its tokens, found by their exact names at any depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_neft.errors import LengthsError

__all__ = ["FIELDS", "IGNORED_LABEL", "FieldGroup", "children", "field_groups"]

IGNORED_LABEL = -100
_DECODER = "decoder_"
_MAX_DEPTH = 3

# Longest first, so that `cu_seqlens_q` is not taken for `cu_seqlens` with a suffix.
FIELDS: dict[str, str] = {
    "attention_mask": "mask",
    # Of the keys, which in self-attention are those of the queries: understood, and not needed.
    "cu_seq_lens_k": "cu_seqlens_k",
    "cu_seqlens_k": "cu_seqlens_k",
    "cu_seq_lens_q": "cu_seqlens",
    "cu_seqlens_q": "cu_seqlens",
    "sequence_ids": "sequence_ids",
    "document_ids": "sequence_ids",
    "position_ids": "position_ids",
    "cu_seq_lens": "cu_seqlens",
    "segment_ids": "segment_ids",
    "cu_seqlens": "cu_seqlens",
    "input_ids": "ids",
    "seq_idx": "sequence_ids",
    "seq_ids": "sequence_ids",
    "labels": "labels",
}
# What may stand around a field's name without token ids of the same surroundings beside it.
_ALONE = ("*", _DECODER + "*")
# The kinds of layers for which models with several are given one mask each, the most telling first. A mask of chunks
# looks like one of packed documents.
_KINDS_OF_MASK = ("full_attention", "sliding_attention")


@dataclasses.dataclass
class FieldGroup:
    """The recognised fields of one set of token ids: kind of field -> tensor, and the key it came from."""

    fields: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    keys: dict[str, str] = dataclasses.field(default_factory=dict)
    is_decoder: bool = False

    def add(self, kind: str, key: str, value: Tensor) -> None:
        """Take in a field."""
        self.fields[kind] = value
        self.keys[kind] = key

    def lay_out_in_rows(self) -> None:
        """Make (B x choices, L) of ids (B, choices, L) and of every field of their shape, as models flatten them."""
        ids = self.fields.get("ids")
        if ids is not None and ids.dim() > 2:
            for kind, value in self.fields.items():
                if value.shape == ids.shape:
                    self.fields[kind] = value.flatten(0, -2)


def field_groups(batch: Any, seq2seq: bool) -> list[FieldGroup]:
    """The groups of recognised fields of a batch and of its nested parts, by what surrounds the field's name.

    A name counts alone or behind `decoder_`. With another prefix or suffix (`chosen_attention_mask`,
    `attention_mask_b`) it counts beside token ids of the same prefix or suffix: `global_attention_mask` or
    `pixel_attention_mask` say nothing of padding.

    Args:
        batch: What the data loader gave.
        seq2seq: Whether the model is an encoder-decoder, whose labels are its decoder's tokens.

    Raises:
        LengthsError: `attention_mask` is not a tensor.
    """
    return list(_groups(batch, seq2seq, 0))


def _groups(batch: Any, seq2seq: bool, depth: int) -> Iterator[FieldGroup]:
    groups: dict[str, FieldGroup] = {}
    nested: list[Any] = []
    for key, value in children(batch):
        name = next((name for name in FIELDS if name in key), None)
        around = "" if name is None else key.replace(name, "*", 1)
        if name == "attention_mask" and around in _ALONE:
            value = _mask_tensor(key, value)
        if name is not None and isinstance(value, Tensor):
            group = groups.setdefault(around, FieldGroup(is_decoder=seq2seq and around.startswith(_DECODER)))
            group.add(FIELDS[name], key, value)
        elif not isinstance(value, Tensor | str | bytes | int | float) and value is not None:
            nested.append(value)
    groups = {around: group for around, group in groups.items() if around in _ALONE or "ids" in group.fields}
    if seq2seq:
        _labels_to_decoder(groups)
    for group in groups.values():
        group.lay_out_in_rows()
        yield group
    if depth < _MAX_DEPTH:
        for value in nested:
            yield from _groups(value, seq2seq, depth + 1)


def _mask_tensor(key: str, value: Any) -> Tensor | None:
    if isinstance(value, Mapping):
        given = next((value[kind] for kind in _KINDS_OF_MASK if kind in value), value)
    else:
        given = value
    if given is None or isinstance(given, Tensor):
        return given
    got = f"a dict of {', '.join(map(str, value))}" if isinstance(given, Mapping) else f"a {type(given).__name__}"
    raise LengthsError(
        f"{key} is {got}, not a tensor: which tokens are padding cannot be read from it. Give the mask (B, L) with "
        "batch_to_mask."
    )


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """Named parts of a batch or of a part of it; the parts of a sequence have no name."""
    if isinstance(value, Mapping):
        yield from ((key, item) for key, item in value.items() if isinstance(key, str))
    elif hasattr(value, "_asdict"):
        yield from value._asdict().items()
    elif isinstance(value, list | tuple):
        yield from (("", item) for item in value)
    elif not isinstance(value, type | Tensor | torch.nn.Module):
        yield from getattr(value, "__dict__", {}).items()
        # dataclass(slots=True) and attrs.define keep their fields here.
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                if not slot.startswith("__") and hasattr(value, slot):
                    yield slot, getattr(value, slot)


def _labels_to_decoder(groups: dict[str, FieldGroup]) -> None:
    """Give an encoder-decoder's labels to its decoder: they are its tokens shifted, as many as are not ignored."""
    for around, group in list(groups.items()):
        labels = group.fields.get("labels")
        if group.is_decoder or labels is None or labels.dim() != 2:
            continue
        decoder = groups.setdefault(_DECODER + around, FieldGroup(is_decoder=True))
        if "mask" not in decoder.fields:
            decoder.add("mask", group.keys["labels"], labels != IGNORED_LABEL)
