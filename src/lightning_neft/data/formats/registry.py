"""The bundled data formats: find one by its name, by an import path, or from the columns of the data."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from lightning_neft.common.escaping import visible
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.data.formats.chat import MessagesFormat, ShareGPTFormat
from lightning_neft.data.formats.format import Column, Format
from lightning_neft.data.formats.texts import (
    AlpacaFormat,
    GuanacoFormat,
    PromptCompletionFormat,
    SourceTargetFormat,
    TextFormat,
    TextLabelFormat,
)
from lightning_neft.errors import ConfigError, DataError

__all__ = ["FORMATS", "FORMAT_CLASSES", "choose_format", "detect_format", "format_named"]

# A new format is a line here. Detection tries them in this order, the most specific first: Alpaca's data also have a
# `text`, and conversations often a `prompt`.
FORMAT_CLASSES: tuple[type[Format], ...] = (
    MessagesFormat,
    ShareGPTFormat,
    AlpacaFormat,
    PromptCompletionFormat,
    SourceTargetFormat,
    TextLabelFormat,
    GuanacoFormat,
    TextFormat,
)
# Names that `format_named` knows.
FORMATS: tuple[str, ...] = tuple(kind.name for kind in FORMAT_CLASSES)


def format_named(name: str, columns: Mapping[str, str] | None = None) -> Format:
    """Return the format of this name.

    Args:
        name: One of `FORMATS`, or the import path of a class, such as `my_module.MyFormat`.
        columns: The data's column for some of the format's own.

    Raises:
        ConfigError: If there is no such format, or it has no such column.

    Example:
        >>> format_named("alpaca", {"output": "answer"}).parse({"instruction": "Add.", "answer": "3"}, "here").answer
        '3'
    """
    kind = next((kind for kind in FORMAT_CLASSES if kind.name == name), None)
    if kind is None and all(part.isidentifier() for part in name.split(".")) and "." in name:
        kind = _imported(name)
    if kind is None:
        raise ConfigError(f"there is no data format {name!r}; {_near(name, FORMATS)}choose one of {', '.join(FORMATS)}")
    _check_keys(columns or {}, [kind])
    return kind(columns)


def detect_format(
    head: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None = None, *, source: str = "the data"
) -> Format:
    """Return the format of most of the first records.

    For each record the formats are tried in the order of `FORMATS`, and the first one whose columns it has is counted.
    Records of no format are ignored, so an empty first record decides nothing.

    Args:
        head: The first records of the data, at least one.
        columns: The data's column for some of a format's own; only formats that have all of these are tried.
        source: Name of the data in errors.

    Raises:
        DataError: If none fits, or a mapped column is in none of the records.
        ConfigError: If no format has such a column.

    Example:
        >>> detect_format([{}, {"instruction": "Add.", "context": "1 2", "response": "3", "category": "sum"}]).name
        'alpaca'
    """
    columns = columns or {}
    _check_keys(columns, FORMAT_CLASSES)
    _check_found(columns, head, source)
    candidates = [kind(columns) for kind in FORMAT_CLASSES if _has_all(kind, columns)]
    shown = Counter(next((each.name for each in candidates if each.fits(record)), None) for record in head)
    del shown[None]
    if shown:
        # The first of equally frequent formats.
        return max(candidates, key=lambda each: shown[each.name])
    known = "; ".join(f"{kind.name} ({kind().needs()})" for kind in FORMAT_CLASSES)
    raise DataError(
        f"the columns of {source} ({', '.join(_columns_of(head)) or 'none'}) match no data format; map them with "
        f"data.columns, or rename them. The formats are {known}"
    )


def choose_format(
    head: Sequence[Mapping[str, Any]],
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    source: str = "the data",
) -> Format:
    """Return the named format, or the one detected from the first records.

    Args:
        head: The first records of the data, at least one.
        name: As for `format_named`, or None to detect it.
        columns: The data's column for some of the format's own, such as `{"output": "answer"}`.
        source: Name of the data in errors.

    Raises:
        ConfigError: If there is no such format, or it has no such column.
        DataError: If a mapped column is in none of the records, or no format fits.
    """
    if name is None:
        return detect_format(head, columns, source=source)
    chosen = format_named(name, columns)
    _check_found(columns or {}, head, source)
    return chosen


def _imported(path: str) -> type[Format]:
    """Return the format class with this import path, such as `my_module.MyFormat`.

    Args:
        path: Module and class, joined by a dot. The program also imports modules of the current folder.

    Raises:
        ConfigError: If there is no such module or class, the module fails, or the class is not a complete format.
    """
    module_name, _, name = path.rpartition(".")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"data.format {path}: {module_name} needs {error.name}, which is not installed"
            ) from error
        raise ConfigError(
            f"data.format {path}: there is no module {error.name}; put {error.name.partition('.')[0]}.py into the "
            "current folder, or install it"
        ) from error
    except Exception as error:  # a module may raise anything
        reason = visible(" ".join(f"{type(error).__name__}: {error}".split()))
        raise ConfigError(f"data.format {path}: importing {module_name} fails with {reason}") from error
    if not hasattr(module, name):
        known = [each for each, value in vars(module).items() if _is_format(value)]
        hint = did_you_mean(name, known, otherwise=f"its formats are {', '.join(known) or 'none'}")
        raise ConfigError(f"data.format {path}: {module_name} has no {name}; {hint}")
    kind = getattr(module, name)
    if not _is_format(kind):
        raise ConfigError(f"data.format {path}: {name} is not a subclass of lightning_neft.data.Format; derive it")
    if lacking := sorted(kind.__abstractmethods__):
        raise ConfigError(f"data.format {path}: {name} lacks {', '.join(lacking)}(); define it")
    columns = getattr(kind, "columns", None)
    if not isinstance(columns, tuple) or not columns or not all(isinstance(column, Column) for column in columns):
        raise ConfigError(f"data.format {path}: columns of {name} must be a tuple of Column objects, with at least one")
    found: type[Format] = kind
    return found


def _is_format(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Format) and value is not Format


def _has_all(kind: type[Format], columns: Mapping[str, str]) -> bool:
    return set(columns) <= {column.name for column in kind.columns}


def _check_keys(columns: Mapping[str, str], kinds: Sequence[type[Format]]) -> None:
    """Refuse columns that no format, or not the chosen one, has, and columns that no format has together."""
    known = list(dict.fromkeys(column.name for kind in kinds for column in kind.columns))
    for key in columns:
        if key not in known:
            owner = f"the format {kinds[0].name} has" if len(kinds) == 1 else "the formats have"
            raise ConfigError(f"columns: {owner} no column {key!r}; {_near(key, known)}choose among {', '.join(known)}")
    if not any(_has_all(kind, columns) for kind in kinds):
        raise ConfigError(f"columns: no format has all of {', '.join(columns)}; name the columns of one format")


def _columns_of(head: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(name) for record in head for name in record))


def _check_found(columns: Mapping[str, str], head: Sequence[Mapping[str, Any]], source: str) -> None:
    found = _columns_of(head)
    for ours, theirs in columns.items():
        if theirs not in found:
            raise DataError(
                f"columns: {ours!r} is mapped to {theirs!r}, which is not a column of {source}; "
                f"{_near(theirs, found)}columns found: {', '.join(found) or 'none'}"
            )


def _near(name: str, names: Sequence[str]) -> str:
    hint = did_you_mean(name, names)
    return f"{hint} " if hint else ""
