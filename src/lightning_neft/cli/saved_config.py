"""`SaveConfig`: the config of a run in its folder, without secrets, and the check of a config that comes from there."""

from __future__ import annotations

from argparse import Namespace as PlainNamespace
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from typing_extensions import override

from lightning_neft.cli.run_folder import RunFolder
from lightning_neft.common.secrets import MASK, is_masked, is_secret, mask_addresses
from lightning_neft.errors import ConfigError

__all__ = ["SaveConfig", "check_not_masked"]

# Sections whose keys are those of classes of others: a logger has the key of its server.
_OF_CLASSES = "trainer"


class SaveConfig(SaveConfigCallback):
    """Writes the config into the folder of a run, unless none was made for it.

    Args:
        parser: The parser of the program.
        config: What was parsed.
        run_folder: The folder of the run.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, run_folder: RunFolder) -> None:
        super().__init__(parser, _masked(config.clone(), "", False), save_to_log_dir=False)
        self._run_folder = run_folder

    @override
    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not self._run_folder.is_made:
            return
        # An `auto` is kept as what was decided.
        self.config.model.gradient_checkpointing = getattr(pl_module, "gradient_checkpointing", False)
        path = self._run_folder.path / self.config_filename
        # A secret can have a name that nobody knows for one.
        path.touch(mode=0o600)
        self.parser.save(self.config, path, skip_none=False, multifile=False, overwrite=True)


def check_not_masked(config: Namespace, without: Collection[str] = ()) -> None:
    """Refuse a config of which secrets were masked when it was saved.

    Args:
        config: What was parsed.
        without: Keys that are not used, such as that of the loggers where none is made.

    Raises:
        ConfigError: If a value is masked; the message has all of them.
    """
    found = [key for key, value in _values(config, "") if is_masked(value) and not key.startswith(tuple(without))]
    if found:
        raise ConfigError(
            f"{', '.join(found)}: the secret was masked when the config was saved; give it again, or omit the option "
            "and set the environment variable that its class reads"
        )


def _masked(value: Any, name: str, is_of_class: bool) -> Any:
    if is_of_class and is_secret(name, value):
        return MASK
    if isinstance(value, (PlainNamespace, Mapping)):
        inner: dict[str, Any] = vars(value) if isinstance(value, PlainNamespace) else dict(value)
        for key in inner:
            inner[key] = _masked(inner[key], str(key), is_of_class or key == _OF_CLASSES)
        return value if isinstance(value, PlainNamespace) else inner
    if isinstance(value, (list, tuple)):
        return [_masked(inner, "", is_of_class) for inner in value]
    return mask_addresses(value) if isinstance(value, str) else value


def _values(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield each plain value with its dotted key; those of a class are below its `init_args`."""
    if isinstance(value, (PlainNamespace, Mapping)):
        inner = vars(value) if isinstance(value, PlainNamespace) else value
        for name in inner:
            yield from _values(inner[name], f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _values(one, key)
    else:
        yield key, value
