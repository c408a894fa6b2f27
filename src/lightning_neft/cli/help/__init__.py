"""Help texts that need no parser, so that they come at once; nothing heavy is imported here. One file a verb."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from lightning_neft._version import __version__

__all__ = ["OF_FIT", "VERBS", "static_help"]

VERBS = {
    "fit": "fine-tune a model",
    "validate": "loss and perplexity on held-out data",
    "test": "the same, logged as test/loss and test/perplexity",
    "predict": "answers to the held-out samples, into predictions.jsonl",
    "preview": "what the model would be trained on: samples, lengths, padding; no weight is loaded",
    "doctor": "where the noise would land on a model and how strong it would be; no training",
    "recipes": "the recipes that come with the package: list, show, copy",
    "generate": "answers to a prompt, a file of prompts, or in a chat",
    "export": "a fine-tuned model as a plain folder for from_pretrained, or to the hub",
    "study": "the same recipe with several alphas and seeds, in pairs, then a report",
    "evaluate": "text statistics, memorisation, losses without noise, win rates, benchmarks",
    "report": "one HTML page from the results of evaluate and study",
}

# Those of LightningCLI, which share their options and their help.
OF_FIT = ("fit", "validate", "test", "predict")

_PROGRAM = """\
lightning_neft: noisy-embedding fine-tuning (NEFTune) for PyTorch Lightning

usage: lightning_neft VERB [--config FILE_OR_RECIPE]... [--KEY VALUE]...

verbs
{verbs}

  lightning_neft VERB --help       the common options
  lightning_neft VERB --help-all   all other options
  lightning_neft --version

try it, about a minute on a CPU, no network needed:
  lightning_neft fit --config quickstart"""


def static_help(args: Sequence[str]) -> str | None:
    """Return the text that a command line asks for, or None if it asks for something else.

    Args:
        args: The command line after the program's name.
    """
    if not args or args[0] in ("-h", "--help", "help"):
        return _PROGRAM.format(verbs="\n".join(f"  {verb:<10}{what}" for verb, what in VERBS.items()))
    if args[0] == "--version":
        return f"lightning_neft {__version__}"
    verb = args[0]
    if verb in VERBS and any(argument in ("-h", "--help") for argument in args[1:]):
        module = import_module(f"{__name__}.{'fit' if verb in OF_FIT else verb}")
        text: str = module.text(verb, VERBS[verb])
        return text
    return None
