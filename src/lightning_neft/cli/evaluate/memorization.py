"""`evaluate --memorization`: how close answers to training prompts come to the references of the training data."""

from __future__ import annotations

from argparse import Namespace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.evaluate.files import check_not_read
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lightning_neft.cli.evaluate.trained import TrainedProgram

__all__ = ["add_options", "run", "show", "takes_config"]

takes_config = True

_BAR = 24


def add_options(parser: VerbParser) -> None:
    """Add the options of this kind."""
    parser.add_argument("--memorization", action="store_true", required=True)
    parser.add_argument("--outputs", type=Path, nargs="+", action="extend", metavar="FILE")
    parser.add_argument("--model", metavar="NAME")
    parser.add_argument("--limit", type=int, default=200, metavar="N")
    parser.add_argument("--max-new-tokens", type=int, default=256, metavar="N")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N")
    parser.add_argument("--seed", type=int, default=0)


def run(options: Namespace) -> list[dict[str, Any]]:
    """Return one result for each outputs file, or that of a config's model.

    Raises:
        ConfigError: An option is wrong or missing, or the extra is not installed.
        DataError: A file is none of outputs with references, or the data cannot be read.
        ModelError: The model cannot be loaded.
    """
    from lightning_neft.evaluation.memorization import check_libraries

    for name, value in (("--limit", options.limit), ("--max-new-tokens", options.max_new_tokens)):
        if value < 1:
            raise ConfigError(f"{name} {value}: use 1 or more")
    # Before the answers, which take their time.
    check_libraries()
    if options.outputs:
        if options.rest or options.model:
            raise ConfigError(
                "evaluate --memorization takes --outputs, or a config whose model answers, not both; leave away "
                f"{options.rest[0] if options.rest else '--model'}"
            )
        return [_of_file(path) for path in options.outputs]
    if options.model:
        user_path(options.model, "--model")  # before the data are read
    if not options.rest:
        raise ConfigError(
            "evaluate --memorization needs answers: --outputs FILE with references, or --config FILE_OR_RECIPE for the "
            "training data with --ckpt_path or --model for what answers"
        )
    return [_of_model(options)]


def _of_file(path: Path) -> dict[str, Any]:
    from lightning_neft.evaluation.memorization import memorization
    from lightning_neft.evaluation.records import name_of_one, read_outputs, shown
    from lightning_neft.evaluation.result import InputFile, make_result, provenance

    outputs = read_outputs(path)
    lacking = [item for item in outputs if item.reference is None]
    if lacking:
        raise DataError(
            f"{path}: {len(lacking)} of {len(outputs)} records have no 'reference' to compare with; the first is "
            f"about {shown(lacking[0].instruction)}"
        )
    label = name_of_one([item.generator for item in outputs], path, "outputs", path.stem)
    found = memorization([item.output for item in outputs], [item.reference or "" for item in outputs])
    source = provenance([InputFile.read("outputs", path, len(outputs))], {}, seed=None)
    return make_result("memorization", label, found, source)


def _of_model(options: Namespace) -> dict[str, Any]:
    import numpy as np
    from rich.progress import Progress

    from lightning_neft.cli.evaluate.trained import TrainedProgram
    from lightning_neft.data.conversation import Conversation
    from lightning_neft.evaluation.memorization import memorization
    from lightning_neft.evaluation.result import make_result
    from lightning_neft.generation.sources import module_answerer, open_answerer

    trained = TrainedProgram(options.rest)
    check_not_read(options, trained.files)
    samples = [item for item in _train_samples(trained) if isinstance(item, Conversation) and item.answer]
    if not samples:
        raise DataError(f"{trained.data.options.source} has no conversation that ends with an answer to compare with")
    order = np.random.default_rng(options.seed).permutation(len(samples))[: options.limit]
    chosen = [samples[index] for index in sorted(order.tolist())]

    def answer() -> tuple[list[str], dict[str, Any]]:
        name, template = trained.label, trained.data.prepared.template.name
        if options.model:
            answerer = open_answerer(options.model, trust_remote_code=trained.module.trust_remote_code)
        else:
            answerer = module_answerer(trained.module, template, name=name, device=str(trained.module.device))
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("answers to training prompts", total=len(chosen))
            texts = answerer.answers(
                chosen,
                max_new_tokens=options.max_new_tokens,
                batch_size=options.batch_size,
                on_done=lambda *_: progress.advance(task),
            )
        return texts, answerer.settings

    texts, decoding = answer() if options.model else trained.within(answer)
    found = memorization(texts, [item.answer for item in chosen])
    # Of a folder its name: those above it are nobody's business.
    model = local.name if options.model and (local := user_path(options.model, "--model")).is_dir() else options.model
    settings = {**decoding, "max_new_tokens": options.max_new_tokens, "limit": options.limit, "model": model}
    label = model or trained.label
    return make_result("memorization", label, found, trained.provenance(settings, options.seed))


def _train_samples(trained: TrainedProgram) -> list[Any]:
    samples: list[Any] = trained.data.prepared.train.samples
    return samples


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result for people."""
    console.print(
        Text(
            f"{result['label']}: {result['n_total']} answers against their references: mean ROUGE-L "
            f"{result['mean_rouge_l']:.4f}, mean BLEU-4 {result['mean_bleu_4']:.4f}, near-copies (ROUGE-L above "
            f"{result['near_copy_threshold']:g}) {100 * result['near_copy_share']:.1f} %"
        )
    )
    histogram = result["histogram"]
    edges, names = histogram["edges"], ("rouge_l", "bleu_4")
    table = Table("value", "ROUGE-L", "BLEU-4", box=None)
    most = max(max(histogram[name]) for name in names)
    for index, (low, high) in enumerate(pairwise(edges)):
        bars = ("#" * round(_BAR * histogram[name][index] / most) for name in names)
        table.add_row(f"{low:.2f} to {high:.2f}", *bars)
    console.print(table)
