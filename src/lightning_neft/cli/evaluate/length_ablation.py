"""`evaluate --ablation`: how long a model's answers get by prompts that ask for more, and by an end that is blocked."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.evaluate.files import check_not_read, is_of_others, numbered_files, results_folder
from lightning_neft.cli.model_options import add_model_options, answerer_of
from lightning_neft.common.files import write_text
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from lightning_neft.cli.prompt_file import Prompt
    from lightning_neft.evaluation.length_ablation import Variant
    from lightning_neft.generation.answering import Answerer

__all__ = ["add_options", "run", "show", "takes_config"]

takes_config = True


def add_options(parser: VerbParser) -> None:
    """Add the options of this kind."""
    parser.add_argument("--ablation", action="store_true", required=True)
    parser.add_argument("--prompts", required=True, metavar="FILE")
    add_model_options(parser)
    parser.add_argument("--min-new-tokens", type=int, metavar="N")
    parser.add_argument("--max-new-tokens", type=int, metavar="N")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--limit", type=int, metavar="N")


def run(options: Namespace) -> list[dict[str, Any]]:
    """Return the result, and write the answers of each variant into an outputs file.

    Raises:
        ConfigError: An option is wrong or missing.
        DataError: The prompts cannot be read, or one leaves no room for an answer.
        ModelError: The model cannot be loaded, or writes no text.
    """
    from lightning_neft.cli.prompt_file import read_prompts
    from lightning_neft.cli.quiet import quiet
    from lightning_neft.data.sources.source import local_files
    from lightning_neft.evaluation.length_ablation import MIN_NEW_TOKENS, variants
    from lightning_neft.evaluation.result import InputFile, make_result, provenance

    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit must be 1 or more, got {options.limit}")
    chosen = variants(MIN_NEW_TOKENS if options.min_new_tokens is None else options.min_new_tokens)
    most = options.max_new_tokens
    if most is not None and most < chosen[-1].min_new_tokens:
        raise ConfigError(
            f"--max-new-tokens {most} is less than the {chosen[-1].min_new_tokens} tokens for which the end is "
            "blocked; raise it, or give --min-new-tokens"
        )
    check_not_read(options, local_files(options.prompts))
    prompts = read_prompts(options.prompts)[: options.limit]
    with quiet():
        answerer = answerer_of("evaluate", options, options.rest)
        found = [_variant(variant, answerer, prompts, options) for variant in chosen]
    path = user_path(options.prompts, "--prompts")
    inputs = [InputFile.read("prompts", path, len(prompts))] if path.is_file() else []
    settings = {**answerer.settings, "max_new_tokens": most, "prompts": path.name, "limit": options.limit}
    return [make_result("length_ablation", answerer.name, {"variants": found}, provenance(inputs, settings, seed=None))]


def _variant(variant: Variant, answerer: Answerer, prompts: Sequence[Prompt], options: Namespace) -> dict[str, Any]:
    from lightning_neft.evaluation.length_ablation import answer_variant
    from lightning_neft.evaluation.text_statistics import statistics_of, token_counts

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(variant.name, total=len(prompts))
        texts = answer_variant(
            answerer,
            variant,
            [prompt.conversation for prompt in prompts],
            max_new_tokens=options.max_new_tokens,
            batch_size=options.batch_size,
            on_done=lambda number, answer: progress.advance(task),
        )
    answers = [text.strip() for text in texts]
    # With the instruction as it was, so that a judge compares the variants on the same.
    label = f"{answerer.name} ({variant.name})"
    rows = [prompt.to_json(answer, label) for prompt, answer in zip(prompts, answers, strict=True)]
    (file,) = numbered_files(
        results_folder(options.out),
        [(f"{answerer.name}-{variant.name}", "outputs")],
        lambda place, _: is_of_others(place, rows),
    )
    try:
        write_text(file, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror or error}; give --out") from error
    statistics = statistics_of(answers, tokens=token_counts(answerer.tokenizer, answers))
    return {
        "name": variant.name,
        "sentence": variant.sentence,
        "min_new_tokens": variant.min_new_tokens,
        "outputs": file.name,
        **{name: value for name, value in statistics.items() if name != "per_sample"},
    }


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result for people."""
    table = Table("variant", "characters", "words", "tokens", "repetition", box=None)
    for one in result["variants"]:
        repetition = one["repetition_2"]
        table.add_row(
            one["name"],
            f"{one['mean_characters']:.1f}",
            f"{one['mean_words']:.1f}",
            f"{one['mean_tokens']:.1f}",
            "-" if repetition is None else f"{100 * repetition:.2f} %",
        )
    console.print(Text(f"{result['label']}: mean length of the answers to {result['variants'][0]['n_total']} prompts"))
    console.print(table)
    console.print(
        Text("repetition: share of 2-grams that occurred before; the answers of each variant, next to this result:")
    )
    for one in result["variants"]:
        console.print(Text(f"  {one['outputs']}"), soft_wrap=True)
