"""Base models in GGUF files: checked, and expanded once into a model folder in the cache.

A GGUF file of llama.cpp holds config, tokenizer and weights, the weights mostly in 2 to 8 bits. Nothing is trained in
these formats: the weights are expanded to float32, and every verb reads the folder. See docs/reference/models.md.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from pathlib import Path

from lightning_neft.common.files import new_folder, write_text
from lightning_neft.errors import ModelError
from lightning_neft.hub.cache import cache_folder
from lightning_neft.hub.gguf_header import Header, checked_header

__all__ = ["expand", "expanded_folder", "expanded_from", "is_gguf"]

# In the expanded folder: where it comes from.
_MARKER = "lightning_neft_gguf.json"
# Increase it whenever the same file would be expanded to another folder.
_VERSION = 1
_PART = 2**20
# Weights that a file may lack, such as a head, are created.
_MOST_PER_STORED = 4


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

    header = checked_header(path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                with new_folder(folder) as temporary:
                    _expand(path, header, temporary)
                    temporary.replace(folder)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is None:  # of transformers, about the file
            raise
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
    _expand(path, checked_header(path), folder)


def expanded_from(folder: str | Path) -> str | None:
    """Return what the weights of a model folder were expanded from, such as `4-bit values (Q4_1)`.

    Args:
        folder: A folder from `expanded_folder`, or any other folder or hub id.

    Returns:
        None if they do not come from a GGUF file, or its weights were not quantised.
    """
    marker = Path(folder) / _MARKER
    return json.loads(marker.read_text(encoding="utf-8"))["expanded_from"] if marker.is_file() else None


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


def _expand(path: Path, header: Header, folder: Path) -> None:
    """Write the model folder of a file.

    Raises:
        ModelError: Its metadata do not describe the model whose weights it has.
    """
    import torch
    import transformers
    from lightning.pytorch.utilities import rank_zero_info

    source, stored = header.source, header.weights
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
    # Newer versions would keep the weights of some architectures quantised, which cannot be trained.
    kind = getattr(transformers, "GgufConfig", None)
    options = {} if kind is None else {"quantization_config": kind(dequantize=True)}
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
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    _write_tokenizer(path, header.metadata.get("tokenizer.ggml.tokens"), longest, folder)
    write_text(folder / _MARKER, json.dumps({"file": file, "expanded_from": source}, indent=2) + "\n")


def _write_tokenizer(path: Path, count: int | None, longest: int | None, folder: Path) -> None:
    """Write the tokenizer of a file.

    Args:
        path: The GGUF file.
        count: How many tokens it has.
        longest: How many tokens its model reads.
        folder: The model folder.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    if longest is not None:
        tokenizer.model_max_length = longest
    tokenizer.save_pretrained(folder)
    # The class that transformers builds it with adds special tokens of its own, for which the model has no rows.
    rules = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    if count is not None:
        rules["added_tokens"] = [token for token in rules["added_tokens"] if token["id"] < count]
        write_text(folder / "tokenizer.json", json.dumps(rules, ensure_ascii=False))
