"""Help of the verb export."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft export: {what}

usage: lightning_neft export --model FOLDER --output FOLDER [options]
       lightning_neft export --config FILE_OR_RECIPE --ckpt_path last|PATH [--KEY VALUE]... --output FOLDER [options]

  --model FOLDER           a folder of adapters, a model folder, or the folder of a run
  --config FILE            a config as for fit, with the same options
  --ckpt_path PATH         checkpoint: last, or a path; also the folder of one that FSDP2 wrote in parts
  --tiny                   what fit --tiny has trained

  --output FOLDER          where to; adapters are merged into their base
  --push OWNER/NAME        upload to the hub, with the token of HF_TOKEN or of hf auth login
  --private                make that repository a private one
  --dtype NAME             of the written weights: float32, bfloat16, float16; as in training by default
  --template NAME          the template of the training, where the model does not say it
  --trust-remote-code      let code that comes with the base run
  --overwrite              replace a folder that lightning_neft wrote; one with other files is never replaced

The folder has the weights in safetensors, the tokenizer with the template of the training as its chat template (where
that gives the very tokens of the training), the decoding, a model card, and lightning_neft.json. It needs neither
lightning_neft nor peft.

examples
  lightning_neft export --model runs/quickstart/version_0 --output my-model
  lightning_neft export --config quickstart --ckpt_path last --output my-model --push me/my-model"""


def text(verb: str, what: str) -> str:
    """Return the help of the verb, which does what the line says."""
    return _TEXT.format(what=what)
