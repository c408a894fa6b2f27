"""`--tiny`: turns the config of any run into a 2-step smoke test, on a CPU, in seconds, without a network."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lightning_neft.cli.keys import keys_given
from lightning_neft.common.files import write_text
from lightning_neft.common.paths import user_path
from lightning_neft.data.catalogue import find_entry
from lightning_neft.data.formats.registry import choose_format, format_named
from lightning_neft.data.sources.source import TOY, open_source
from lightning_neft.data.toy import toy_instructions
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.hub.base_config import load_base_config
from lightning_neft.hub.base_models import base_models
from lightning_neft.hub.cache import cache_folder
from lightning_neft.hub.tiny_models import tiny_model

__all__ = ["TINY_SAMPLES", "say_what_is_tiny", "tiny_file", "tiny_records", "with_tiny", "without_flag"]

_FLAG = "--tiny"

# Below the positions of the tiny models, and so short that the longest samples have to be cut.
_MAX_LENGTH = 256
_BATCH, _HELD_OUT = 2, 2
TINY_SAMPLES = 12
"""Number of samples of each format."""
# Exchanges of a sample: separate turns in the formats that have them, one text in the others.
_SHORT, _LONG = 3, 30
# Hardware and length of the run. Each of the two steps writes a checkpoint, so that resuming can be tried.
_RUN: dict[str, Any] = {
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.num_nodes": 1,
    "trainer.strategy": "auto",
    "trainer.plugins": None,
    "trainer.precision": "32-true",
    "trainer.max_epochs": -1,
    "trainer.max_steps": 2,
    "trainer.max_time": None,
    "trainer.val_check_interval": None,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.log_every_n_steps": 1,
    "samples": 1,
    "checkpoint.monitor": None,
    "checkpoint.filename": "step-{step}",
    "checkpoint.save_top_k": -1,
    "checkpoint.every_n_train_steps": 1,
    "checkpoint.every_n_epochs": None,
    "checkpoint.train_time_interval": None,
    "model.quantization": None,
    "model.attn_implementation": None,
    "model.trust_remote_code": False,
    "model.dtype": None,
    "model.compile": False,
    "data.batch_size": _BATCH,
    "data.num_workers": 0,
    "data.val_size": _HELD_OUT,
    "data.val_split": None,
    "data.val_source": None,
}


def without_flag(args: Sequence[str]) -> tuple[list[str], bool]:
    """Return a command line without `--tiny`, and whether it was there.

    Raises:
        ConfigError: If it has a value.

    Example:
        >>> without_flag(["--config", "quickstart", "--tiny"])
        (['--config', 'quickstart'], True)
    """
    for argument in args:
        if argument.startswith(f"{_FLAG}="):
            raise ConfigError(f"{argument}: {_FLAG} takes no value; give {_FLAG} alone, or omit it")
    rest = [argument for argument in args if argument != _FLAG]
    return rest, len(rest) < len(args)


def with_tiny(args: Sequence[str], config: Namespace) -> list[str]:
    """Return a command line with the options of the 2-step smoke test, except those that it gives itself.

    Args:
        args: The command line without `--tiny`.
        config: The config that it and its files give.

    Raises:
        ConfigError: If the format of the data is not known.
        ModelError: If there is no tiny model of the base's architecture.
        DataError: If the data are a file that cannot be read.
    """
    given = keys_given(args)
    options = {**_RUN, **_batch_options(config)}
    cache = cache_folder(config.data.cache_dir) / "tiny"
    if "data.source" not in given and "data.sources" not in given:
        options |= _data_options(config, cache)
    if "model.base" not in given:
        options["model.base"] = str(_tiny_model(config.model.base, cache).absolute())
    for name in ("max_length", "max_target_length"):
        if (length := config.data[name]) is not None:
            options[f"data.{name}"] = min(length, _MAX_LENGTH)
    tiny = [f"--{key}={_written(value)}" for key, value in options.items() if not _is_given(key, given)]
    return [*args, *tiny]


def say_what_is_tiny(name: str, before: Namespace, after: Namespace) -> None:
    """Print to standard error that this is a 2-step smoke test, and what it omits."""
    for line in _lines(name, before, after):
        print(f"lightning_neft: {line}", file=sys.stderr)


def _lines(name: str, before: Namespace, after: Namespace) -> Iterator[str]:
    yield (
        f"{name} is a {after.trainer.max_steps}-step smoke test with random weights on {TINY_SAMPLES} toy samples; it "
        "checks that the parts work together and says nothing about quality"
    )
    if before.model.quantization is not None and after.model.quantization is None:
        yield (
            f"model.quantization={before.model.quantization} needs a CUDA device; the 2-step smoke test trains the "
            "adapters on unquantised weights"
        )


def _batch_options(config: Namespace) -> dict[str, Any]:
    """Return two micro-batches a step where the config has several."""
    if config.global_batch_size is not None:
        return {"global_batch_size": min(2 * _BATCH, config.global_batch_size)}
    return {"trainer.accumulate_grad_batches": min(2, config.trainer.accumulate_grad_batches)}


def _tiny_model(base: str, cache: Path) -> Path:
    for entry in base_models().values():
        if base == entry.hub_id:
            return tiny_model(entry.model_type, cache, is_tied=entry.is_tied)
    config = load_base_config(base)
    return tiny_model(str(config.model_type), cache, is_tied=config.get_text_config().tie_word_embeddings)


def _data_options(config: Namespace, cache: Path) -> dict[str, Any]:
    """Return the options of tiny data in the form of the config's own."""
    data = config.data
    if data.sources:
        return {"data.sources": [_tiny_entry(one, cache) for one in data.sources]}
    source = TOY if data.source is None else data.source
    own = _tiny_source(source, data, cache)
    if (entry := find_entry(source)) is not None:
        # TextData would take this from the catalogue.
        cut = entry.cut_conversations if data.cut_conversations is None else data.cut_conversations
        own["cut_conversations"] = cut
    return {f"data.{name}": value for name, value in own.items()}


