"""The card of a recipe: where its numbers come from, and how far it was run. Typed, and checked when it is read."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import yaml

from lightning_neft.errors import ConfigError
from lightning_neft.hub.base_models import find_base_model
from lightning_neft.recipes.sections import Section

__all__ = ["AlphaKind", "AlphaSource", "Card", "Licences", "Status", "StatusKind", "read_card"]

AlphaKind = Literal["paper", "cited", "default-untested", "executed"]
StatusKind = Literal["executed", "smoke"]


@dataclass(frozen=True)
class Licences:
    """What the publishers of the base model and of the data allow."""

    model: str
    data: str


@dataclass(frozen=True)
class AlphaSource:
    """Where the strength of the noise comes from.

    Attributes:
        kind: The NEFTune paper; other work; this package's default, which nobody tried on this pair; or a run of ours.
        reference: Which table, work or run, and what it found.
    """

    kind: AlphaKind
    reference: str


@dataclass(frozen=True)
class Status:
    """How far the recipe was run.

    Attributes:
        kind: `executed`: as it stands, on the real model and data. `smoke`: with a tiny random model of the same
            architecture, on a few samples of the package, by the tests.
        date: Of the run.
        versions: Of the packages that decide what comes out, by name.
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
    """What a recipe says about itself. Base, data, alpha and method stand in the config beside it.

    Attributes:
        model: Name of the base model's entry in `base_models`.
        licences: Of the base model and of the data.
        gated: Whether the licence of the model or of the data must be accepted on the hub first.
        alpha_source: Where the alpha comes from.
        status: How far the recipe was run.
        notes: What else a person should know before using it.
    """

    model: str
    licences: Licences
    gated: bool
    alpha_source: AlphaSource
    status: Status
    notes: str = ""


def read_card(node: yaml.Node, where: str) -> Card:
    """Read a card out of a YAML document.

    Args:
        node: The value of its key `card`.
        where: The file, for messages.

    Raises:
        ConfigError: If it is no card; one message lists all that is wrong, each with its line and key.

    Example:
        >>> read_card(yaml.compose("{model: tinny}"), "my.yaml")
        Traceback (most recent call last):
        ...
        lightning_neft.errors.ConfigError: my.yaml, line 1: card.licences is missing | my.yaml, line 1: card.gated is missing | my.yaml, line 1: card.alpha_source is missing | my.yaml, line 1: card.status is missing | my.yaml, line 1: card.model: no base model 'tinny'; did you mean tiny?
    """  # noqa: E501
    problems: list[str] = []
    card = _card(Section(node, "card", where, problems))
    if problems:
        raise ConfigError(" | ".join(problems))
    return card


def _card(section: Section) -> Card:
    section.allow(["model", "licences", "gated", "alpha_source", "status"], ["notes"])
    model = section.text("model")
    if model:
        try:
            find_base_model(model)
        except ConfigError as error:
            section.complain("model", str(error))
    licences = section.inner("licences")
    licences.allow(["model", "data"])
    source = section.inner("alpha_source")
    source.allow(["kind", "reference"])
    return Card(
        model=model,
        licences=Licences(licences.text("model"), licences.text("data")),
        gated=section.flag("gated"),
        alpha_source=AlphaSource(
            source.choice("kind", get_args(AlphaKind)),  # type: ignore[arg-type]
            source.text("reference"),
        ),
        status=_status(section.inner("status")),
        notes=section.text("notes"),
    )


def _status(section: Section) -> Status:
    kind = section.choice("kind", get_args(StatusKind))
    measured = ["date", "versions", "hardware", "results"]
    if kind == "executed":
        section.allow(["kind", *measured])
    else:
        section.allow(["kind"], measured)
        if kind == "smoke" and "results" in section:
            section.complain("results", "a smoke run measures nothing; leave it away, or run the recipe: executed")
    return Status(
        kind=kind,  # type: ignore[arg-type]
        date=section.date("date"),
        versions={name: str(value) for name, value in section.values("versions").items()},
        hardware=section.text("hardware"),
        results=section.values("results"),
    )
