"""`VerbParser`: the options of a verb besides the keys of a config, with errors of one line."""

from __future__ import annotations

from argparse import ArgumentError, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from typing_extensions import override

from lightning_neft.common.near_names import did_you_mean, nearest
from lightning_neft.common.paths import is_address, user_path
from lightning_neft.errors import ConfigError

__all__ = ["VerbParser"]


class VerbParser(ArgumentParser):
    """Parses the options of a verb, without abbreviations; `--help` is handled before, see `cli/help`.

    In values of the type `Path`, `~` is expanded; see `user_path`.

    Args:
        verb: The verb with its sub-verb, if any, for messages.
        options: Options of `ArgumentParser`.

    Example:
        >>> parser = VerbParser("doctor")
        >>> _ = parser.add_argument("--alpha", type=float, default=5.0)
        >>> parser.parse(["--alpha", "10"]).alpha
        10.0
    """

    def __init__(self, verb: str, **options: Any) -> None:
        super().__init__(
            prog=f"lightning_neft {verb}", allow_abbrev=False, add_help=False, exit_on_error=False, **options
        )
        self.verb = verb
        self.register("type", Path, _path)

    def parse(self, args: Sequence[str]) -> Namespace:
        """Return the options of a command line.

        Args:
            args: The command line after the verb.

        Raises:
            ConfigError: If an option is unknown or missing, or its value is not allowed.
        """
        options, unknown = self.parse_known(args)
        if unknown:
            raise ConfigError(f"{self.verb}: {self._unknown(unknown[0])}")
        return options

    def parse_known(self, args: Sequence[str]) -> tuple[Namespace, list[str]]:
        """Return the options of a command line, and the rest of it for another parser.

        Args:
            args: The command line after the verb.

        Raises:
            ConfigError: If a value is not allowed, or an option is a misspelt one of the verb.
        """
        try:
            options, rest = self.parse_known_args(list(args))
        except ArgumentError as error:
            raise ConfigError(f"{self.verb}: {error}") from error
        for argument in rest:
            name = argument.partition("=")[0]
            # Keys of the program without a dot differ more than that.
            if argument.startswith("--") and "." not in name and nearest(name, self._known, cutoff=0.8):
                raise ConfigError(f"{self.verb}: {self._unknown(argument)}")
        return options, rest

    def paths(self, options: Namespace) -> dict[str, list[Path]]:
        """Return the paths of a command line, by option: the values of all options of the type `Path`."""
        given = {action: getattr(options, action.dest) for action in self._actions if action.type is Path}
        return {
            "/".join(action.option_strings) or action.dest: value if isinstance(value, list) else [value]
            for action, value in given.items()
            if value is not None
        }

    @property
    def _known(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]

    @override
    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print before it exits."""
        raise ConfigError(f"{self.verb}: {message}")

    def _unknown(self, argument: str) -> str:
        known = self._known
        listed = f"options are {', '.join(known)}" if known else "it takes none"
        if not argument.startswith("-"):
            return f"unexpected argument {argument!r}; {listed}"
        name = argument.partition("=")[0]
        return f"unknown option {name}; {did_you_mean(name, known, listed)}"


def _path(text: str) -> Path:
    if is_address(text):
        raise ArgumentTypeError(f"{text} is an address; give a path")
    try:
        return user_path(text)
    except ConfigError as error:
        # argparse shows the text of this class only.
        raise ArgumentTypeError(str(error)) from error
