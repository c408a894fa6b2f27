"""The header of a GGUF file, checked before anything else reads the file: a damaged count may never end there."""

from __future__ import annotations

import functools
import mmap
import re
import struct
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from lightning_neft.errors import ModelError

__all__ = ["Header", "checked_header"]

_MAGIC = b"GGUF"
# Version 1 has counts of 32 bits; no known file has it.
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
# Formats of struct for the metadata's types of fixed size, by their number in the file.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MOST_DIMENSIONS = 4
_ALIGNMENT = 32
_PLAIN = ("F64", "F32", "F16", "BF16")
_SUPPORTED = "Q8_0, Q6_K, Q5_K_M, Q4_K_M or Q4_1"


@dataclass(frozen=True)
class Header:
    """Metadata and tensor table of a file.

    Attributes:
        metadata: Numbers and strings by key; of an array, such as the vocabulary, its length.
        tensors: Of each tensor its name, shape, number of its type, and offset in the data.
        data_start: Where the data begin, in bytes.
    """

    metadata: dict[str, Any]
    tensors: list[tuple[str, tuple[int, ...], int, int]]
    data_start: int

    @property
    def weights(self) -> int:
        """How many weights the file has."""
        return sum(prod(shape) for _, shape, *_ in self.tensors)

    @property
    def quantization(self) -> str | None:
        """Name of the quantisation, such as Q4_K_M; None where all weights are plain floats."""
        from gguf import GGMLQuantizationType, LlamaFileType

        counts: dict[str, int] = {}
        for _, shape, number, _ in self.tensors:
            name = GGMLQuantizationType(number).name
            counts[name] = counts.get(name, 0) + prod(shape)
        if counts.keys() <= set(_PLAIN):
            return None
        # The mixture has a name of its own. A file of another program may have none.
        names = {kind.value: kind.name.removeprefix("MOSTLY_") for kind in LlamaFileType}
        named = names.get(self.metadata.get("general.file_type"), "")
        return named if any(named.startswith(name) for name in counts) else max(counts, key=lambda name: counts[name])

    @property
    def source(self) -> str | None:
        """The quantisation and its bits in words, such as `4-bit values (Q4_1)`; None without one."""
        if (name := self.quantization) is None:
            return None
        bits = re.search(r"\d+", name)
        return f"{bits[0]}-bit values ({name})" if bits else f"values in {name}"


def checked_header(path: Path) -> Header:
    """Read the header of a GGUF file, and check that the file is one whole model that can be expanded.

    Raises:
        ModelError: It is not, or the package gguf is missing.
    """
    if find_spec("gguf") is None:
        raise ModelError(f"model base '{path}' needs the package gguf: pip install 'lightning-neft[gguf]'")
    header = _read_header(path)
    _check_tensors(path, header)
    return header


def _read_header(path: Path) -> Header:
    """Read what precedes the data; every count is checked against the size of the file.

    Raises:
        ModelError: It is not a GGUF file, or ends early.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if (start := file.read(len(_MAGIC))) != _MAGIC:
            shown = "it is empty" if not start else f"it begins with {start!r}, not {_MAGIC!r}"
            raise ModelError(f"model base '{path}' is not a GGUF file: {shown}; give another file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Reader(data).header()
            except (struct.error, UnicodeDecodeError, ValueError, OverflowError) as error:
                reason = str(error) if type(error) is ValueError else f"its header does not end within {size} bytes"
                raise ModelError(f"model base '{path}' is truncated or damaged: {reason}; copy it again") from error


class _Reader:
    """Reads a header from its first byte to its last.

    Args:
        data: All bytes of a file.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = len(_MAGIC)

    def header(self) -> Header:
        number, tensors, entries = self._numbers("IQQ")
        if number not in _VERSIONS:
            raise ValueError(f"it has version {number} of the format, supported are 2 and 3 in little-endian order")
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            key = self._string()
            metadata[key] = self._value(*self._numbers("I"))
        found = [self._tensor() for _ in range(tensors)]
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment must be a positive integer, got {alignment!r}")
        return Header(metadata, found, -(-self._at // alignment) * alignment)

    def _numbers(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def _string(self) -> str:
        start = self._skip(*self._numbers("Q"))
        return self._data[start : self._at].decode("utf-8")

    def _skip(self, length: int) -> int:
        """Step over some bytes, and return where they begin."""
        start = self._at
        if length > len(self._data) - start:
            raise struct.error
        self._at = start + length
        return start

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._numbers(self._scalar(kind))[0]
        inner, count = self._numbers("IQ")
        if inner == _STRING:
            for _ in range(count):
                self._skip(*self._numbers("Q"))
        else:
            self._skip(count * struct.calcsize(self._scalar(inner)))
        return count

    def _scalar(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(f"its metadata have a value of the unknown type {kind}")
        return _SCALARS[kind]

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (dimensions,) = self._numbers("I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"the tensor {name!r} has {dimensions} dimensions")
        *shape, kind, offset = self._numbers(f"{dimensions}QIQ")
        return name, tuple(shape), kind, offset


def _check_tensors(path: Path, header: Header) -> None:
    """Check that the file is one whole model, and that each of its tensors can be expanded.

    Raises:
        ModelError: It is not.
    """
    kind = header.metadata.get("general.type", "model")
    if kind != "model" or not header.tensors:
        what = f"a GGUF file of type {kind!r}" if kind != "model" else "a GGUF file without weights"
        raise ModelError(f"model base '{path}' is {what}; give the file of a language model")
    if (parts := header.metadata.get("split.count", 1)) not in (0, 1):
        raise ModelError(
            f"model base '{path}' is one of {parts} parts of a model; merge them with llama-gguf-split --merge, and "
            "give the merged file"
        )
    size = path.stat().st_size
    for name, shape, number, offset in header.tensors:
        try:
            block, width = _block(number)
        except (ValueError, KeyError, NotImplementedError) as error:
            reason = f"type {number} is unknown to it" if isinstance(error, ValueError) else str(error)
            raise ModelError(
                f"model base '{path}': the tensor {name} has a quantisation that gguf {version('gguf')} cannot expand "
                f"({reason}); install a newer gguf, or give a file in {_SUPPORTED}"
            ) from error
        end = header.data_start + offset + prod(shape) // block * width
        if end > size:
            raise ModelError(
                f"model base '{path}' is truncated: the tensor {name} ends at byte {end}, the file at {size}; copy it "
                "again"
            )


@functools.cache
def _block(number: int) -> tuple[int, int]:
    """Return how many values one block of a type holds, and in how many bytes.

    Raises:
        ValueError: There is no type of this number.
        NotImplementedError: There is, but it cannot be expanded.
    """
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    kind = GGMLQuantizationType(number)
    found: tuple[int, int] = GGML_QUANT_SIZES[kind]
    dequantize(np.zeros((1, found[1]), np.uint8), kind)
    return found
