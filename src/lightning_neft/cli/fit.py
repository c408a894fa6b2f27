"""The verbs fit, validate, test and predict."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_neft.cli.checkpoint_option import checkpoint_of
from lightning_neft.cli.kept_memory import keep_freed_memory
from lightning_neft.cli.program import Program
from lightning_neft.cli.quiet import quiet
from lightning_neft.cli.run_block import print_next
from lightning_neft.cli.run_folder import own_folder
from lightning_neft.cli.stop_signals import StoppedBySignal, ctrl_c_raises
from lightning_neft.cli.summary import print_fit, write_predictions
from lightning_neft.errors import NEFTError

__all__ = ["execute", "run"]


def run(verb: str, args: Sequence[str]) -> int:
    """Run one of the verbs.

    Args:
        verb: fit, validate, test or predict.
        args: The command line after it.

    Returns:
        The exit code: 0, or that of a process which the signal ended if a fit was stopped, and saved, by one.

    Raises:
        KeyboardInterrupt: If the user stopped it outside of the training.
    """
    with quiet():
        program = Program(verb, args)
        try:
            with own_folder(program.trainer):
                result = execute(verb, program)
        except StoppedBySignal as stopped:
            if program.trainer.is_global_zero:
                goes_on = f"; to go on: --ckpt_path {stopped.checkpoint}" if stopped.checkpoint else ""
                print(
                    f"lightning_neft: stopped by {stopped.signal.name} after step {stopped.step}{goes_on}",
                    file=sys.stderr,
                )
            return 128 + stopped.signal
    if verb == "fit":
        print_fit(program.trainer, program.model, program.datamodule)
        print_next(program.trainer, program.model, program.datamodule)
    if verb == "predict":
        write_predictions(program.trainer, program.datamodule, result)
    return 0


def execute(verb: str, program: Program) -> Any:
    """Run what a verb stands for, and return what the Trainer's method of that name does.

    Raises:
        StoppedBySignal: A signal ended it.
        KeyboardInterrupt: If the user stopped it outside of the training.
        NEFTError: What the user can put right, also where the clean-up after it failed.
    """
    if program.trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    try:
        # weights_only: a checkpoint from somewhere else must not run code.
        with ctrl_c_raises():
            result = getattr(program.trainer, verb)(
                program.model, datamodule=program.datamodule, ckpt_path=checkpoint_of(program), weights_only=True
            )
    except SIGTERMException:
        # Lightning's own stop, before the first step: there is nothing to save.
        raise StoppedBySignal(signal.SIGTERM, program.trainer.global_step, "") from None
    except RuntimeError as error:
        # Where a data loader could not begin, Lightning's clean-up asks for its length and fails over that.
        if isinstance(error.__context__, NEFTError):
            raise error.__context__ from None
        raise
    if verb == "fit" and _wants_validation(program):
        # The run stopped between two validations, at max_steps or max_time.
        program.trainer.validate(program.model, datamodule=program.datamodule, verbose=False)
    return result


def _wants_validation(program: Program) -> bool:
    last = program.model.last_validation
    is_stale = last is None or last[0] != program.trainer.global_step
    has_data = program.datamodule.prepared.held_out is not None
    return is_stale and has_data and program.trainer.limit_val_batches != 0
