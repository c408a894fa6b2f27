"""`evaluate --clean-loss`: the loss without noise of a config's model, over training and held-out samples."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from lightning_neft.evaluation.clean_loss import CleanLosses

__all__ = ["add_options", "run", "show", "takes_config"]

takes_config = True

# The validation loop loads the weights, on the device and in the precision of the config. One batch is enough for it.
_LOOKING = (
    "--trainer.devices=1",
    "--trainer.num_nodes=1",
    "--trainer.strategy=auto",
    "--trainer.logger=false",
    "--trainer.enable_checkpointing=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.limit_val_batches=1",
)
_SPLITS = ("train", "held_out")
_BINS = 10
_BAR = 40


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
            "evaluate --clean-loss needs a model and its data: --config FILE_OR_RECIPE, and its weights with --ckpt_path"
        )
    from lightning_neft.cli.checkpoint_option import checkpoint_of
    from lightning_neft.cli.program import Program
    from lightning_neft.cli.quiet import quiet
    from lightning_neft.evaluation.result import InputFile, make_result, provenance

    with quiet():
        program = Program("evaluate", [*options.rest, *_LOOKING])
        checkpoint = checkpoint_of(program)
        losses = _measured(program, checkpoint, options.limit, options.seed)
    is_file = checkpoint is not None and checkpoint.is_file()
    inputs = [InputFile.read("checkpoint", checkpoint)] if checkpoint is not None and is_file else []
    config, data = program.config, program.datamodule.options
    settings = {
        "limit": options.limit,
        "base": program.model.base,
        "source": data.source,
        "task": data.task,
        "template": program.datamodule.prepared.template.name,
        "max_length": data.max_length,
        "precision": config.trainer.precision,
        "alpha": None if config.neftune is None else config.neftune.alpha,
    }
    metrics = {"splits": {name: losses[name].to_json() for name in _SPLITS}}
    return [make_result("clean_loss", config.name, metrics, provenance(inputs, settings, options.seed))]


def _measured(program: Any, checkpoint: Path | None, limit: int, seed: int) -> dict[str, CleanLosses]:
    import lightning.pytorch as pl

    from lightning_neft.evaluation.clean_loss import clean_losses

    found: dict[str, CleanLosses] = {}

    class Measure(pl.Callback):
        def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            with trainer.precision_plugin.val_step_context():
                for split in _SPLITS:
                    found[split] = clean_losses(program.model, program.datamodule, split, limit, seed=seed)  # type: ignore[arg-type]

    # A loop without batches would not start, and load nothing.
    program.datamodule.setup("validate")
    if program.datamodule.prepared.held_out is None:
        from lightning_neft.errors import DataError

        raise DataError(
            "there are no held-out samples to compare with the training samples; give the data.val_size or data.val_split "
            "of the training"
        )
    program.trainer.callbacks.append(Measure())
    # weights_only: a checkpoint from somewhere else must not run code.
    program.trainer.validate(
        program.model, datamodule=program.datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True
    )
    return found


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result for people."""
    console.print(Text(f"{result['label']}: loss without noise, nats per trained token"))
    table = Table("samples", "number", "mean over tokens", "median of samples", box=None)
    for name in _SPLITS:
        split = result["splits"][name]
        ordered = sorted(split["per_sample"])
        median = ordered[len(ordered) // 2]
        table.add_row(name.replace("_", "-"), str(split["n_samples"]), f"{split['mean_loss']:.4f}", f"{median:.4f}")
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
