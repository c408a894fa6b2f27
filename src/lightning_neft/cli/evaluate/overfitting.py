"""Kinds of evaluation that show overfitting: `--clean-loss`, losses without noise, and `--memorization`, copies."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.evaluate.files import check_not_read
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lightning_neft.evaluation.clean_loss import Split

__all__ = ["CleanLossKind", "MemorizationKind"]

_SPLITS: tuple[Split, ...] = ("train", "held_out")
_BINS = 10
_BAR = 24


class CleanLossKind:
    """`evaluate --clean-loss`: the loss without noise of a config's model on training and validation samples."""

    takes_config = True

    def add_options(self, parser: VerbParser) -> None:
        """Add the options of this kind."""
        parser.add_argument("--clean-loss", action="store_true", required=True)
        parser.add_argument("--limit", type=int, default=1000, metavar="N")
        parser.add_argument("--seed", type=int, default=0)

    def run(self, options: Namespace) -> list[dict[str, Any]]:
        """Return the losses of both splits as one result.

        Raises:
            ConfigError: An option is wrong or missing.
            DataError: The data cannot be read, or have no validation set.
            ModelError: The weights cannot be loaded.
        """
        if not options.rest:
            raise ConfigError(
                "evaluate --clean-loss needs a model and its data; give --config FILE_OR_RECIPE, and --ckpt_path for "
                "the weights"
            )
        from lightning_neft.cli.evaluate.trained import TrainedProgram
        from lightning_neft.evaluation.clean_loss import clean_losses
        from lightning_neft.evaluation.result import make_result

        trained = TrainedProgram(options.rest)
        check_not_read(options, trained.files)
        if trained.data.prepared.held_out is None:
            raise DataError(
                "there is no validation set to compare the training samples with; give the data.val_size or "
                "data.val_split of the training"
            )
        losses = trained.within(
            lambda: {
                split: clean_losses(trained.module, trained.data, split, options.limit, seed=options.seed)
                for split in _SPLITS
            }
        )
        metrics = {"splits": {split: found.to_json() for split, found in losses.items()}}
        source = trained.provenance({"limit": options.limit}, options.seed)
        return [make_result("clean_loss", trained.label, metrics, source)]

    def show(self, result: dict[str, Any], console: Console) -> None:
        """Print a result as tables."""
        names, splits = [name.replace("_", "-") for name in _SPLITS], [result["splits"][name] for name in _SPLITS]
        console.print(Text(f"{result['label']}: loss without noise, nats per trained token"))
        table = Table("samples", "number", "mean over tokens", "median of samples", box=None)
        for name, split in zip(names, splits, strict=True):
            numbers = (f"{split['mean_loss']:.4f}", f"{median(split['per_sample']):.4f}")
            table.add_row(name, str(split["n_samples"]), *numbers)
        console.print(table)
        highest = max(max(split["per_sample"]) for split in splits)
        edges = [highest * edge / _BINS for edge in range(_BINS + 1)]
        shares = [_shares(split["per_sample"], highest) for split in splits]
        console.print(_histogram(("loss", *names), edges, shares))


def _shares(values: Sequence[float], highest: float) -> list[float]:
    """Return the share of the values in each of equally wide bins from 0 to the highest."""
    counts = [0] * _BINS
    for value in values:
        counts[min(_BINS - 1, int(_BINS * value / highest)) if highest > 0 else 0] += 1
    return [count / len(values) for count in counts]


def _histogram(columns: Sequence[str], edges: Sequence[float], shares: Sequence[Sequence[float]]) -> Table:
    """Return a table with a bar for each bin and group; shares are from 0 to 1, the width of a full bar."""
    table = Table(*columns, box=None)
    for index, (low, high) in enumerate(pairwise(edges)):
        table.add_row(f"{low:.2f} to {high:.2f}", *("#" * round(_BAR * group[index]) for group in shares))
    return table


