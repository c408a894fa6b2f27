"""Help texts that need no parser, so that they come at once; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft._version import __version__

__all__ = ["VERBS", "static_help"]

VERBS = {
    "fit": "fine-tune a model",
    "validate": "loss and perplexity on held-out data",
    "test": "the same, logged as test/loss and test/perplexity",
    "predict": "answers to the held-out samples, into predictions.jsonl",
    "preview": "what the model would be trained on: samples, lengths, padding; no weight is loaded",
    "doctor": "where the noise would land on a model and how strong it would be; no training",
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
  --task TASK              causal_lm, seq2seq_lm or sequence_classification
  --seed_everything INT    seed of all randomness (0)
  --print_config           print the whole config and exit

noise (--neftune null turns it off)
  --neftune.alpha FLOAT    strength (5); the paper tried 5, 10 and 15
  --neftune.distribution   uniform, gaussian, gaussian_unit or rademacher
  --neftune.length         true: real length of each sequence, as in the paper; padded: as in transformers; or a number
  --neftune.scope          all, prompt or response
  --neftune.scale          paper, or relative: the same noise-to-signal on any model
  --neftune.schedule       constant, linear or cosine
  --neftune.warmup FLOAT   share of the run in which alpha rises (0)
  --neftune.target NAME    embedding module, where it is not found by itself

model
  --model.base NAME        folder or hub id; tiny comes with the package
  --model.learning_rate    highest learning rate (5e-5)
  --model.lora.r INT       train LoRA adapters of this rank instead of all weights
  --model.freeze LIST      parameters that are not trained, by name or regular expression
  --model.gradient_checkpointing BOOL   less memory, slower steps

data
  --data.source PATH       JSON, JSON Lines, CSV, Parquet, a pattern, a saved dataset, a catalogue name or a hub id;
                           toy comes with the package
  --data.format NAME       alpaca, sharegpt, messages, prompt_completion, guanaco, text, text_label or source_target;
                           found by the columns by default
  --data.template NAME     alpaca, vicuna, guanaco, chatml, plain, or tokenizer for its own chat template
  --data.batching NAME     length_grouped, random, packed or flat
  --data.batch_size INT    rows per device and step (16)
  --data.max_length INT    tokens per sample (512)
  --data.val_size NUMBER   samples to hold out: a count, a share of the data (0.05), or 0

training
  --trainer.max_epochs INT
  --trainer.max_steps INT
  --trainer.accumulate_grad_batches INT
  --trainer.precision      such as bf16-mixed
  --trainer.devices INT
  --trainer.val_check_interval NUMBER   validate and save this often: steps, or share of an epoch
  --samples INT            answers to held-out prompts at each validation (3)
  --clean_loss INT         measure the loss without noise every so many steps (50)

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

_DOCTOR = """\
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

_PREVIEW = """\
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

# Verbs with a text of their own.
_TEXTS = {"doctor": _DOCTOR, "preview": _PREVIEW}


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
        if verb in _TEXTS:
            return _TEXTS[verb].format(what=VERBS[verb])
        goes_on = "go on from a checkpoint: last, or a path" if verb == "fit" else "checkpoint to use: last, or a path"
        return _VERB.format(verb=verb, what=VERBS[verb], ckpt_path=goes_on, examples=_EXAMPLES[verb])
    return None
