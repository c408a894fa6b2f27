"""Public names of a package that are imported at first use, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["lazy_names"]


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package.

    Args:
        package: Its `__name__`.
        homes: Each public name, and the module that defines it, relative to the package.

    Example:
        >>> get, names = lazy_names("lightning_neft.common", {"nearest": "near_names"})
        >>> get("nearest")("alpaka", ["alpaca"]), names()
        ('alpaca', ['nearest'])
    """

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get, lambda: sorted(homes)
