"""Options of the program: the section `neftune:`, types of numbers, and checks of values before a run is built."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Literal, get_args

from jsonargparse import ArgumentParser, Namespace

from lightning_neft.common.paths import is_address
from lightning_neft.common.secrets import mask_addresses
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from lightning_neft.callback import NEFTune

__all__ = ["NoiseOptions", "check_values", "read_whole_numbers_first"]

# Minimum of options that Lightning does not check, or does not name in its error.
_LEAST = {
    "trainer.gradient_clip_val": 0,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.num_nodes": 1,
    "trainer.min_epochs": 0,
    "trainer.min_steps": 0,
    "trainer.num_sanity_val_steps": -1,
    "trainer.log_every_n_steps": 0,
    "trainer.accumulate_grad_batches": 1,
    "clean_loss": 0,
    "samples": 0,
    "seed_everything": 0,
}
_MOST_PROCESSES = max(64, 4 * (os.cpu_count() or 1))
# Above these a library overflows, or the machine runs out of memory.
_MOST = {
    "data.batch_size": 1_000_000,
    "global_batch_size": 1_000_000_000,
    "data.max_length": 1_000_000_000,
    # No layer is that wide.
    "model.lora.r": 65_536,
    # Each is a process.
    "data.num_workers": _MOST_PROCESSES,
    "trainer.devices": _MOST_PROCESSES,
}


@dataclass
class NoiseOptions:
    """The noise on the embeddings; null turns it off.

    Args:
        alpha: Strength; the paper tried 5, 10 and 15.
        distribution: Distribution of the noise.
        length: Length in the scale alpha / sqrt(length * width): the true length of each sequence, the padded length of
            the batch, or a fixed number.
        scope: Tokens that get noise; in an encoder-decoder the encoder reads the prompt, the decoder the response.
        exclude: Tokens that get no noise: special for the special and added tokens of the tokenizer, or a list of ids.
        scale: The paper's scale, or one relative to the norm of the embedded tokens: the noise-to-signal ratio is then
            alpha / sqrt(3 length) / reference_norm on any model.
        reference_norm: With the relative scale, the token norm of the model that alpha is meant for (see doctor).
        antithetic: Put each sample into its batch twice, with a noise and its negative: about twice the time
            and memory.
        target: Name of the embedding module, or several; detected if null.
        schedule: How alpha changes over the run.
        warmup: Share of the run in which alpha rises from 0.
        seed: Seed of the noise; seed_everything if null.
        required: Training batches in which noise must be applied: all (always), the first of the run, or one in each
            epoch.
    """

    alpha: float = 5.0
    distribution: Literal["uniform", "gaussian", "gaussian_unit", "rademacher"] = "uniform"
    # bool because YAML reads `length: true` as one.
    length: Literal["true", "padded"] | bool | int = "true"
    scope: Literal["all", "prompt", "response"] = "all"
    exclude: Literal["special"] | list[int] | None = None
    scale: Literal["paper", "relative"] = "paper"
    reference_norm: float = 1.0
    antithetic: bool = False
    target: str | list[str] | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = 0.0
    seed: int | None = None
    required: Literal["always", "first", "epoch"] = "always"

    def callback(self) -> NEFTune:
        """Build the callback.

        Raises:
            ConfigError: If the callback rejects a value.
        """
        from lightning_neft.callback import NEFTune

        options = asdict(self)
        if self.length is True:
            options["length"] = "true"
        return NEFTune(**options)


def read_whole_numbers_first(parser: ArgumentParser) -> None:
    """Let a parser read `1` as an `int` where an option also accepts a `float`.

    The types of a union are tried in order, and `float` accepts any number: `trainer.limit_predict_batches=1` would
    become 1.0, all batches. Lightning writes `int` first in its Trainer and `float` first in its Fabric. `typing`
    caches equal unions, so the order in the Trainer depends on what was imported before.

    Args:
        parser: A parser whose options have been added.
    """
    for action in parser._actions:
        members = [*get_args(getattr(action, "_typehint", None))]
        if int in members and float in members:
            first, second = sorted((members.index(int), members.index(float)))
            members[first], members[second] = int, float
            # `Union[...]` could return the cached one again.
            action._typehint = reduce(or_, members)  # type: ignore[attr-defined]


def check_values(config: Namespace) -> None:
    """Check values that Lightning accepts, or rejects late or without naming the option.

    Raises:
        ConfigError: If one is out of range, or a folder or name of checkpoints cannot be written.
    """
    _check_range(config)
    _check_places(config)
    _check_filename(config.checkpoint.filename)


def _check_range(config: Namespace) -> None:
    values = {key: config.get(key) for key in _LEAST}
    for key, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not value >= _LEAST[key]:
            raise ConfigError(f"{key} must be {_LEAST[key]} or more, got {value!r}")
    for key, most in _MOST.items():
        value = config.get(key)
        # A number of devices can be a text too.
        value = int(value) if isinstance(value, str) and value.isdecimal() else value
        if isinstance(value, int) and value > most:
            raise ConfigError(f"{key} must be {most} or less, got {value!r}")
    if config.get("trainer.val_check_interval") == 0:
        raise ConfigError("trainer.val_check_interval must be above 0, got 0; for no validation, limit_val_batches=0")


def _check_places(config: Namespace) -> None:
    """Reject addresses as places of a run, which locks, links and renames its files."""
    for key in ("trainer.default_root_dir", "checkpoint.dirpath", "data.cache_dir"):
        if is_address(str(config.get(key))):
            raise ConfigError(
                f"{key} {mask_addresses(config.get(key))} is an address; runs are written to folders: mount it, or "
                "give a folder and copy the run afterwards"
            )


def _check_filename(filename: str | None) -> None:
    """Check the name of checkpoints, which Lightning formats only when it writes one."""
    if filename is None:
        return
    if Path(filename).is_absolute() or ".." in Path(filename).parts:
        raise ConfigError(f"checkpoint.filename {filename!r} leads out of the folder; give that as checkpoint.dirpath")
    try:
        for _, name, form, _ in Formatter().parse(filename):
            if name is not None:
                # Steps and epochs are whole numbers, metrics are not.
                format(0 if name in ("step", "epoch") else 0.0, form or "")
    except ValueError as error:
        raise ConfigError(f"checkpoint.filename {filename!r}: {error}; such as 'best-{{step}}'") from error
