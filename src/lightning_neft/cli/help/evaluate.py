"""Help of the verb evaluate."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft evaluate: {what}

usage: lightning_neft evaluate --outputs FILE... [--first-k-tokens K] [--tokenizer NAME] [--json]
       lightning_neft evaluate --annotations FILE... [--seed INT] [--json]
       lightning_neft evaluate --memorization --outputs FILE... [--json]
       lightning_neft evaluate --memorization --config FILE_OR_RECIPE [--ckpt_path PATH | --model FOLDER] [--json]
       lightning_neft evaluate --clean-loss --config FILE_OR_RECIPE --ckpt_path PATH [--limit N] [--KEY VALUE]...
       lightning_neft evaluate --outputs FILE... --baseline FILE --judge NAME [--final-judge NAME] [--judge-url URL]
       lightning_neft evaluate --ablation --prompts FILE --model NAME [--min-new-tokens N]
       lightning_neft evaluate --tasks TASK... --model NAME [--limit N]

what is measured
  --outputs FILE...        length, repetition and diversity of answers; AlpacaEval's outputs file: a JSON list, or JSON
                           Lines, of instruction, output and generator
  --annotations FILE...    win rate of generator_2 over generator_1, raw and at equal length, from AlpacaEval's
                           annotations; with several files also the difference of each further model and the first, on
                           the same instructions
  --memorization           ROUGE-L and BLEU-4 of answers against the references of the training data: of an outputs
                           file, or of a model (a checkpoint of the config, or a folder) to prompts of the config's data
  --clean-loss             loss without noise over training and held-out samples, of a config and its checkpoint
  --judge NAME             win rate of outputs over those of --baseline, each pair judged in both orders by a model at
                           an OpenAI-compatible server, or by local:FOLDER_OR_HUB_ID; verdicts are kept and paid once
  --ablation               lengths of a model's answers by prompts that ask for more, and with the end blocked
  --tasks TASK...          benchmarks of lm-evaluation-harness: names, YAML files, or open-llm (ARC, HellaSwag, MMLU,
                           TruthfulQA)

options
  --out PATH               file (.json) or folder of the results; results/ by default
  --overwrite              replace the file of --out also where it is not a result of the same files and settings; an
                           input is never replaced
  --json                   one JSON object on the standard output, nothing else, and no file without --out: the result,
                           or {{"results": [...]}} where there are several
  --first-k-tokens K       repetition and diversity of the first K words alone; shorter outputs are left out and counted
  --tokenizer NAME         count tokens too: folder or hub id of a tokenizer; tiny comes with the package
  --trust-remote-code      let code run that comes with the tokenizer or model, or that a YAML file of --tasks names:
                           such a file needs it
  --seed INT               seed of what is drawn: the bootstrap, or which samples (0)
  --limit N                the most samples of each split (1000), training prompts (200), prompts of --ablation, or
                           documents of a task (all)

options of the judge
  --final-judge NAME       a second, better one, for the best of several outputs files alone
  --judge-url URL          the server, with /v1; https://api.openai.com/v1 by default
  --judge-key-env VAR      environment variable with the key; OPENAI_API_KEY by default
  --verdicts FILE          where verdicts are kept; verdicts.sqlite in the folder of the results by default
  --workers N              requests at a time (4)
  --requests-per-minute N  no more than these
  --timeout SECONDS        of a request (60)
  --attempts N             of a request that the server fails to answer (8)
  --price-input, --price-output, --final-price-input, --final-price-output
                           money for a million tokens, to have the cost shown before and after

options of --ablation and --tasks (--memorization has the last two)
  --model, --template, --device, --dtype, or --config and --ckpt_path: as for generate
  --min-new-tokens N       tokens for which the end of an answer is blocked (250)
  --max-new-tokens N       the most tokens of an answer (2048 with the prompt; --memorization: 256)
  --batch-size N           prompts or requests at a time (8)

examples
  lightning_neft evaluate --outputs answers.json --first-k-tokens 50
  lightning_neft evaluate --outputs answers.json --json
  lightning_neft evaluate --annotations plain.json alpha5.json
  lightning_neft evaluate --memorization --outputs answers_to_training_prompts.json
  lightning_neft evaluate --clean-loss --config quickstart --ckpt_path last
  lightning_neft evaluate --outputs alpha0.json alpha5.json --baseline davinci.json --judge SMALL --final-judge LARGE
  lightning_neft evaluate --outputs answers.json --baseline plain.json --judge NAME --judge-url http://localhost:8000/v1
  lightning_neft evaluate --ablation --model tiny --template alpaca --prompts prompts.json
  lightning_neft evaluate --tasks my_task.yaml --trust-remote-code --model tiny

See docs/evaluate.md for the formulas and what to be careful about, docs/judging.md for the judge."""


def text(verb: str, what: str) -> str:
    """Return the help of the verb, which does what the line says."""
    return _TEXT.format(what=what)
