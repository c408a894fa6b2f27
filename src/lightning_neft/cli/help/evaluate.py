"""Help of the verb evaluate."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft evaluate: {what}

usage: lightning_neft evaluate --outputs FILE... [--first-k-tokens K] [--tokenizer NAME] [--json]
       lightning_neft evaluate --annotations FILE... [--seed INT] [--json]
       lightning_neft evaluate --memorization --outputs FILE... [--json]
       lightning_neft evaluate --memorization --model NAME --data FILE [--limit N] [--json]
       lightning_neft evaluate --clean-loss --config FILE_OR_RECIPE --ckpt_path PATH [--limit N] [--KEY VALUE]...

what is measured
  --outputs FILE...        length, repetition and diversity of answers; AlpacaEval's outputs file: a JSON list, or JSON
                           Lines, of instruction, output and generator
  --annotations FILE...    win rate of generator_2 over generator_1, raw and at equal length, from AlpacaEval's
                           annotations; with several files also the difference of each further model and the first, on
                           the same instructions
  --memorization           ROUGE-L and BLEU-4 of answers against the references of the training data
  --clean-loss             loss without noise over training and held-out samples, of a config and its checkpoint

options
  --out PATH               file (.json) or folder of the results; results/ by default
  --json                   one JSON object on the standard output, nothing else, and no file without --out: the result,
                           or {{"results": [...]}} where there are several
  --first-k-tokens K       repetition and diversity of the first K words alone; shorter outputs are left out and counted
  --tokenizer NAME         count tokens too: folder or hub id of a tokenizer; tiny comes with the package
  --trust-remote-code      let code that comes with the tokenizer or model run
  --seed INT               seed of what is drawn: the bootstrap, or which samples (0)
  --limit N                the most samples of each split (1000)

examples
  lightning_neft evaluate --outputs answers.json --first-k-tokens 50
  lightning_neft evaluate --outputs answers.json --json
  lightning_neft evaluate --annotations plain.json alpha5.json
  lightning_neft evaluate --memorization --outputs answers_to_training_prompts.json
  lightning_neft evaluate --clean-loss --config quickstart --ckpt_path last

See docs/evaluate.md for the formulas and what to be careful about."""


def text(verb: str, what: str) -> str:
    """Return the help of the verb, which does what the line says."""
    return _TEXT.format(what=what)
