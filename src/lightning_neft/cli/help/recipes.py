"""Help of the verb recipes."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft recipes: {what}

usage: lightning_neft recipes list [--model NAME] [--dataset NAME] [--method NAME] [--status NAME] [--json]
       lightning_neft recipes show NAME [--json]
       lightning_neft recipes copy NAME [DEST]

list: all recipes, with the strength of the noise, where that comes from, and how far the recipe was run
  --model NAME             only of this base model, whole or in part, such as llama; * and ? stand for any letters
  --dataset NAME           only on this dataset, such as alpaca or 'alpaca*'
  --method NAME            only full, lora, dora or qlora
  --status NAME            only executed (as it stands), or smoke (a tiny random model of the same architecture)
  --json                   a list of objects on the standard output, nothing else

show: the card of a recipe, what it would take by estimate, and all its options with the defaults
  --json                   one JSON object on the standard output, nothing else

copy: the file of a recipe, to be edited; what is there is never replaced
  DEST                     a file or a folder; by default NAME with - for /, in the current folder

examples
  lightning_neft recipes list --model 'llama-2-*' --method qlora
  lightning_neft recipes show llama-2-7b/alpaca
  lightning_neft recipes copy quickstart mine.yaml
  lightning_neft fit --config mine.yaml"""


def text(verb: str, what: str) -> str:
    """Return the help of the verb, which does what the line says."""
    return _TEXT.format(what=what)
