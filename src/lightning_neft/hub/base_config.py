"""Whether the config of a base model has numbers that a model can have, and fits its weights, before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from lightning_neft.errors import ModelError
from lightning_neft.hub.names import loading, resolve_base

__all__ = ["check_amount", "check_base_config"]

# Each in the words of one family or another. What is no number, such as a size for each layer, transformers checks.
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
# The largest real ones are a thousandth of it; products of two fit into 64 bits.
_LARGEST_SIZE = 10**9
# Modules are built one by one, even without their weights: 6 ms a layer.
_MOST_LAYERS = 2000
_MOST_LABELS = 10**6
# Weights that are not in the files, such as a head, are made. Of quantised ones, 2 bits and more are one each.
_MOST_PER_STORED = 4
_MOST_PER_QUANTISED = 64
# Where the config of a model of several kinds of input has that of its text.
_PARTS = ("text_config", "decoder", "encoder", "text_encoder", "generator")


def check_base_config(base: str) -> None:
    """Check the numbers in the config of a base model that decide what is built: sizes, layers, classes.

    Args:
        base: Folder, hub id, config file, or `tiny`. Where it has no config, whoever loads it says so.

    Raises:
        ModelError: One of them is none that a model can have; with file and key.
    """
    from transformers import PretrainedConfig

    path = base if Path(base).is_file() else resolve_base(base)
    with loading("config", base):
        try:
            values, _ = PretrainedConfig.get_config_dict(path)
        except (OSError, ValueError):
            return
    if not isinstance(values, dict):
        raise ModelError(f"config.json of model base {base!r} holds a {type(values).__name__}, no table of keys")
    for place, problem in _problems(values, ""):
        raise ModelError(f"config.json of model base {base!r}: {place} {problem}")


def check_amount(auto_class: str, base: str, trust_remote_code: bool = False, **entries: Any) -> None:
    """Check that the weights in a folder are about as many as its config asks for.

    Those that are missing would be made, however many: a config of more layers than the files have fills the memory.

    Args:
        auto_class: Name of transformers' automatic class.
        base: A folder, or `tiny`. Of others, and of weights in other files than safetensors, nothing is checked.
        trust_remote_code: Whether code that comes with the model may run.
        entries: Further ones of the model's config.

    Raises:
        ModelError: The config asks for many times as many.
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
                f"config.json of model base {base!r}: num_hidden_layers is {layers}, its weights are {len(shapes)} "
                "tensors; they are not of one model"
            )
        with torch.device("meta"):
            model = getattr(transformers, auto_class).from_config(
                config, trust_remote_code=trust_remote_code, attn_implementation="eager"
            )
    asked, stored = sum(one.numel() for one in model.parameters()), sum(map(prod, shapes))
    is_quantised = getattr(config, "quantization_config", None) is not None
    if asked > stored * (_MOST_PER_QUANTISED if is_quantised else _MOST_PER_STORED):
        raise ModelError(
            f"config.json of model base {base!r} describes a model of {asked} weights, its files have {stored}; they "
            "are not of one model"
        )


def _stored_shapes(folder: Path) -> list[list[int]]:
    """Return the shapes of all tensors in a folder's safetensors, of which the headers are read."""
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
            yield place, "must be true, or left out"
        elif name == "num_labels":
            yield from _beyond(place, value, 0, _MOST_LABELS)
        elif name in _SIZES:
            yield from _beyond(place, value, 1, _LARGEST_SIZE)
        elif name in _LAYERS:
            yield from _beyond(place, value, 1, _MOST_LAYERS)


def _beyond(place: str, value: object, least: int, most: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, (int, float)) and not least <= value <= most:
        yield place, f"must be between {least} and {most}, got {value!r}"
