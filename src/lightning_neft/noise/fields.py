"""The fields of a training batch that describe its tokens, recognised by their exact names at any depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lightning_neft.errors import LengthsError
from lightning_neft.noise.contents import Contents, Part
from lightning_neft.noise.documents import documents_of_packed_sequence

__all__ = ["FIELDS", "IGNORED_LABEL", "FieldGroup", "field_groups"]

IGNORED_LABEL = -100
_DECODER = "decoder_"

# Longest first, so that `cu_seqlens_q` is not taken for `cu_seqlens` with a suffix.
FIELDS: dict[str, str] = {
    "attention_mask": "mask",
    # Of the keys, which in self-attention equal those of the queries: recognised, and not needed.
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
# A field's name with these around it counts without token ids in the same group.
_ALONE = ("*", _DECODER + "*")
# Models with several kinds of layers take one mask for each kind; the most informative kind first. A mask of chunks
# looks like one of packed documents.
_KINDS_OF_MASK = ("full_attention", "sliding_attention")


@dataclasses.dataclass
class FieldGroup:
    """The recognised fields of one set of token ids: kind of field -> tensor, and the key it came from."""

    fields: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    keys: dict[str, str] = dataclasses.field(default_factory=dict)
    is_decoder: bool = False

    def add(self, kind: str, key: str, value: Tensor) -> None:
        """Add a field."""
        self.fields[kind] = value
        self.keys[kind] = key

    def lay_out_in_rows(self) -> None:
        """Turn ids (B, choices, L) and every field of their shape into (B x choices, L), as models flatten them."""
        ids = self.fields.get("ids")
        if ids is not None and ids.dim() > 2:
            for kind, value in self.fields.items():
                if value.shape == ids.shape:
                    self.fields[kind] = value.flatten(0, -2)


def field_groups(contents: Contents, seq2seq: bool) -> list[FieldGroup]:
    """The groups of recognised fields of a batch and of its nested parts, by what surrounds the field's name.

    A name counts alone or behind `decoder_`. With another prefix or suffix (`chosen_attention_mask`,
    `attention_mask_b`) it counts beside token ids of the same prefix or suffix: `global_attention_mask` or
    `pixel_attention_mask` do not describe padding.

    Args:
        contents: Contents of the batch.
        seq2seq: Whether the model is an encoder-decoder, whose labels are its decoder's tokens.

    Raises:
        LengthsError: `attention_mask` is not a tensor, or the batch is nested too deep.
    """
    found = []
    for whole, parts in contents.containers:
        if isinstance(whole.value, PackedSequence):
            found.append(_packed(whole))
        found += _groups(parts, seq2seq)
    return found


def _groups(parts: Sequence[Part], seq2seq: bool) -> list[FieldGroup]:
    groups: dict[str, FieldGroup] = {}
    for key, _, value, _, _ in parts:
        recognised = _recognised(key) if key else None
        if recognised is None:
            continue
        kind, around = recognised
        if kind == "mask" and around in _ALONE:
            value = _mask_tensor(key, value)
        if isinstance(value, Tensor):
            if value.is_nested:
                raise LengthsError(
                    f"{key} is a nested tensor: no noise can be added to its embeddings. Pad it "
                    "(torch.nested.to_padded_tensor) and add attention_mask to the batch."
                )
            group = groups.setdefault(around, FieldGroup(is_decoder=seq2seq and around.startswith(_DECODER)))
            group.add(kind, key, value)
    found = {around: group for around, group in groups.items() if around in _ALONE or "ids" in group.fields}
    if seq2seq:
        _labels_to_decoder(found)
    for group in found.values():
        group.lay_out_in_rows()
    return list(found.values())


@lru_cache(maxsize=1024)
def _recognised(key: str) -> tuple[str, str] | None:
    """The kind of a field, and its key with an asterisk for the field's name; None for any other key."""
    name = next((name for name in FIELDS if name in key), None)
    return None if name is None else (FIELDS[name], key.replace(name, "*", 1))


def _packed(part: Part) -> FieldGroup:
    data, documents = part.value.data, documents_of_packed_sequence(part.value.batch_sizes)
    return FieldGroup(
        {"ids": data, "documents": documents.to(data.device, non_blocking=True)},
        {"ids": part.path, "documents": part.path},
    )


def _mask_tensor(key: str, value: Any) -> Tensor | None:
    given = value
    if isinstance(value, Mapping):
        given = next((value[kind] for kind in _KINDS_OF_MASK if kind in value), value)
    if given is None or isinstance(given, Tensor):
        return given
    got = f"a dict of {', '.join(map(str, value))}" if isinstance(given, Mapping) else f"a {type(given).__name__}"
    raise LengthsError(
        f"{key} is {got}, not a tensor, so the padding is unknown. Return the mask (B, L) from batch_to_mask."
    )


def _labels_to_decoder(groups: dict[str, FieldGroup]) -> None:
    """Give an encoder-decoder's labels to its decoder: they are its tokens shifted, and as many as are not ignored."""
    for around, group in list(groups.items()):
        labels = group.fields.get("labels")
        # Each row of floating labels holds the classes of one text.
        if group.is_decoder or labels is None or labels.dim() != 2 or labels.is_floating_point():
            continue
        decoder = groups.setdefault(_DECODER + around, FieldGroup(is_decoder=True))
        ids = decoder.fields.get("ids")
        if "mask" not in decoder.fields and (ids is None or ids.shape == labels.shape):
            decoder.add("mask", group.keys["labels"], labels != IGNORED_LABEL)
            decoder.add("targets", group.keys["labels"], labels)
