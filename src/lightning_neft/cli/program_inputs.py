"""What a result says of the config and the data that its numbers come from."""

from __future__ import annotations

from pathlib import Path

from lightning_neft.cli.program import Program
from lightning_neft.common.paths import user_path
from lightning_neft.data.sources.source import local_files
from lightning_neft.evaluation.result import InputFile

__all__ = ["input_paths", "inputs_of"]


def inputs_of(program: Program) -> list[InputFile]:
    """Return the files of `--config`, and the file of the data where that is what they are.

    Data from elsewhere (the package, the hub, several files) are told by the digest that `Prepared` has of all.

    Raises:
        OSError: A file cannot be read.
    """
    inputs = [InputFile.read("config", path) for path in program.config_files]
    source = user_path(program.datamodule.options.source, "data.source")
    return [*inputs, InputFile.read("data", source)] if source.is_file() else inputs


def input_paths(program: Program) -> list[Path]:
    """Return the files that no output may replace: those of `--config` and of the data."""
    return [*program.config_files, *local_files(program.datamodule.options.source)]
