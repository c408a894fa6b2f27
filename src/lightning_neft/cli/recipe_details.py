"""What `recipes show` prints of a recipe besides its file: estimated memory and time, and all options."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from rich.console import Console
from rich.text import Text
from typing_extensions import override

from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program
from lightning_neft.cli.task import MODELS
from lightning_neft.data.catalogue import find_entry
from lightning_neft.data.tokenization import Task
from lightning_neft.hub.base_models import find_base_model, size_config
from lightning_neft.models.memory import Estimate, Run, estimate
from lightning_neft.models.step_trace import Batch
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.recipes.recipe import Recipe
from lightning_neft.recipes.training_time import training_seconds

__all__ = ["Details", "hours_text", "print_details", "recipe_details"]

# Indent of the lines below a name.
_MARGIN = " " * 10
_PARTS = ("weights", "gradients", "states", "activations", "total")
_PRECISION = "bf16-mixed"


@dataclass(frozen=True)
class Details:
    """What is computed from a recipe.

    Attributes:
        config: All options of a run, without the card.
        run: What the estimate is based on.
        devices: Number of devices.
        estimate: Estimated memory of each device.
        hours: Maximum hours on A100s; None if the number of samples is unknown.
    """

    config: dict[str, Any]
    run: Run
    devices: int
    estimate: Estimate
    hours: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the estimate and the config."""
        numbers = {f"{part}_bytes": round(getattr(self.estimate, part)) for part in _PARTS}
        return {
            "estimate": {**numbers, "devices": self.devices, "hours_on_a100": self.hours},
            "config": self.config,
        }


class _Options(Program):
    """Parses the options of a run, and neither seeds nor builds anything."""

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        self.options: dict[str, Any] = yaml.safe_load(parser.dump(self.config, skip_none=False))
        self.config.seed_everything = False

    @override
    def instantiate_classes(self) -> None:
        """Leave the model, the data and the Trainer unbuilt."""


def recipe_details(recipe: Recipe) -> Details:
    """Resolve the config of a recipe, and estimate its run.

    Raises:
        ConfigError: If the program does not accept it.
    """
    with quiet():
        config = _Options("fit", ["--config", str(recipe.path)]).options
    del config["card"]
    # The program fills in the name of the run, and the precision of this machine.
    config["name"] = recipe.config.get("name")
    config["trainer"]["precision"] = recipe.config.get("trainer", {}).get("precision")
    run, devices = _run(config)
    entry, hours = find_entry(recipe.dataset), None
    # It is not known into how many pieces conversations are cut.
    if entry is not None and not entry.cut_conversations:
        samples, steps = entry.samples * config["trainer"]["max_epochs"], config["trainer"]["max_steps"]
        if steps > 0 and config["global_batch_size"] is not None:
            samples = min(samples, steps * config["global_batch_size"])
        hours = (
            training_seconds(
                find_base_model(recipe.card.model),
                samples * run.batch.length,
                run.batch.length,
                devices=devices,
                is_frozen=config["model"]["lora"] is not None,
                is_checkpointed=config["model"]["gradient_checkpointing"] not in (False, "auto"),
            )
            / 3600
        )
    memory = _estimate(recipe.card.model, config["task"], json.dumps(config["model"], sort_keys=True), run)
    return Details(config, run, devices, memory, hours)


@cache
def _estimate(base_model: str, task: Task, options: str, run: Run) -> Estimate:
    """Estimate a run. Recipes that differ in their data alone share the result: a trace takes seconds.

    Args:
        base_model: Name of the base model.
        task: The task.
        options: Those of the model, as JSON.
        run: What else determines the memory.
    """
    base = size_config(base_model)
    if base.get_text_config().pad_token_id is None:
        base.get_text_config().pad_token_id = 0  # a classifier finds the last token of a text by it
    return estimate(MODELS[task](**_model_options(json.loads(options))), base, run)


