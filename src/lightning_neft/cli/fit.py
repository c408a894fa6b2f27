"""The verbs fit, validate, test and predict."""

from __future__ import annotations

import signal
import zipfile
from collections.abc import Sequence
from pathlib import Path

from lightning_neft.cli.program import Program, newest_checkpoint
from lightning_neft.cli.quiet import quiet
from lightning_neft.cli.summary import print_fit, write_predictions
from lightning_neft.errors import ConfigError

__all__ = ["run"]


def run(verb: str, args: Sequence[str]) -> None:
    """Run one of the verbs.

    Args:
        verb: fit, validate, test or predict.
        args: The command line after it.

    Raises:
        KeyboardInterrupt: If the user stopped it.
    """
    with quiet():
        program = Program(verb, args)
        checkpoint = _checkpoint(program)
        function = getattr(program.trainer, verb)
        try:
            # weights_only: a checkpoint from somewhere else must not run code.
            result = function(program.model, datamodule=program.datamodule, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as error:
            # Lightning turns Ctrl-C into exit code 1, after it has closed what was open, and ignores further ones.
            if isinstance(error.__context__, KeyboardInterrupt):
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise KeyboardInterrupt from None
            raise
        if verb == "fit" and _wants_validation(program):
            # The run stopped between two validations, at max_steps or max_time.
            program.trainer.validate(program.model, datamodule=program.datamodule, verbose=False)
    if verb == "fit":
        print_fit(program.trainer, program.model, program.datamodule)
    if verb == "predict":
        write_predictions(program.trainer, program.datamodule, result)


def _wants_validation(program: Program) -> bool:
    last = program.model.last_validation
    is_stale = last is None or last[0] != program.trainer.global_step
    return is_stale and program.trainer.limit_val_batches != 0


def _checkpoint(program: Program) -> Path | None:
    given = program.config.ckpt_path
    if given is None:
        return None
    if given == "last":
        return newest_checkpoint(Path(program.trainer.default_root_dir), program.config.name)
    path = Path(given).expanduser()
    if not path.exists():
        raise ConfigError(f"--ckpt_path {given}: no such file (looked in {Path.cwd()}); give a path, or last")
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ConfigError(f"--ckpt_path {given} is not a checkpoint, or only a part of one")
    return path
