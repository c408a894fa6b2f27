"""A data format of the user, found by its import path."""

from __future__ import annotations

import inspect
from importlib import import_module

from lightning_neft.common.escaping import visible
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.data.formats.format import Column, Format
from lightning_neft.errors import ConfigError

__all__ = ["imported_format"]


def imported_format(path: str) -> type[Format]:
    """Return the format class with this import path, such as `my_module.MyFormat`.

    Args:
        path: Module and class, joined by a dot. The program also finds modules in the current folder.

    Raises:
        ConfigError: If there is no such module or class, the module fails, or the class is not a complete format.

    Example:
        >>> imported_format("lightning_neft.data.formats.text.TextFormat").name
        'text'
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
