"""The verbs fit, validate, test and predict."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_neft.callbacks.signals import StoppedBySignal, ctrl_c_raises
from lightning_neft.cli.model_options import checkpoint_of
from lightning_neft.cli.outcome import print_fit
from lightning_neft.cli.process import keep_freed_memory, quiet
from lightning_neft.cli.program import Program
from lightning_neft.cli.run_folder import last_checkpoint
from lightning_neft.errors import ConfigError, NEFTError, NonFiniteError
from lightning_neft.saving.checkpoints import checkpoint_step

__all__ = ["execute", "run"]


def run(verb: str, args: Sequence[str]) -> int:
    """Run one of the verbs.

    Args:
        verb: fit, validate, test or predict.
        args: The command line after it.

    Returns:
        The exit code: 0, or that of a process which the signal ended if a fit was stopped, and saved, by one, or 1 if a
        fit was stopped because its numbers were not finite.

    Raises:
        KeyboardInterrupt: If the user stopped it outside of the training.
    """
    with quiet():
        program = Program(verb, args)
        trainer = program.trainer
        try:
            with program.run_folder.made(trainer):
                result = execute(verb, program)
        except StoppedBySignal as stopped:
            goes_on = f"; to resume: --ckpt_path {stopped.checkpoint}" if stopped.checkpoint else ""
            _say(trainer, f"stopped by {stopped.signal.name} after step {stopped.step}{goes_on}")
            return 128 + stopped.signal
        except NonFiniteError as error:
            _say(trainer, f"{error}; {last_checkpoint(trainer)}")
            return 1
    if verb == "fit":
        print_fit(trainer, program.model, program.datamodule, program.run_folder)
    if verb == "predict":
        program.run_folder.write_predictions(program.datamodule, result)
    return 0


def _say(trainer: L.Trainer, line: str) -> None:
    if trainer.is_global_zero:
        print(f"lightning_neft: {line}", file=sys.stderr)


def execute(verb: str, program: Program) -> Any:
    """Run what a verb stands for, and return what the Trainer's method of that name does.

    Raises:
        StoppedBySignal: A signal ended it.
        KeyboardInterrupt: If the user stopped it outside of the training.
        NEFTError: An error that the user can fix, also where the clean-up after it failed.
    """
    if program.trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    if verb == "predict" and program.trainer.world_size > 1:
        # Each process would answer a part of the samples, and pair it with the first ones.
        raise ConfigError(
            f"predict answers on one device, got {program.trainer.world_size} processes; give --trainer.devices=1 "
            "--trainer.num_nodes=1"
        )
    checkpoint = checkpoint_of(program, resumes=verb == "fit")
    try:
        # weights_only: a checkpoint from somewhere else must not run code.
        with ctrl_c_raises():
            result = getattr(program.trainer, verb)(
                program.model, datamodule=program.datamodule, ckpt_path=checkpoint, weights_only=True
            )
    except SIGTERMException:
        # Lightning's own stop, before the first step: there is nothing to save.
        raise StoppedBySignal(signal.SIGTERM, program.trainer.global_step, "") from None
    except RuntimeError as error:
        # Where a data loader could not begin, Lightning's clean-up asks for its length and fails over that.
        if isinstance(error.__context__, NEFTError):
            raise error.__context__ from None
        raise
    if verb != "fit":
        return result
    if checkpoint is not None and checkpoint_step(checkpoint) == program.trainer.global_step:
        limits = [(name, getattr(program.trainer, name)) for name in ("max_steps", "max_epochs")]
        told = ", ".join(f"trainer.{name}={most}" for name, most in limits if most not in (None, -1))
        _say(
            program.trainer,
            f"nothing is left to train: {checkpoint} is of step {program.trainer.global_step}, where this run ends "
            f"({told or 'trainer.max_time'}); give more steps, epochs or time",
        )
    if _wants_validation(program):
        # Nothing was trained, or an epoch's end was the last step and not on the schedule of validations.
        program.trainer.validate(program.model, datamodule=program.datamodule, verbose=False)
    return result


def _wants_validation(program: Program) -> bool:
    last = program.model.last_validation
    is_stale = last is None or last[0] != program.trainer.global_step
    has_data = program.datamodule.prepared.held_out is not None
    return is_stale and has_data and program.trainer.limit_val_batches != 0
