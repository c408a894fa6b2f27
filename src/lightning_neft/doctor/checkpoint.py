"""Reads single tensors, or single rows of tensors, of a safetensors checkpoint and nothing else."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_neft.errors import ModelError

__all__ = ["Checkpoint"]

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")

# Names in old checkpoints, which transformers still reads.
_OLD_NAMES = {"weight": "gamma", "bias": "beta"}


class Checkpoint:
    """The tensors of a folder or hub repository; of a repository only the files with a requested tensor are downloaded.

    Args:
        base: Folder or hub id.

    Raises:
        ModelError: There are no weights in safetensors.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self._files = self._find_files()

    @property
    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._files.keys()

    def find(self, names: Sequence[str], taken: Collection[str]) -> str | None:
        """Return the name of a weight in the checkpoint, or None if the checkpoint does not have it.

        Checkpoints omit prefixes (`wte.weight` for `transformer.wte.weight`) or order them differently. If no name is
        equal, the one with the longest common ending is used.

        Args:
            names: Names of the weight in the model; several if modules share it.
            taken: Names of the other weights of the model, which are not candidates.

        Raises:
            ModelError: Several names match equally well.
        """
        wanted = [name for given in names for name in (given, _old_name(given))]
        for name in wanted:
            if name in self._files:
                return name
        levels = {key: max(_common_levels(key, name) for name in wanted) for key in self._files if key not in taken}
        most = max(levels.values(), default=0)
        # The last level (`weight`) is common to nearly all names.
        if most < 2:
            return None
        nearest = [key for key, count in levels.items() if count == most]
        if len(nearest) > 1:
            raise ModelError(f"{self.base}: {names[0]} could be any of {', '.join(nearest[:5])}; use --random-init")
        return nearest[0]

    def read(self, name: str, shape: torch.Size, rows: Tensor | None = None) -> Tensor:
        """Read a tensor, or some rows of it.

        Args:
            name: Name in the checkpoint.
            shape: Its shape in the model.
            rows: int64 (n,), the rows to read; None for all.

        Raises:
            ModelError: The shapes differ, or the file cannot be read.
        """
        path = self._fetch(self._files[name])
        with _opened(path) as file:
            part = file.get_slice(name)
            stored = tuple(part.get_shape())
            if stored != tuple(shape):
                raise ModelError(
                    f"{path}: {name} has shape {stored}, but the config gives {tuple(shape)}; use files of one model"
                )
            if rows is None:
                return file.get_tensor(name).clone()  # type: ignore[no-any-return]
            return torch.cat([part[row : row + 1] for row in rows.tolist()])

    def dtype(self) -> torch.dtype:
        """Dtype of the first floating tensor, or float32."""
        for name, file_name in self._files.items():
            with _opened(self._fetch(file_name)) as file:
                tensor: Tensor = file.get_tensor(name)
                if tensor.is_floating_point():
                    return tensor.dtype
        return torch.float32

    def _find_files(self) -> dict[str, str]:
        """Return the file name of each tensor."""
        index = self._fetch_if_there(_INDEX)
        if index is not None:
            try:
                file_of: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            except (ValueError, KeyError) as error:
                raise ModelError(
                    f"{index} is not a checkpoint index: {error!r}; copy it again, or use --random-init"
                ) from error
            return file_of
        single = self._fetch_if_there(_SINGLE)
        if single is not None:
            with _opened(single) as file:
                return dict.fromkeys(file.keys(), _SINGLE)
        if any(self._fetch_if_there(name) for name in _PICKLED):
            raise ModelError(
                f"model base {self.base!r} has only pickled weights (.bin), which are refused because loading them "
                "can run code; convert them to safetensors, or use --random-init"
            )
        raise ModelError(f"model base {self.base!r} has no {_SINGLE}; use --random-init to examine its config only")

    def _fetch(self, name: str) -> Path:
        path = self._fetch_if_there(name)
        if path is None:
            raise ModelError(
                f"model base {self.base!r}: {name} is missing, but the index lists it; add it, or use --random-init"
            )
        return path

    def _fetch_if_there(self, name: str) -> Path | None:
        folder = Path(self.base)
        if folder.is_dir():
            path = folder / name
            return path if path.is_file() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return Path(hf_hub_download(self.base, name))
        except EntryNotFoundError:
            return None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        # Maps the file into memory; only the parts used are read.
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ModelError(
            f"{path} is not a safetensors file, or is incomplete: {error}; copy it again, or use --random-init"
        ) from error


def _old_name(name: str) -> str:
    level, _, last = name.rpartition(".")
    return f"{level}.{_OLD_NAMES.get(last, last)}"


def _common_levels(one: str, other: str) -> int:
    """Return how many levels two dotted names have in common, counted from the last."""
    count = 0
    for left, right in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if left != right:
            break
        count += 1
    return count