def _run(config: dict[str, Any]) -> tuple[Run, int]:
    """Return what a resolved config says of a step on a GPU, and the number of devices.

    All rows are assumed to have the maximum length, and all tokens to be trained. One device is assumed where the
    config leaves the number to the Trainer, and bfloat16 where it leaves the precision to the hardware.
    """
    data, trainer = config["data"], config["trainer"]
    devices = trainer["devices"] if isinstance(trainer["devices"], int) else 1
    devices *= trainer["num_nodes"]
    is_sharded = isinstance(trainer["strategy"], dict)
    shards = trainer["strategy"]["init_args"].get("data_parallel_size", 1) if is_sharded else 1
    rows, length, of_step = data["batch_size"], data["max_length"], config["global_batch_size"]
    if of_step is not None:
        rows = min(rows, max(1, of_step // devices))
    trained = rows * (data["max_target_length"] or length if config["task"] == "seq2seq_lm" else length)
    accumulates = trainer["accumulate_grad_batches"] > 1 or (of_step is not None and of_step > rows * devices)
    batch = Batch(rows, length, trained, is_packed=data["batching"] in ("packed", "flat"))
    return Run(batch, str(trainer["precision"] or _PRECISION), "cuda", accumulates, shards), devices


def _model_options(options: dict[str, Any]) -> dict[str, Any]:
    lora = options["lora"]
    return {**options, "lora": None if lora is None else LoraOptions(**lora)}


def print_details(recipe: Recipe, details: Details, name: str | None) -> None:
    """Print the card, the estimate and the options of a recipe.

    Args:
        recipe: The recipe.
        details: What is computed from it.
        name: As the user gave it, for the command that prints all options; None prints them instead of those that the
            recipe sets.
    """
    console = Console(soft_wrap=True)
    what = "all options" if name is None else "options that the recipe sets"
    for line in (*_card_lines(recipe), "", *_estimate_lines(details), "", f"{what}:"):
        console.print(Text(_wrapped(line, console.width) if console.is_terminal else line))
    given = {key: value for key, value in recipe.config.items() if key != "card"}
    options = yaml.safe_dump(details.config if name is None else given, sort_keys=False)
    console.print(Text(options.rstrip()))
    if name is not None:
        command = f"lightning_neft recipes show {shlex.quote(name)} --defaults"
        console.print(Text(f"\nThe others have their defaults, which this prints:\n  {command}"))


def _wrapped(line: str, width: int) -> str:
    """Return a line of the card wrapped between words, with its text aligned.

    Example:
        >>> print(_wrapped("model:    tiny, one million weights", 26))
        model:    tiny, one
                  million weights
    """
    # Paths, and words with a hyphen, stay whole.
    lines = textwrap.wrap(line, width, subsequent_indent=_MARGIN, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _card_lines(recipe: Recipe) -> Iterator[str]:
    card, model = recipe.card, find_base_model(recipe.card.model)
    terms = "; gated: accept the terms on the hub first" if model.gated else ""
    yield f"{recipe.name} ({recipe.path})"
    yield f"model:    {recipe.base}, {model.parameters / 1e6:,.1f} million weights, {model.architecture}"
    yield f"          {card.licences.model}{terms}"
    if model.notes:
        yield f"          {model.notes}"
    yield f"data:     {recipe.dataset}"
    yield f"          {card.licences.data}"
    yield f"alpha:    {recipe.alpha:g}, {card.alpha_source.kind}: {card.alpha_source.reference}"
    yield f"method:   {recipe.method}, task {recipe.task}"
    yield f"status:   {card.status.kind}{f', {card.status.date}' if card.status.date else ''}"
    for name, values in (("versions", card.status.versions), ("results", card.status.results)):
        if values:
            yield f"          {name}: {', '.join(f'{key} {value}' for key, value in values.items())}"
    if card.status.hardware:
        yield f"          on {card.status.hardware}"
    if card.notes:
        yield f"notes:    {card.notes}"


def _estimate_lines(details: Details) -> Iterator[str]:
    found, batch = details.estimate, details.run.batch
    parts = ", ".join(f"{part} {getattr(found, part) / 1e9:.1f}" for part in _PARTS[:-1])
    where = "one device" if details.devices == 1 else f"each of {details.devices} devices"
    yield (
        f"estimate: {found.total / 1e9:.1f} GB on {where} ({parts}), "
        f"for {batch.rows} rows of {batch.length} tokens at a time"
    )
    if details.hours is not None:
        yield f"          at most {hours_text(details.hours)} hours on A100s; the documentation has the formulas"


def hours_text(hours: float) -> str:
    """Return hours with one decimal, or below one hour with two significant digits.

    Example:
        >>> hours_text(12.94), hours_text(0.0312)
        ('12.9', '0.031')
    """
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"
