"""The config of a base model: found, checked for plausible sizes that match its weights, and loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightning_neft.common.paths import user_path
from lightning_neft.errors import ModelError
from lightning_neft.hub.names import loading, resolve_base
from lightning_neft.hub.vision_language import loading_class

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["check_amount", "check_base_config", "find_base", "load_base_config"]

# By the names of different model families. Values that are not numbers, such as a list of sizes, transformers checks.
_SIZES = (
    "vocab_size",
    "hidden_size",
    "d_model",
    "n_embd",
    "intermediate_size",
    "d_ff",
    "num_attention_heads",
    "num_heads",
    "n_head",
    "n_heads",
    "num_key_value_heads",
    "head_dim",
    "d_kv",
)
_LAYERS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "n_layer", "n_layers")
# A thousand times the largest real sizes; products of two fit into 64 bits.
_LARGEST_SIZE = 10**9
# Modules are built one by one, even without weights: 6 ms per layer.
_MOST_LAYERS = 2000
_MOST_LABELS = 10**6
# Weights missing from the files, such as a head, are created. Quantised files store several weights in one element.
_MOST_PER_STORED = 4
_MOST_PER_QUANTISED = 64
# Keys of the text config within the config of a multimodal model.
_PARTS = ("text_config", "decoder", "encoder", "text_encoder", "generator")


def find_base(base: str) -> str:
    """Return the folder or hub id that a base names, or its path if it is a `config.json`.

    Raises:
        ModelError: There is no such folder, or it has no config.
    """
    path = user_path(base, "model base")
    if path.is_file() and path.suffix == ".json":
        return str(path)
    resolved = resolve_base(base)
    folder = Path(resolved)
    if folder.is_dir() and not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(f"model base {base!r} holds only adapters; give the model that they were trained on")
        raise ModelError(f"model base {base!r} has no config.json; give the folder of a transformers model")
    return resolved


def load_base_config(base: str, trust_remote_code: bool = False, **entries: Any) -> PretrainedConfig:
    """Load the config of a base model without its weights, after checking its sizes.

    Args:
        base: Folder, hub id, `config.json`, or `tiny`.
        trust_remote_code: Whether to run code that is part of the model.
        entries: Entries of the config to replace, such as `attn_implementation`.

    Raises:
        ModelError: There is no config, a number in it is implausible, or transformers does not know its architecture.

    Example:
        >>> load_base_config("tiny").hidden_size
        128
    """
    from transformers import AutoConfig

    path = find_base(base)
    check_base_config(base)
    with loading("config", base):
        return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, **entries)


def check_base_config(base: str) -> None:
    """Check the numbers in the config of a base model that determine its size: widths, layers, classes.

    Args:
        base: Folder, hub id, config file, or `tiny`. A missing config is reported on loading.

    Raises:
        ModelError: A number is implausible; the message names file and key.
    """
    from transformers import PretrainedConfig

    path = base if base.endswith(".json") and Path(base).is_file() else resolve_base(base)
    with loading("config", base):
        try:
            values, _ = PretrainedConfig.get_config_dict(path)
        except (OSError, ValueError):
            return
    if not isinstance(values, dict):
        raise ModelError(f"config.json of model base {base!r} holds a {type(values).__name__}, not a mapping of keys")
    for place, problem in _problems(values, ""):
        raise ModelError(f"config.json of model base {base!r}: {place} {problem}")


def check_amount(auto_class: str, base: str, trust_remote_code: bool = False, **entries: Any) -> None:
    """Check that a folder has about as many weights as its config describes.

    Missing weights would be created: a config with more layers than the files could fill the memory.

    Args:
        auto_class: Name of the auto class in transformers.
        base: A folder, or `tiny`. Hub ids, and weights in formats other than safetensors, are not checked.
        trust_remote_code: Whether code of the model may run.
        entries: Further entries of the model's config.

    Raises:
        ModelError: The config describes many times as many.
    """
    import transformers

    path = resolve_base(base)
    with loading("weights", base):
        shapes = _stored_shapes(Path(path))
    if not shapes:
        return
    with loading("config", base):
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, **entries)
        layers = getattr(config.get_text_config(), "num_hidden_layers", None)
        if isinstance(layers, int) and layers > len(shapes):
            raise ModelError(
                f"config.json of model base {base!r}: num_hidden_layers is {layers}, but its weights are "
                f"{len(shapes)} tensors; they are not of one model"
            )
        with torch.device("meta"):
            model = getattr(transformers, loading_class(auto_class, config)).from_config(
                config, trust_remote_code=trust_remote_code, attn_implementation="eager"
            )
    asked, stored = sum(one.numel() for one in model.parameters()), sum(map(prod, shapes))
    is_quantised = getattr(config, "quantization_config", None) is not None
    if asked > stored * (_MOST_PER_QUANTISED if is_quantised else _MOST_PER_STORED):
        raise ModelError(
            f"config.json of model base {base!r} describes a model of {asked} weights, but its files have {stored}; "
            "they are not of one model"
        )


def _stored_shapes(folder: Path) -> list[list[int]]:
    """Return the shapes of all tensors in a folder's safetensors, read from the headers."""
    from safetensors import safe_open

    shapes = []
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            shapes += [opened.get_slice(name).get_shape() for name in opened.keys()]  # noqa: SIM118
    return shapes


def _problems(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        place = f"{prefix}{name}"
        if name in _PARTS and isinstance(value, dict):
            yield from _problems(value, f"{place}.")
        elif name == "return_dict" and value is False:
            yield place, "must be true, or omitted"
        elif name == "num_labels":
            yield from _beyond(place, value, 0, _MOST_LABELS)
        elif name in _SIZES:
            yield from _beyond(place, value, 1, _LARGEST_SIZE)
        elif name in _LAYERS:
            yield from _beyond(place, value, 1, _MOST_LAYERS)


def _beyond(place: str, value: object, least: int, most: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, (int, float)) and not least <= value <= most:
        yield place, f"must be between {least} and {most}, got {value!r}"