class MemorizationKind:
    """`evaluate --memorization`: how close answers to training prompts are to the references of the training data."""

    takes_config = True

    def add_options(self, parser: VerbParser) -> None:
        """Add the options of this kind."""
        parser.add_argument("--memorization", action="store_true", required=True)
        parser.add_argument("--outputs", type=Path, nargs="+", action="extend", metavar="FILE")
        parser.add_argument("--model", metavar="NAME")
        parser.add_argument("--limit", type=int, default=200, metavar="N")
        parser.add_argument("--max-new-tokens", type=int, default=256, metavar="N")
        parser.add_argument("--batch-size", type=int, default=8, metavar="N")
        parser.add_argument("--seed", type=int, default=0)

    def run(self, options: Namespace) -> list[dict[str, Any]]:
        """Return one result for each outputs file, or that of a config's model.

        Raises:
            ConfigError: An option is wrong or missing, or the extra is not installed.
            DataError: A file is not an outputs file with references, or the data cannot be read.
            ModelError: The model cannot be loaded.
        """
        from lightning_neft.evaluation.memorization import check_libraries

        # Before the answers, which take time.
        check_libraries()
        if options.outputs:
            if options.rest or options.model:
                raise ConfigError(
                    "evaluate --memorization takes either --outputs, or a config whose model answers; omit "
                    f"{options.rest[0] if options.rest else '--model'}"
                )
            return [_of_file(path) for path in options.outputs]
        if options.model:
            user_path(options.model, "--model")  # before the data are read
        if not options.rest:
            raise ConfigError(
                "evaluate --memorization needs answers; give --outputs FILE with references, or --config "
                "FILE_OR_RECIPE for the training data and --ckpt_path or --model for the model that answers"
            )
        return [_of_model(options)]

    def show(self, result: dict[str, Any], console: Console) -> None:
        """Print a result as a table."""
        console.print(
            Text(
                f"{result['label']}: {result['n_total']} answers compared with their references: mean ROUGE-L "
                f"{result['mean_rouge_l']:.4f}, mean BLEU-4 {result['mean_bleu_4']:.4f}, near-copies (ROUGE-L above "
                f"{result['near_copy_threshold']:g}) {100 * result['near_copy_share']:.1f} %"
            )
        )
        counts = [result["histogram"][name] for name in ("rouge_l", "bleu_4")]
        most = max(map(max, counts))
        shares = [[count / most for count in group] for group in counts]
        console.print(_histogram(("value", "ROUGE-L", "BLEU-4"), result["histogram"]["edges"], shares))


def _of_file(path: Path) -> dict[str, Any]:
    from lightning_neft.evaluation.memorization import memorization
    from lightning_neft.evaluation.records import name_of_one, read_outputs, shown
    from lightning_neft.evaluation.result import InputFile, make_result, provenance

    outputs = read_outputs(path)
    lacking = [item for item in outputs if item.reference is None]
    if lacking:
        raise DataError(
            f"{path}: {len(lacking)} of {len(outputs)} records have no 'reference' to compare with, the first one for "
            f"{shown(lacking[0].instruction)}"
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
    from lightning_neft.evaluation.result import InputFile, make_result
    from lightning_neft.generation.sources import local_source, module_answerer, open_answerer

    trained = TrainedProgram(options.rest)
    check_not_read(options, trained.files)
    samples = [one for one in trained.data.prepared.train.samples if isinstance(one, Conversation) and one.answer]
    if not samples:
        raise DataError(f"{trained.data.options.source} has no conversation that ends with an answer to compare with")
    order = np.random.default_rng(options.seed).permutation(len(samples))[: options.limit]
    chosen = [samples[index] for index in sorted(order.tolist())]

    def answer() -> tuple[list[str], dict[str, Any]]:
        name, template = trained.label, trained.data.prepared.template.name
        if options.model:
            trusted = trained.module.trust_remote_code
            answerer = open_answerer(options.model, otherwise=template, trust_remote_code=trusted)
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
    local = local_source(options.model) if options.model else None
    # Only the name of a folder: parent folders are private.
    model = options.model if local is None else local.name
    settings = {**decoding, "max_new_tokens": options.max_new_tokens, "limit": options.limit, "model": model}
    source = trained.provenance(settings, options.seed, *([] if local is None else [InputFile.read("model", local)]))
    return make_result("memorization", model or trained.label, found, source)
