"""`ModelDescription`: what a checkpoint and a model folder say of how their model was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_neft.callback import NEFTune
from lightning_neft.common.files import write_text
from lightning_neft.common.paths import user_path
from lightning_neft.data.tokenization import Task
from lightning_neft.errors import DataError, ModelError

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = [
    "AUTO_CLASSES",
    "DESCRIPTION_FILE",
    "ModelDescription",
    "installed_versions",
    "list_files",
    "read_description",
    "training_description",
    "write_description",
]

# Beside the weights in every folder that this package writes.
DESCRIPTION_FILE = "lightning_neft.json"
_FORMAT = 1
# transformers' automatic class for each task.
AUTO_CLASSES: dict[Task, str] = {
    "causal_lm": "AutoModelForCausalLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "sequence_classification": "AutoModelForSequenceClassification",
}
_PACKAGES = ("lightning-neft", "torch", "lightning", "transformers", "peft")


@dataclass(frozen=True)
class ModelDescription:
    """How a model was trained, as far as it is known.

    Attributes:
        base: Folder or hub id of the base model, GGUF file, or `tiny`.
        architecture: Name of the model's class.
        task: What the model learnt.
        template: Name of the template that worded the data.
        max_length: The most tokens of a training sample.
        alpha: Strength of the noise; None without noise.
        recipe: Name of the recipe or config.
        expanded_from: What the base's weights were expanded from, such as `4-bit values (Q4_1)`; None if they were not.
        dtype: Of the weights in training, such as float32.
        data: Sources of the training data, of files the name alone.
        labels: Names of a classifier's classes.
        versions: Of the packages that trained it.
    """

    base: str
    architecture: str
    task: Task
    template: str | None = None
    max_length: int | None = None
    alpha: float | None = None
    recipe: str | None = None
    expanded_from: str | None = None
    dtype: str | None = None
    data: str | None = None
    labels: list[str] | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> ModelDescription:
        """Return the facts among the entries of a mapping; others are left alone.

        Raises:
            KeyError: If base, architecture or task is missing.
            ValueError: If there is no such task.
        """
        if found["task"] not in AUTO_CLASSES:
            raise ValueError(f"there is no task {found['task']!r}; choose one of {', '.join(AUTO_CLASSES)}")
        known = {one.name: found[one.name] for one in fields(cls) if one.name in found}
        return cls(**{**known, "base": found["base"], "architecture": found["architecture"]})

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain values."""
        return asdict(self)


def training_description(trainer: pl.Trainer | None) -> dict[str, Any]:
    """Return what a run says of its data and its noise, as entries of `ModelDescription`; nothing without a run."""
    if trainer is None:
        return {}
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    alphas = [callback.noise.alpha for callback in callbacks if isinstance(callback, NEFTune)]
    found: dict[str, Any] = {"alpha": float(alphas[0]) if alphas else None}
    options = getattr(trainer.datamodule, "options", None)  # type: ignore[attr-defined]
    if options is not None:
        found["data"] = ", ".join(_name_of(one.source) for one in options.each)
        found["max_length"] = options.max_length
        if options.task != "sequence_classification":
            # A run that ends before its data are read may be kept too, by OnExceptionCheckpoint; its error counts then.
            with suppress(DataError):
                found["template"] = trainer.datamodule.prepared.template.name  # type: ignore[attr-defined]
    return found


def _name_of(source: str) -> str:
    path = user_path(source, "data.source")
    return path.name if path.exists() else source


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that train a model."""
    return {name: version(name) for name in _PACKAGES}


def write_description(folder: Path, facts: ModelDescription) -> None:
    """Write the facts into a model folder."""
    write_text(folder / DESCRIPTION_FILE, json.dumps({"format": _FORMAT, **facts.to_json()}, indent=2) + "\n")


def list_files(folder: Path) -> None:
    """Add to the facts which files a model folder has, so that whoever replaces it knows which are the user's."""
    path = folder / DESCRIPTION_FILE
    found = json.loads(path.read_text(encoding="utf-8"))
    files = sorted(each.name for each in folder.iterdir())
    write_text(path, json.dumps({**found, "files": files}, indent=2) + "\n")


def read_description(folder: Path) -> ModelDescription | None:
    """Return the facts of a model folder, or None where it has none.

    Raises:
        ModelError: If the file cannot be read.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != _FORMAT:
            raise ValueError(f"its format is {found['format']!r}, this version reads {_FORMAT}")
        return ModelDescription.of(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise ModelError(f"{path} cannot be used: {reason}; remove it, and name the template with --template") from None
