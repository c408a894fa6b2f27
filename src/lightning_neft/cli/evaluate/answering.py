"""Kinds of evaluation in which a model answers: `--tasks`, lm-evaluation-harness, and `--ablation` of answer length."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.evaluate.files import check_not_read, results_folder, write_records
from lightning_neft.cli.model_options import add_model_options, answerer_of
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from lightning_neft.cli.prompt_file import Prompt
    from lightning_neft.evaluation.length_ablation import Variant
    from lightning_neft.evaluation.result import InputFile
    from lightning_neft.generation.answering import Answerer

__all__ = ["AblationKind", "TasksKind"]


class TasksKind:
    """`evaluate --tasks`: benchmarks of lm-evaluation-harness on the model in memory."""

    takes_config = True

    def add_options(self, parser: VerbParser) -> None:
        """Add the options of this kind."""
        parser.add_argument("--tasks", nargs="+", action="extend", required=True, metavar="TASK")
        add_model_options(parser)
        parser.add_argument("--batch-size", type=int, default=8, metavar="N")
        parser.add_argument("--limit", type=int, metavar="N")
        parser.add_argument("--seed", type=int, default=0)

    def run(self, options: Namespace) -> list[dict[str, Any]]:
        """Return the result.

        Raises:
            ConfigError: An option is wrong or missing, a task does not exist, a file of one is not trusted, or the
                extra is not installed.
            DataError: The data of a task cannot be read.
            ModelError: The model cannot be loaded, or does not generate text.
        """
        from lightning_neft.cli.process import quiet
        from lightning_neft.evaluation.capability import capability, check_harness, check_task_files
        from lightning_neft.evaluation.result import InputFile, make_result, provenance

        if options.template is not None:
            raise ConfigError("--template cannot be used with --tasks: each task has its own prompts; omit it")
        options.tasks = [str(user_path(name, "--tasks")) for name in options.tasks]
        check_harness()
        check_task_files(options.tasks, options.trust_remote_code)  # before the weights are read
        # A model that answers needs a template; no prompt is rendered with it.
        options.template = "plain"
        with quiet():
            answerer = answerer_of("evaluate", options, options.rest)
            found = capability(
                answerer.model,
                answerer.tokenizer,
                options.tasks,
                batch_size=options.batch_size,
                limit=options.limit,
                seed=options.seed,
                trust_remote_code=options.trust_remote_code,
            )
        files = [path for name in options.tasks if (path := Path(name)).is_file()]
        inputs = [*_model_of(answerer), *(InputFile.read("task", path) for path in files)]
        kept = {name: answerer.settings[name] for name in ("dtype", "device")}
        settings = {**kept, "tasks": options.tasks, "limit": options.limit, "batch_size": options.batch_size}
        return [make_result("capability", answerer.name, found, provenance(inputs, settings, options.seed))]

    def show(self, result: dict[str, Any], console: Console) -> None:
        """Print a result as a table."""
        console.print(Text(f"{result['label']}: lm-evaluation-harness {result['harness_version']}"))
        table = Table("task", "examples", "metric", "value", "standard error", box=None)
        for name, metrics in result["tasks"].items():
            shots = result["n_shot"].get(name)
            for metric, value in metrics.items():
                base, comma, chosen = metric.partition(",")
                if base.endswith("_stderr") or value is None:
                    continue
                error = metrics.get(f"{base}_stderr{comma}{chosen}")
                shown = "-" if error is None else f"{error:.4f}"
                table.add_row(Text(name), "-" if shots is None else str(shots), Text(metric), f"{value:.4f}", shown)
        console.print(table)
        if result["provenance"]["settings"]["limit"] is not None:
            console.print(Text("only the first documents of each task: not comparable with published numbers"))


class AblationKind:
    """`evaluate --ablation`: length of answers to prompts that ask for longer ones, and with the end token blocked."""

    takes_config = True

    def add_options(self, parser: VerbParser) -> None:
        """Add the options of this kind."""
        parser.add_argument("--ablation", action="store_true", required=True)
        parser.add_argument("--prompts", required=True, metavar="FILE")
        add_model_options(parser)
        parser.add_argument("--min-new-tokens", type=int, metavar="N")
        parser.add_argument("--max-new-tokens", type=int, metavar="N")
        parser.add_argument("--batch-size", type=int, default=8, metavar="N")
        parser.add_argument("--limit", type=int, metavar="N")

    def run(self, options: Namespace) -> list[dict[str, Any]]:
        """Return the result, and write the answers of each variant into an outputs file.

        Raises:
            ConfigError: An option is wrong or missing.
            DataError: The prompts cannot be read, or one leaves no room for an answer.
            ModelError: The model cannot be loaded, or does not generate text.
        """
        from lightning_neft.cli.process import quiet
        from lightning_neft.cli.prompt_file import read_prompts
        from lightning_neft.data.sources.source import local_files
        from lightning_neft.evaluation.length_ablation import MIN_NEW_TOKENS, variants
        from lightning_neft.evaluation.result import InputFile, make_result, provenance

        chosen = variants(MIN_NEW_TOKENS if options.min_new_tokens is None else options.min_new_tokens)
        most, blocked = options.max_new_tokens, chosen[-1].min_new_tokens
        if most is not None and most < blocked:
            raise ConfigError(
                f"--max-new-tokens {most} is less than the {blocked} tokens for which the end is blocked; raise it, or "
                "lower --min-new-tokens"
            )
        check_not_read(options, local_files(options.prompts))
        prompts = read_prompts(options.prompts)[: options.limit]
        with quiet():
            answerer = answerer_of("evaluate", options, options.rest)
            found = [_variant(variant, answerer, prompts, options) for variant in chosen]
        path = user_path(options.prompts, "--prompts")
        inputs = _model_of(answerer) + ([InputFile.read("prompts", path, len(prompts))] if path.is_file() else [])
        settings = {**answerer.settings, "max_new_tokens": most, "prompts": path.name, "limit": options.limit}
        source = provenance(inputs, settings, seed=None)
        return [make_result("length_ablation", answerer.name, {"variants": found}, source)]

    def show(self, result: dict[str, Any], console: Console) -> None:
        """Print a result as a table."""
        table = Table("variant", "characters", "words", "tokens", "repetition", box=None)
        for one in result["variants"]:
            repetition = one["repetition_2"]
            table.add_row(
                one["name"],
                *(f"{one[f'mean_{unit}']:.1f}" for unit in ("characters", "words", "tokens")),
                "-" if repetition is None else f"{100 * repetition:.2f} %",
            )
        count = result["variants"][0]["n_total"]
        console.print(Text(f"{result['label']}: mean length of the answers to {count} prompts"))
        console.print(table)
        console.print(Text("repetition: share of 2-grams that repeat an earlier one"))
        console.print(Text("answers of each variant, next to this result:"))
        for one in result["variants"]:
            console.print(Text(f"  {one['outputs']}"), soft_wrap=True)


def _model_of(answerer: Answerer) -> list[InputFile]:
    """Return the model as an input: two folders of one name are two models."""
    from lightning_neft.evaluation.result import InputFile

    return [] if answerer.source is None else [InputFile.read("model", answerer.source)]


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
    # With the original instruction, so that a judge compares the variants on the same one.
    label = f"{answerer.name} ({variant.name})"
    rows = [prompt.to_json(answer, label) for prompt, answer in zip(prompts, answers, strict=True)]
    names = [(f"{answerer.name}-{variant.name}", "outputs")]
    (file,) = write_records(results_folder(options.out), names, [rows])
    statistics = statistics_of(answers, tokens=token_counts(answerer.tokenizer, answers))
    return {
        "name": variant.name,
        "sentence": variant.sentence,
        "min_new_tokens": variant.min_new_tokens,
        "outputs": file.name,
        **{name: value for name, value in statistics.items() if name != "per_sample"},
    }
