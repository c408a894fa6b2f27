"""Help of the verb preview."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft preview: {what}

usage: lightning_neft preview --config FILE_OR_RECIPE [--KEY VALUE]... [--json]

Shows the first training samples as the model will read them, with what is trained in colour (or between >>> and <<<);
how long the samples are, how many were cut or left out; and how much padding each way of batching would make.

  --samples INT            how many samples to show (3)
  --json                   one JSON object on the standard output, nothing else

All options of data, model and task are those of fit; what matters is in data.*, task and model.base.

examples
  lightning_neft preview --config quickstart
  lightning_neft preview --data.source my_data.json --data.template chatml --samples 1
  lightning_neft preview --config quickstart --json

  lightning_neft preview --help-all        all options"""


def text(verb: str, what: str) -> str:
    """Return the help of the verb, which does what the line says."""
    return _TEXT.format(what=what)
