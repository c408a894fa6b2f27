"""Help of the verbs of LightningCLI: fit, validate, test and predict."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft {verb}: {what}

usage: lightning_neft {verb} [--config FILE_OR_RECIPE]... [--KEY VALUE]...

  --config FILE            YAML file, or the name of a recipe; with several, later ones win
  --name NAME              run folder: runs/NAME/version_N; the name of the last config by default
  --ckpt_path PATH         {ckpt_path}
  --task TASK              causal_lm, seq2seq_lm or sequence_classification
  --seed_everything INT    seed of all randomness (0)
  --tiny                   smoke run: the same architecture, tiny and random, two steps on a few toy samples of the
                           same format, on a CPU and without a network; run folder NAME-tiny
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
  --global_batch_size INT  rows of an optimiser step over all devices; sets trainer.accumulate_grad_batches
  --trainer.accumulate_grad_batches INT
  --trainer.precision      such as bf16-mixed
  --trainer.devices INT
  --trainer.val_check_interval NUMBER   validate and save this often: steps, or share of an epoch
  --samples INT            answers to held-out prompts at each validation (3); 0: at the end alone
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
  lightning_neft fit --config quickstart --ckpt_path last
  lightning_neft fit --config llama-2-7b/alpaca --tiny""",
    "validate": "  lightning_neft validate --config quickstart --ckpt_path last",
    "test": "  lightning_neft test --config quickstart --ckpt_path last",
    "predict": "  lightning_neft predict --config quickstart --ckpt_path last",
}


def text(verb: str, what: str) -> str:
    """Return the help of one of these verbs.

    Args:
        verb: fit, validate, test or predict.
        what: What it does, in a line.
    """
    goes_on = "go on from a checkpoint: last, or a path" if verb == "fit" else "checkpoint to use: last, or a path"
    return _TEXT.format(verb=verb, what=what, ckpt_path=goes_on, examples=_EXAMPLES[verb])
