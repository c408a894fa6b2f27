"""Base models in GGUF files: checked, and expanded once into a model folder in the cache.

A GGUF file of llama.cpp holds config, tokenizer and weights, the weights mostly in 2 to 8 bits. Nothing is trained in
these formats: the weights are expanded to float32, and every verb reads the folder. See docs/training.md.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import mmap
import re
import struct
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from lightning_neft.common.files import new_folder, write_text
from lightning_neft.errors import ModelError
from lightning_neft.hub.cache import cache_folder

__all__ = ["expand", "expanded_folder", "expanded_from", "is_gguf"]

# In the expanded folder: where it comes from.
_MARKER = "lightning_neft_gguf.json"
# Increase it whenever the same file would be expanded to another folder.
_VERSION = 1
_MAGIC = b"GGUF"
# Version 1 has counts of 32 bits; no known file has it.
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
# Formats of struct for the metadata's types of fixed size, by their number in the file.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MOST_DIMENSIONS = 4
_PART = 2**20
_ALIGNMENT = 32
# Weights that a file may lack, such as a head, are created.
_MOST_PER_STORED = 4
_PLAIN = ("F64", "F32", "F16", "BF16")
_SUPPORTED = "Q8_0, Q6_K, Q5_K_M, Q4_K_M or Q4_1"


@dataclass(frozen=True)
class _Header:
    """Metadata and tensor table of a file.

    Attributes:
        metadata: Numbers and strings by key. Arrays, such as the vocabulary, are not kept.
        tensors: Of each tensor its name, shape, number of its type, and offset in the data.
        data_start: Where the data begin, in bytes.
    """

    metadata: dict[str, Any]
    tensors: list[tuple[str, tuple[int, ...], int, int]]
    data_start: int


def is_gguf(path: Path) -> bool:
    """Return whether a path names a GGUF file, by its ending; it need not exist.

    Example:
        >>> is_gguf(Path("SmolLM2-135M-Instruct.Q4_1.gguf"))
        True
    """
    return path.suffix.lower() == ".gguf" and not path.is_dir()


def expanded_folder(path: Path) -> Path:
    """Return the model folder with the float32 weights of a GGUF file; the first call for a file writes it.

    It is in the cache of `datasets`, named by the sha256 of the file, whole or not at all. Of several processes one
    expands the file, the others wait.

    Args:
        path: The GGUF file.

    Raises:
        ModelError: It is not a GGUF file, truncated, of an unknown quantisation, or the package gguf is missing.
    """
    folder = cache_folder() / "gguf" / f"{path.stem}-{_key(path.resolve())}"
    if folder.is_dir():
        return folder
    from filelock import FileLock
    from safetensors import SafetensorError

    header = _checked_header(path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                with new_folder(folder) as temporary:
                    _expand(path, header, temporary)
                    temporary.replace(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"model base '{path}' cannot be expanded into {folder.parent}: {reason}; free some space, or set "
            "HF_DATASETS_CACHE to another folder"
        ) from error
    return folder


def expand(path: Path, folder: Path) -> None:
    """Write a model folder with the float32 weights of a GGUF file.

    Args:
        path: The GGUF file.
        folder: An empty folder.

    Raises:
        ModelError: See `expanded_folder`.
        OSError: The folder cannot be written to.
    """
    _expand(path, _checked_header(path), folder)


def expanded_from(folder: str | Path) -> str | None:
    """Return what the weights of a model folder were expanded from, such as `4-bit values (Q4_1)`.

    Args:
        folder: A folder from `expanded_folder`, or any other folder or hub id.

    Returns:
        None if they do not come from a GGUF file, or its weights were not quantised.
    """
    marker = Path(folder) / _MARKER
    return json.loads(marker.read_text(encoding="utf-8"))["expanded_from"] if marker.is_file() else None


def _checked_header(path: Path) -> _Header:
    if find_spec("gguf") is None:
        raise ModelError(f"model base '{path}' needs the package gguf: pip install 'lightning-neft[gguf]'")
    header = _read_header(path)
    _check_tensors(path, header)
    return header


def _key(path: Path) -> str:
    """Return a digest of all that determines the expanded folder: the file, and the code that expands it."""
    import transformers

    status = path.stat()
    parts = [_sha256(path, status.st_size, status.st_mtime_ns), transformers.__version__, _VERSION]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@functools.cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """Return the digest of a file; computed once per state of the file, given by its size and time of change."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def _read_header(path: Path) -> _Header:
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

    def header(self) -> _Header:
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
        return _Header(metadata, found, -(-self._at // alignment) * alignment)

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
        return None

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


def _check_tensors(path: Path, header: _Header) -> None:
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


def _quantization(header: _Header) -> str | None:
    """Return the name of the quantisation, such as Q4_K_M; None where all weights are plain floats."""
    from gguf import GGMLQuantizationType, LlamaFileType

    counts: dict[str, int] = {}
    for _, shape, number, _ in header.tensors:
        name = GGMLQuantizationType(number).name
        counts[name] = counts.get(name, 0) + prod(shape)
    if counts.keys() <= set(_PLAIN):
        return None
    # The mixture has a name of its own. A file of another program may have none.
    names = {kind.value: kind.name.removeprefix("MOSTLY_") for kind in LlamaFileType}
    named = names.get(header.metadata.get("general.file_type"), "")
    return named if any(named.startswith(name) for name in counts) else max(counts, key=lambda name: counts[name])


def _expand(path: Path, header: _Header, folder: Path) -> None:
    """Write the model folder of a file.

    Raises:
        ModelError: Its metadata do not describe the model whose weights it has.
    """
    import torch
    import transformers
    from lightning.pytorch.utilities import rank_zero_info

    source = _source(_quantization(header))
    stored = sum(prod(shape) for _, shape, *_ in header.tensors)
    rank_zero_info(
        f"model base '{path}': expanding {source or 'its weights'} to float32 in {folder.parent} "
        f"({stored * 4 / 1e9:.1f} GB), which takes a minute or more, once per file"
    )
    place, file = str(path.parent), path.name
    config = transformers.AutoConfig.from_pretrained(place, gguf_file=file)
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if layers > len(header.tensors):
        raise ModelError(f"model base '{path}' describes {layers} layers, but has {len(header.tensors)} tensors")
    auto_class = getattr(transformers, f"AutoModelFor{'Seq2SeqLM' if config.is_encoder_decoder else 'CausalLM'}")
    with torch.device("meta"):
        model = auto_class.from_config(copy.deepcopy(config))
    if (described := sum(one.numel() for one in model.parameters())) > _MOST_PER_STORED * stored:
        raise ModelError(f"model base '{path}' describes a model of {described} weights, but has {stored}")
    # Without it some versions keep the weights of some architectures quantised, and none of them can be trained.
    options = {"quantization_config": unpacked(dequantize=True)} if (unpacked := _gguf_config()) else {}
    loaded, report = auto_class.from_pretrained(
        place, gguf_file=file, config=config, dtype=torch.float32, output_loading_info=True, **options
    )
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"model base '{path}' lacks weights of a {type(loaded).__name__}: {missing[0]}"
            f"{f' and {len(missing) - 1} more' if missing[1:] else ''}; give another file"
        )
    # A model that was loaded from a GGUF file counts as quantised, and refuses to be saved.
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.config.dtype = torch.float32
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(place, gguf_file=file)
    if isinstance(longest := getattr(config.get_text_config(), "max_position_embeddings", None), int):
        tokenizer.model_max_length = longest
    tokenizer.save_pretrained(folder)
    write_text(folder / _MARKER, json.dumps({"file": file, "expanded_from": source}, indent=2) + "\n")


def _gguf_config() -> Any:
    import transformers

    return getattr(transformers, "GgufConfig", None)


def _source(quantization: str | None) -> str | None:
    """Return a quantisation with its bits in words.

    Example:
        >>> _source("IQ4_NL")
        '4-bit values (IQ4_NL)'
    """
    if quantization is None:
        return None
    bits = re.search(r"\d+", quantization)
    return f"{bits[0]}-bit values ({quantization})" if bits else f"values in {quantization}"


