"""Help of the verb doctor."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft doctor: {what}

usage: lightning_neft doctor --config FILE_OR_RECIPE [--KEY VALUE]... [--random-init] [--json]
       lightning_neft doctor --model FOLDER_OR_HUB_ID [--alpha FLOAT] [--random-init] [--trust-remote-code] [--json]

  --config FILE            a config as for fit, with the same options: the noise, the model and the first training
                           batch are the config's
  --model NAME             a model alone: folder, hub id, or a config.json; the batch is of toy instructions
  --alpha FLOAT            strength, with --model (5)
  --random-init            do not read the weights: the model's own random ones, from its config alone
  --trust-remote-code      let code that comes with the model run, with --model
  --json                   one JSON object on the standard output, nothing else

Of a model above 300 million parameters only what stands in front of its first block is read, and of the embedding only
the rows of the batch's tokens.

exit code: 0 the noise would land, 1 it would not, 2 something to put right first

examples
  lightning_neft doctor --config quickstart
  lightning_neft doctor --config quickstart --neftune.alpha 10 --trainer.precision bf16-true
  lightning_neft doctor --model tiny --alpha 10
  lightning_neft doctor --model ./my-model --random-init --json

  lightning_neft doctor --help-all        all options with --config"""


def text(verb: str, what: str) -> str:
    """Return the help of the verb, which does what the line says."""
    return _TEXT.format(what=what)
