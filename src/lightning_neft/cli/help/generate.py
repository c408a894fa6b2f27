"""Help of the verb generate."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft generate: {what}

usage: lightning_neft generate --model FOLDER_OR_HUB_ID [options]
       lightning_neft generate --config FILE_OR_RECIPE [--ckpt_path last|PATH] [--KEY VALUE]... [options]

  --model NAME             a model folder, a folder of adapters (their base is loaded too), or a hub id
  --config FILE            a config as for fit, with the same options; without --ckpt_path its base, not trained
  --ckpt_path PATH         checkpoint: last, or a path
  --tiny                   what fit --tiny has trained

  --prompt TEXT            one prompt; the answer goes to the standard output
  --input FILE             prompts: a JSON list or JSON lines with instruction (and input), prompt or messages, or any
                           data that fit reads
  --output FILE            answers to --input in AlpacaEval's form: instruction, output, generator, dataset
                           without any of these: a chat

  --template NAME          words the prompts: alpaca, vicuna, guanaco, chatml, plain, or tokenizer; by default as the
                           model was trained, else the chat template of its tokenizer
  --max_new_tokens INT     most tokens of an answer; by default as many as make 2048 with the prompt
  --batch_size INT         prompts at a time (8); answers do not depend on it
  --device NAME            such as cpu or cuda:1; a GPU by default if there is one
  --dtype NAME             of the weights: auto, float32, bfloat16, float16
  --trust-remote-code      let code that comes with the model run
  --overwrite              replace --output, and what is left of an interrupted one

Decoding is always greedy with repetition penalty 1.2, as in the paper. A file that was interrupted goes on with the
same command: its answers are in OUTPUT.partial.jsonl until all are there.

examples
  lightning_neft generate --model runs/quickstart/version_0/model
  lightning_neft generate --config quickstart --ckpt_path last --prompt "What is the plural of mouse?"
  lightning_neft generate --model ./my-model --input prompts.json --output answers.json"""


def text(verb: str, what: str) -> str:
    """Return the help of the verb, which does what the line says."""
    return _TEXT.format(what=what)
