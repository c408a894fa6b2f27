"""The verb evaluate: whether the noise helped. One file a kind of evaluation; `command.py` chooses."""

from lightning_neft.cli.evaluate.command import run

__all__ = ["run"]