def _tiny_entry(one: Namespace, cache: Path) -> dict[str, Any]:
    """Return an entry of data.sources with tiny data in the form of its own."""
    samples = None if one.samples is None else min(one.samples, TINY_SAMPLES - _HELD_OUT)
    tiny = {**vars(one), "samples": samples, **_tiny_source(one.source, one, cache)}
    return {name: value for name, value in tiny.items() if value is not None}


def _tiny_source(source: str, options: Namespace, cache: Path) -> dict[str, Any]:
    """Return the options of tiny data in the form of a source.

    Args:
        source: The source.
        options: Its format, columns, template and split.
        cache: Folder of the tiny data.
    """
    entry, columns = find_entry(source), options.columns
    name = options.format or _format(source, options)
    found: dict[str, Any] = {"split": None, "subset": None, "revision": None}
    if entry is not None:
        # TextData would take these from the catalogue.
        columns = columns or dict(entry.columns)
        found |= {"template": options.template or entry.template, "format": name, "columns": columns or None}
    return {**found, "source": str(tiny_file(name, columns, cache).absolute())}


def _format(source: str, options: Namespace) -> str:
    """Return the format of a source for which the config names none."""
    if (entry := find_entry(source)) is not None:
        return entry.format
    if source != TOY and not user_path(source, "data.source").exists():
        raise ConfigError(
            f"{_FLAG} writes a few samples in the format of the data, and that of {source!r} is not known without "
            "reading it; give data.format"
        )
    records = open_source(source, split=options.split, columns=(options.columns or {}).values())
    return choose_format(records.head, None, options.columns, source=source).name


def tiny_records(format: str, columns: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return a few toy samples as records of a data format.

    Most are short; the last two are longer than the rows of any 2-step smoke test, so they are truncated.

    Args:
        format: Name of the format, as for `format_named`.
        columns: Names of columns that differ from the format's, such as `{"output": "answer"}`.

    Raises:
        ConfigError: If there is no such format, or it writes no records.

    Example:
        >>> tiny_records("alpaca", {"output": "answer"})[0]
        {'instruction': 'Find the odd word.', 'input': 'train, hammer, axe', 'answer': 'train'}
    """
    write = format_named(format).record_of
    toy = iter(toy_instructions("train"))
    records = []
    for number in range(TINY_SAMPLES):
        count = _LONG if number >= TINY_SAMPLES - 2 else 1 + number % _SHORT
        drawn = [next(toy) for _ in range(count)]
        exchanges = [(f"{one['instruction']}\n{one['input']}".rstrip(), one["output"]) for one in drawn]
        record = write(exchanges, number)
        records.append({(columns or {}).get(name, name): value for name, value in record.items()})
    return records


def tiny_file(format: str, columns: Mapping[str, str] | None, cache: Path) -> Path:
    """Return a JSON file of `tiny_records` in a cache; the first call writes it.

    Raises:
        DataError: If the cache cannot be written to.
    """
    text = json.dumps(tiny_records(format, columns), indent=1)
    path = cache / f"{format}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    try:
        if not path.is_file():
            write_text(path, text)
    except OSError as error:
        raise DataError(
            f"tiny data cannot be written to {cache}: {error.strerror or error}; give another folder (data.cache_dir)"
        ) from error
    return path


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_given(key: str, given: Sequence[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") or one.startswith(f"{key}.") for one in given)
