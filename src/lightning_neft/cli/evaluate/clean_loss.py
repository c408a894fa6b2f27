"""`evaluate --clean-loss`: the loss without noise of a config's model, over training and held-out samples."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.evaluate.files import check_not_read
from lightning_neft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lightning_neft.evaluation.clean_loss import Split

__all__ = ["add_options", "run", "show", "takes_config"]

takes_config = True

_SPLITS: tuple[Split, ...] = ("train", "held_out")
_BINS = 10
_BAR = 24


def add_options(parser: VerbParser) -> None:
    """Add the options of this kind."""
    parser.add_argument("--clean-loss", action="store_true", required=True)
    parser.add_argument("--limit", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)


def run(options: Namespace) -> list[dict[str, Any]]:
    """Return the losses of both splits as one result.

    Raises:
        ConfigError: An option is wrong or missing.
        DataError: The data cannot be read, or there is nothing held out.
        ModelError: The weights cannot be loaded.
    """
    if options.limit < 1:
        raise ConfigError(f"--limit {options.limit}: use 1 or more")
    if not options.rest:
        raise ConfigError(
            "evaluate --clean-loss needs a model and its data: --config FILE_OR_RECIPE, and --ckpt_path for its weights"
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


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result for people."""
    console.print(Text(f"{result['label']}: loss without noise, nats per trained token"))
    table = Table("samples", "number", "mean over tokens", "median of samples", box=None)
    for name in _SPLITS:
        split = result["splits"][name]
        middle = median(split["per_sample"])
        table.add_row(name.replace("_", "-"), str(split["n_samples"]), f"{split['mean_loss']:.4f}", f"{middle:.4f}")
    console.print(table)
    highest = max(max(result["splits"][name]["per_sample"]) for name in _SPLITS)
    bins = Table("loss", *(name.replace("_", "-") for name in _SPLITS), box=None)
    shares = [_shares(result["splits"][name]["per_sample"], highest) for name in _SPLITS]
    for index in range(_BINS):
        low, high = (highest * edge / _BINS for edge in (index, index + 1))
        bins.add_row(f"{low:.2f} to {high:.2f}", *("#" * round(_BAR * share[index]) for share in shares))
    console.print(bins)


def _shares(values: Sequence[float], highest: float) -> list[float]:
    """Return the share of the values in each of equally wide bins from 0 to the highest."""
    counts = [0] * _BINS
    for value in values:
        counts[min(_BINS - 1, int(_BINS * value / highest)) if highest > 0 else 0] += 1
    return [count / len(values) for count in counts]
