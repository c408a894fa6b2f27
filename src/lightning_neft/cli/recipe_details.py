"""What `recipes show` prints of a recipe besides its file: estimated memory and time, and all options."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from rich.console import Console
from rich.text import Text
from typing_extensions import override

from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program
from lightning_neft.data.catalogue import find_entry
from lightning_neft.hub.base_models import find_base_model
from lightning_neft.recipes.estimates import Estimate, Run, estimate, run_of
from lightning_neft.recipes.recipe import Recipe

__all__ = ["Details", "hours_text", "print_details", "recipe_details"]

# Indent of the lines below a name.
_MARGIN = " " * 10
_PARTS = ("weights", "gradients", "states", "activations", "total")


@dataclass(frozen=True)
class Details:
    """What is computed from a recipe.

    Attributes:
        config: All options of a run, without the card.
        run: What the estimate is based on.
        estimate: Estimated memory and time of such a run.
    """

    config: dict[str, Any]
    run: Run
    estimate: Estimate

    @property
    def hours(self) -> float | None:
        """Maximum hours on A100s; None if the number of samples is unknown."""
        return None if self.estimate.seconds is None else self.estimate.seconds / 3600

    def to_json(self) -> dict[str, Any]:
        """Return the estimate and the config."""
        numbers = {f"{part}_bytes": round(getattr(self.estimate, part)) for part in _PARTS}
        return {
            "estimate": {**numbers, "devices": self.run.devices, "hours_on_a100": self.hours},
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
    # The program fills in the name of the run.
    config["name"] = recipe.config.get("name")
    entry = find_entry(recipe.dataset)
    # It is not known into how many pieces conversations are cut.
    taken = run_of(config, None if entry is None or entry.cut_conversations else entry.samples)
    return Details(config, taken, estimate(find_base_model(recipe.card.model), taken))


def print_details(recipe: Recipe, details: Details) -> None:
    """Print the card, the estimate and the config of a recipe."""
    console = Console(soft_wrap=True)
    for line in (*_card_lines(recipe), "", *_estimate_lines(details), "", "config, with the defaults:"):
        console.print(Text(_wrapped(line, console.width) if console.is_terminal else line))
    console.print(Text(yaml.safe_dump(details.config, sort_keys=False)))


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
    found, taken = details.estimate, details.run
    parts = ", ".join(f"{part} {getattr(found, part) / 1e9:.1f}" for part in _PARTS[:-1])
    where = "one device" if taken.devices == 1 else f"each of {taken.devices} devices"
    yield (
        f"estimate: {found.total / 1e9:.1f} GB on {where} ({parts}), "
        f"for {taken.rows} rows of {taken.length} tokens at a time"
    )
    if details.hours is not None:
        yield f"          at most {hours_text(details.hours)} hours on A100s; docs/recipes.md has the formulas"


def hours_text(hours: float) -> str:
    """Return hours with one decimal, or below one hour with two significant digits.

    Example:
        >>> hours_text(12.94), hours_text(0.0312)
        ('12.9', '0.031')
    """
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"
