"""The config of adapters in a folder: read, and checked before a model is built from it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lightning_neft.common.limits import beyond_limits
from lightning_neft.errors import ModelError
from lightning_neft.hub.names import loading

__all__ = ["ADAPTERS", "ADAPTER_WEIGHTS", "base_of_adapters", "check_adapters"]

ADAPTERS = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# Longer than any path.
_LONGEST_NAME = 4096


def base_of_adapters(folder: Path) -> str | None:
    """Return the base of the adapters in a folder, or None if it has no adapters.

    Raises:
        ModelError: If the config cannot be read or names no base.
    """
    if not (folder / ADAPTERS).is_file():
        return None
    base = _read(folder).get("base_model_name_or_path")
    if not isinstance(base, str) or not base or len(base) > _LONGEST_NAME:
        shown = "nothing" if base is None else repr(base)[:40]
        raise ModelError(
            f"{folder / ADAPTERS}: base_model_name_or_path must be the folder or hub id of the adapters' base, got "
            f"{shown}"
        )
    # For the bundled model peft records the path in another installation.
    return "tiny" if Path(base).name == "tiny_llama" else base


def check_adapters(folder: Path, modules: Iterable[str]) -> None:
    """Check that adapters built from the config by peft are bounded, and fit the size of their weights.

    Args:
        folder: The folder with config and weights.
        modules: Names of the base's modules, which patterns in the config are matched against.

    Raises:
        ModelError: A value is not possible for adapters; the message names file and key.
    """
    path = folder / ADAPTERS
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{folder} has no {ADAPTER_WEIGHTS}; adapters in other files are not read")
    values = _read(folder)
    if values.get("peft_type") != "LORA":
        raise ModelError(f"{path}: peft_type must be LORA, got {values.get('peft_type')!r}; merge other adapters first")
    with loading("adapters", str(folder)):
        most = _highest_rank(folder / ADAPTER_WEIGHTS)
    for key, what, allows in _CHECKS:
        if key in values and not allows(values[key], most):
            shown = repr(values[key])
            shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
            raise ModelError(f"{path}: {key} must be {what.format(most=most)}, got {shown}")
    with loading("adapters", str(folder)):
        limit = beyond_limits(lambda: _lay_patterns(folder, list(modules)))
    if limit:
        raise ModelError(
            f"{path}: {limit} to match its patterns with modules (target_modules, exclude_modules, "
            "layers_pattern, rank_pattern, alpha_pattern); list the names of the modules in target_modules"
        )


def _read(folder: Path) -> dict[str, Any]:
    path = folder / ADAPTERS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, not a mapping of keys")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    return values


def _highest_rank(weights: Path) -> int:
    """Return the highest rank of the adapters in a file, read from its header; 0 without adapters."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as opened:
        shapes = [opened.get_slice(name).get_shape() for name in opened.keys() if "lora_" in name]  # noqa: SIM118
    return max((min(shape) for shape in shapes if len(shape) > 1), default=0)


def _lay_patterns(folder: Path, modules: list[str]) -> None:
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    config = LoraConfig.from_pretrained(str(folder))
    for name in modules:
        check_target_module_exists(config, name)
        for patterns in (config.rank_pattern, config.alpha_pattern):
            get_pattern_key(patterns.keys(), name)


def _is_rank(value: object, most: int) -> bool:
    return type(value) is int and 0 < value <= most


def _is_number(value: object, most: int) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _are_names(value: object, most: int) -> bool:
    # peft searches for the fewest suffixes of the names, in time quadratic in their number.
    is_list = isinstance(value, list) and len(value) <= _MOST_NAMES and all(isinstance(one, str) for one in value)
    return value is None or isinstance(value, str) or is_list


def _table_of(allows: Callable[[object, int], bool]) -> Callable[[object, int], bool]:
    return lambda value, most: (
        value is None or (isinstance(value, dict) and all(allows(one, most) for one in value.values()))
    )


_MOST_NAMES = 10_000
_RANK = "from 1 to {most}, the rank of the weights beside it"
_NAMES = f"a pattern or a list of up to {_MOST_NAMES} names"
# The allowed values of each key, as text and as a check, which gets the highest rank of the weights.
_CHECKS: tuple[tuple[str, str, Callable[[object, int], bool]], ...] = (
    ("r", f"a whole number {_RANK}", _is_rank),
    (
        "rank_pattern",
        f"a mapping to whole numbers {_RANK}",
        _table_of(_is_rank),
    ),
    ("lora_alpha", "a finite number", _is_number),
    ("alpha_pattern", "a mapping to finite numbers", _table_of(_is_number)),
    ("target_modules", _NAMES, _are_names),
    ("exclude_modules", _NAMES, _are_names),
    ("modules_to_save", _NAMES, _are_names),
    # It could copy layers of the base any number of times.
    ("layer_replication", "null: replicated layers are not supported", lambda value, most: not value),
)
