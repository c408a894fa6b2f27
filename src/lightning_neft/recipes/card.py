"""The card of a recipe: the source of its numbers and how it was tested. Typed, and checked when it is read."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import yaml

from lightning_neft.common.typed_yaml import Checks, read_typed
from lightning_neft.errors import ConfigError
from lightning_neft.hub.base_models import find_base_model

__all__ = ["AlphaKind", "AlphaSource", "Card", "Licences", "Status", "StatusKind", "read_card"]

AlphaKind: TypeAlias = Literal["paper", "cited", "default-untested", "executed"]
StatusKind: TypeAlias = Literal["executed", "smoke"]


@dataclass(frozen=True)
class Licences:
    """What the publishers of the base model and of the data allow."""

    model: str
    data: str


@dataclass(frozen=True)
class AlphaSource:
    """Where the alpha comes from.

    Attributes:
        kind: The NEFTune paper, other work, this package's default (untested on this pair), or a run of ours.
        reference: The table, work or run, and what it found.
    """

    kind: AlphaKind
    reference: str


@dataclass(frozen=True)
class Status:
    """How the recipe was tested.

    Attributes:
        kind: `executed`: in full, on the model and data; the notes say in what the run differed. `smoke`: by the tests,
            with a tiny random model of the same architecture on a few bundled samples.
        date: Of the run.
        versions: Versions of the packages that affect the result, by name.
        hardware: What it ran on.
        results: What was measured, by name.
    """

    kind: StatusKind
    date: datetime.date | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: str = ""
    results: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """What a recipe states about itself, beside its config.

    Attributes:
        model: Name of the base model in `hub/base_models.yaml`.
        licences: Of the base model and of the data.
        gated: Whether the licence of the model or of the data must be accepted on the hub first.
        alpha_source: Where the alpha comes from.
        status: How the recipe was tested.
        notes: What else to know before using it.
    """

    model: str
    licences: Licences
    gated: bool
    alpha_source: AlphaSource
    status: Status
    notes: str = ""


def read_card(node: yaml.Node, where: str) -> Card:
    """Read a card from a YAML document.

    Args:
        node: The value of its key `card`.
        where: The file, for messages.

    Raises:
        ConfigError: If the card is wrong; one message lists all problems, each with its line and key.

    Example:
        >>> read_card(yaml.compose("{model: tinny}"), "my.yaml")
        Traceback (most recent call last):
        ...
        lightning_neft.errors.ConfigError: my.yaml, line 1: card.licences is missing | my.yaml, line 1: card.gated is missing | my.yaml, line 1: card.alpha_source is missing | my.yaml, line 1: card.status is missing | my.yaml, line 1: card.model: no base model 'tinny'; did you mean tiny?
    """  # noqa: E501
    return read_typed(Card, node, "card", where, _CHECKS)


def _check_model(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if values.get("model") is not None:
        try:
            find_base_model(values["model"])
        except ConfigError as error:
            yield "model", f": {error}"


def _check_status(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if values.get("kind") == "executed":
        for name in ("date", "versions", "hardware", "results"):
            if name not in values:
                yield name, " is missing"
    elif "results" in values:
        yield (
            "results",
            ": a 2-step smoke test measures nothing; omit it, or run the recipe and set the status to executed",
        )


_CHECKS: Checks = {Card: _check_model, Status: _check_status}
