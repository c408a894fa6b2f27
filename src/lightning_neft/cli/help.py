"""Help texts that need no parser, so that they come at once; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft._version import __version__

__all__ = ["VERBS", "static_help"]

VERBS = {
    "fit": "fine-tune a model",
    "validate": "loss and perplexity on held-out data",
    "test": "the same, logged as test/loss and test/perplexity",
    "predict": "answers to the held-out instructions, into predictions.jsonl",
}

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

_VERB = """\
lightning_neft {verb}: {what}

usage: lightning_neft {verb} [--config FILE_OR_RECIPE]... [--KEY VALUE]...

  --config FILE            YAML file, or the name of a recipe; with several, later ones win
  --name NAME              run folder: runs/NAME/version_N; the name of the last config by default
  --ckpt_path PATH         {ckpt_path}
  --seed_everything INT    seed of all randomness (0)
  --print_config           print the whole config and exit

noise (--neftune null turns it off)
  --neftune.alpha FLOAT    strength (5); the paper tried 5, 10 and 15
  --neftune.distribution   uniform, gaussian, gaussian_unit or rademacher
  --neftune.length         true: real length of each sequence, as in the paper; padded: as in transformers; or a number
  --neftune.scope          all, prompt or response
  --neftune.schedule       constant, linear or cosine
  --neftune.warmup FLOAT   share of the run in which alpha rises (0)
  --neftune.target NAME    embedding module, where it is not found by itself

model
  --model.base NAME        folder or hub id; tiny comes with the package
  --model.learning_rate    highest learning rate (5e-5)
  --model.lora.r INT       train LoRA adapters of this rank instead of all weights

data
  --data.source PATH       JSON or JSON Lines in Alpaca's form; toy comes with the package
  --data.batch_size INT    samples per device and step (16)
  --data.max_length INT    tokens per sample (512)
  --data.val_size NUMBER   samples to hold out: a count, or a share of the file (0.05)

training
  --trainer.max_epochs INT
  --trainer.max_steps INT
  --trainer.accumulate_grad_batches INT
  --trainer.precision      such as bf16-mixed
  --trainer.devices INT
  --trainer.val_check_interval NUMBER   validate and save this often: steps, or share of an epoch

examples
{examples}

  lightning_neft {verb} --help-all        all other options
  lightning_neft {verb} --neftune.help    all options of the noise; --model.lora.help those of LoRA"""

_EXAMPLES = {
    "fit": """\
  lightning_neft fit --config quickstart
  lightning_neft fit --config quickstart --neftune.alpha=10 --name alpha10
  lightning_neft fit --config quickstart --neftune null --name plain
  lightning_neft fit --config quickstart --data.source my_data.json
  lightning_neft fit --config quickstart --ckpt_path last""",
    "validate": "  lightning_neft validate --config quickstart --ckpt_path last",
    "test": "  lightning_neft test --config quickstart --ckpt_path last",
    "predict": "  lightning_neft predict --config quickstart --ckpt_path last",
}


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
        goes_on = "go on from a checkpoint: last, or a path" if verb == "fit" else "checkpoint to use: last, or a path"
        return _VERB.format(verb=verb, what=VERBS[verb], ckpt_path=goes_on, examples=_EXAMPLES[verb])
    return None
