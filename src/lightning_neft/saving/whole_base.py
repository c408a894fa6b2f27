"""Model folders of vision-language bases: all that the base's folder has, with the trained weights in their places."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lightning_neft.common.files import write_text
from lightning_neft.errors import ModelError
from lightning_neft.hub.names import loading
from lightning_neft.models.finite import first_non_finite

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["save_whole_base"]

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
# What an AutoProcessor reads besides the tokenizer's files; the chat template is one of these.
_PROCESSOR = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def save_whole_base(model: Any, weights: Mapping[str, Tensor], folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write a vision-language model as its base is stored: each tensor under its key, in its file and dtype.

    transformers would write other keys, one dtype, and no tensor that its class does not have, such as those for
    predicting several tokens (Qwen3.5); these are copied. Programs that load the base load the folder.

    Args:
        model: A model of transformers, loaded from its base with `from_pretrained`; without adapters.
        weights: Its weights by the model's names.
        folder: An empty folder.
        dtype: Of all weights; that of each tensor in the base by default.

    Raises:
        ModelError: The base cannot be read, has no safetensors, or its keys do not match those of the model.
    """
    base: str = model.name_or_path
    with loading("weights", base):
        files = _weight_files(base)
    if not files:
        raise ModelError(
            f"model base {base!r} has no weights in safetensors, whose keys the model folder needs; convert them with "
            "from_pretrained and save_pretrained of transformers"
        )
    _write_weights(model, weights, files, folder, dtype)
    with loading("config", base):
        config = _config(model.config, base, dtype)
        write_text(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    with loading("processor", base):
        copied = [shutil.copy(path, folder / path.name) for name in _PROCESSOR if (path := _file(base, name))]
    if not copied:
        rank_zero_info(f"model base {base!r} has no {_PROCESSOR[1]}: the model folder reads text, but no images")


def _file(base: str, name: str) -> Path | None:
    """Return a file of a folder or hub repository; None without it."""
    from transformers.utils import cached_file

    missing = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    found = cached_file(base, name, **missing)
    return None if found is None else Path(found)


def _weight_files(base: str) -> list[Path]:
    from transformers.utils.hub import get_checkpoint_shard_files

    if (index := _file(base, _INDEX)) is not None:
        return [Path(path) for path in get_checkpoint_shard_files(base, str(index))[0]]
    single = _file(base, _SINGLE)
    return [] if single is None else [single]


def _write_weights(
    model: Any, weights: Mapping[str, Tensor], files: Sequence[Path], folder: Path, dtype: torch.dtype | None
) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file
    from transformers.core_model_loading import revert_weight_conversion

    trained = revert_weight_conversion(model, dict(weights))
    # A tied weight is stored under one or both of its names.
    both = {name: value for name, value in weights.items() if name in model.all_tied_weights_keys}
    tied = revert_weight_conversion(model, both)
    stored: dict[str, Sequence[int]] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            stored |= {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    copied = {name: shape for name, shape in stored.items() if name not in trained}
    # Such as a head that the base lacks.
    added = {name: value for name, value in trained.items() if name not in stored and name not in tied}
    _check_renamed(copied, added, model.name_or_path)
    place: dict[str, str] = {}
    rounded: set[str] = set()
    for file in files:
        tensors: dict[str, Tensor] = {}
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                value = trained[name] if name in trained else opened.get_tensor(name)
                wanted = dtype or _DTYPES.get(opened.get_slice(name).get_dtype(), value.dtype)
                if name in trained and value.is_floating_point() and wanted.itemsize < value.dtype.itemsize:
                    rounded.add(str(wanted).removeprefix("torch."))
                tensors[name] = _converted(name, value, wanted)
        if file == files[-1]:
            tensors |= {name: _converted(name, value, dtype or value.dtype) for name, value in added.items()}
        place |= dict.fromkeys(tensors, file.name)
        save_file(tensors, folder / file.name, metadata={"format": "pt"})
    if len(files) > 1:
        total = sum((folder / file.name).stat().st_size for file in files)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(place.items()))}
        write_text(folder / _INDEX, json.dumps(index, indent=2) + "\n")
    for line in _lines(copied, added, rounded):
        rank_zero_info(f"model folder: {line}")


def _converted(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a copy on the CPU: tied weights share their memory, which safetensors refuses."""
    found = value.detach().to("cpu", dtype if value.is_floating_point() else None, copy=True).contiguous()
    # Gemma 4 has infinite limits among its buffers.
    if dtype is torch.float16 and first_non_finite([(name, found)]) and not first_non_finite([(name, value)]):
        raise ModelError(
            f"{name} is too large for float16, the dtype of the base; export the checkpoint with --dtype bfloat16"
        )
    return found


def _check_renamed(copied: Mapping[str, Sequence[int]], added: Mapping[str, Tensor], base: str) -> None:
    """Check that no tensor of the base is a trained one under another key, which would be copied untrained."""
    ends = {(*name.split(".")[-2:], *value.shape): name for name, value in added.items()}
    for name, shape in copied.items():
        if (new := ends.get((*name.split(".")[-2:], *shape))) is not None:
            raise ModelError(
                f"transformers writes {new} where model base {base!r} has {name}: the folder would have both, one of "
                "them untrained; load the base with transformers, save it with save_pretrained, and train that"
            )


def _lines(copied: Mapping[str, Any], added: Mapping[str, Any], rounded: set[str]) -> Iterator[str]:
    if copied:
        yield f"{_listed([*copied])} of the base, which transformers does not load, copied unchanged"
    if added:
        yield f"{_listed([*added])} added, which the base lacks"
    if rounded:
        yield f"weights rounded to {' and '.join(sorted(rounded))}, as the base stores them"


def _listed(names: list[str]) -> str:
    return f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"


def _config(config: PretrainedConfig, base: str, dtype: torch.dtype | None) -> dict[str, Any]:
    """Return the config of the base as it is stored, with the vocabulary and the dtype of the model folder."""
    from transformers import AutoConfig

    path = _file(base, "config.json")
    assert path is not None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = config.get_text_config().vocab_size
    if rows != AutoConfig.from_pretrained(base).get_text_config().vocab_size:
        found.get("text_config", found)["vocab_size"] = rows
    if dtype is not None:
        _set_dtype(found, str(dtype).removeprefix("torch."))
    return found


def _set_dtype(values: dict[str, Any], dtype: str) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _set_dtype(value, dtype)
        elif name in ("dtype", "torch_dtype"):
            values[name] = dtype
