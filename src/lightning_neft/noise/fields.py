"""The fields of a training batch that say something of its tokens, found by their exact names at any depth."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lightning_neft.errors import LengthsError
from lightning_neft.noise.documents import documents_of_packed_sequence

__all__ = ["FIELDS", "IGNORED_LABEL", "FieldGroup", "Part", "field_groups", "parts", "tensors"]

IGNORED_LABEL = -100
_DECODER = "decoder_"
# Dicts, sequences and data classes inside each other; no batch that is meant nests so deep.
_MAX_DEPTH = 32
# Objects of other classes inside each other: behind them a batch may hold its whole program.
_MAX_OBJECTS = 4

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


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a batch.

    Attributes:
        name: Its name; empty in a sequence and behind a key that is not a string.
        path: The expression that gives it, from `batch` on.
        value: What it is.
        container_name: The name of the list or tuple that holds it; None if something else does.
    """

    name: str
    path: str
    value: Any
    container_name: str | None = None


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
        LengthsError: `attention_mask` is not a tensor, or the batch is nested too deep.
    """
    whole = [Part("", "batch", batch)]
    found = []
    for container in [whole, *_containers(batch)]:
        found += _groups(container, seq2seq)
        found += [_packed(part) for part in container if isinstance(part.value, PackedSequence)]
    return found


def parts(batch: Any) -> list[Part]:
    """Everything that a batch and its nested parts hold, but for the containers themselves.

    Raises:
        LengthsError: The batch is nested too deep.

    >>> [part.path for part in parts({"a": [torch.ones(1)], 3: "text"})]
    ['batch[3]', "batch['a'][0]"]
    """
    own = [Part("", "batch", batch)] if _is_leaf(batch) else []
    return own + [part for container in _containers(batch) for part in container if _is_leaf(part.value)]


def tensors(held: Sequence[Part]) -> list[Part]:
    """Those parts that are tensors with their numbers side by side in memory: neither sparse nor nested."""
    return [
        part
        for part in held
        if isinstance(part.value, Tensor) and part.value.layout == torch.strided and not part.value.is_nested
    ]


def _groups(container: Sequence[Part], seq2seq: bool) -> list[FieldGroup]:
    groups: dict[str, FieldGroup] = {}
    for key, value in ((part.name, part.value) for part in container):
        name = next((name for name in FIELDS if name in key), None)
        around = "" if name is None else key.replace(name, "*", 1)
        if name == "attention_mask" and around in _ALONE:
            value = _mask_tensor(key, value)
        if name is not None and isinstance(value, Tensor):
            if value.is_nested:
                raise LengthsError(
                    f"{key} is a nested tensor: no noise can be added to what an embedding makes of it. Pad it "
                    "(torch.nested.to_padded_tensor) and add attention_mask to the batch."
                )
            group = groups.setdefault(around, FieldGroup(is_decoder=seq2seq and around.startswith(_DECODER)))
            group.add(FIELDS[name], key, value)
    groups = {around: group for around, group in groups.items() if around in _ALONE or "ids" in group.fields}
    if seq2seq:
        _labels_to_decoder(groups)
    for group in groups.values():
        group.lay_out_in_rows()
    return list(groups.values())


def _packed(part: Part) -> FieldGroup:
    data, documents = part.value.data, documents_of_packed_sequence(part.value.batch_sizes)
    return FieldGroup(
        {"ids": data, "documents": documents.to(data.device, non_blocking=True)},
        {"ids": part.path, "documents": part.path},
    )


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


def _containers(batch: Any) -> Iterator[list[Part]]:
    """What the batch and each container in it holds, a container before those in it and each of them once."""
    seen: set[int] = set()

    def walk(whole: Part, depth: int, objects: int) -> Iterator[list[Part]]:
        value, path = whole.value, whole.path
        if _is_leaf(value) or id(value) in seen or objects > _MAX_OBJECTS:
            return
        if depth > _MAX_DEPTH:
            raise LengthsError(
                f"the batch is nested deeper than {_MAX_DEPTH} levels ({path[:60]}...): flatten it, or use "
                "length='padded', which reads nothing of it."
            )
        seen.add(id(value))
        held = list(_parts_of(whole))
        yield held
        for part in held:
            yield from walk(part, depth + 1, objects + (not _is_container(value)))

    yield from walk(Part("", "batch", batch), 0, 0)


def _is_leaf(value: Any) -> bool:
    return value is None or isinstance(value, Tensor | str | bytes | int | float | enum.Enum | type | torch.nn.Module)


def _is_container(value: Any) -> bool:
    is_data_class = dataclasses.is_dataclass(value) or hasattr(type(value), "__attrs_attrs__")
    return is_data_class or isinstance(value, Mapping | list | tuple)


def _parts_of(whole: Part) -> Iterator[Part]:
    value, path = whole.value, whole.path
    if isinstance(value, Mapping):
        for key, item in value.items():
            # What the batch's own author would write. An enum's name in angle brackets is not Python.
            written = str(key) if isinstance(key, enum.Enum) and not isinstance(key, str) else repr(key)
            yield Part(key if isinstance(key, str) else "", f"{path}[{written}]", item)
    elif hasattr(value, "_asdict"):
        yield from (Part(name, f"{path}.{name}", item) for name, item in value._asdict().items())
    elif isinstance(value, list | tuple):
        yield from (Part("", f"{path}[{index}]", item, whole.name) for index, item in enumerate(value))
    else:
        for name, item in getattr(value, "__dict__", {}).items():
            yield Part(name, f"{path}.{name}", item)
        # dataclass(slots=True) and attrs.define keep their fields here.
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                if not slot.startswith("__") and hasattr(value, slot):
                    yield Part(slot, f"{path}.{slot}", getattr(value, slot))


def _labels_to_decoder(groups: dict[str, FieldGroup]) -> None:
    """Give an encoder-decoder's labels to its decoder: they are its tokens shifted, as many as are not ignored."""
    for around, group in list(groups.items()):
        labels = group.fields.get("labels")
        # Of floating labels each row is the classes of one text.
        if group.is_decoder or labels is None or labels.dim() != 2 or labels.is_floating_point():
            continue
        decoder = groups.setdefault(_DECODER + around, FieldGroup(is_decoder=True))
        ids = decoder.fields.get("ids")
        if "mask" not in decoder.fields and (ids is None or ids.shape == labels.shape):
            decoder.add("mask", group.keys["labels"], labels != IGNORED_LABEL)
            decoder.add("targets", group.keys["labels"], labels)
