"""The content of a page as plain data: sections of tables, charts, notes, findings and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_neft.report.difference import Difference
    from lightning_neft.report.plots.figure import Theme

__all__ = [
    "Answer",
    "AnsweredPrompt",
    "Answers",
    "Block",
    "Chart",
    "Finding",
    "Findings",
    "Heading",
    "Note",
    "PageSection",
    "Plot",
    "Table",
]


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows.

    Attributes:
        caption: What it shows.
        columns: Their heads.
        rows: One text per column.
        texts: Indices of columns with text instead of numbers, besides the first.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: frozenset[int] = frozenset()


class Plot(Protocol):
    """Data of a plot, available as a drawing, as a table and as a sentence."""

    def draw(self, theme: Theme) -> Figure:
        """Return a figure in the colours of a theme."""

    def table(self, caption: str) -> Table:
        """Return the data."""

    def sentence(self) -> str:
        """Describe the plot."""


@dataclass(frozen=True)
class Chart:
    """A plot with its title.

    Attributes:
        slug: Its name in files; made unique on the page.
        title: What it shows.
        plot: The data.
        note: A line below.
    """

    slug: str
    title: str
    plot: Plot
    note: str = ""


@dataclass(frozen=True)
class Note:
    """A paragraph, or a warning."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Finding:
    """The verdict on a comparison.

    Attributes:
        subject: What was compared.
        verdict: Its badge: `no evidence`, `no verdict` for too few seeds, or the direction.
        sentence: The verdict with its interval.
    """

    subject: str
    verdict: Literal["no verdict", "no evidence", "better", "worse", "different"]
    sentence: str


@dataclass(frozen=True)
class Findings:
    """Some findings under one headline."""

    headline: str
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Answer:
    """One answer to an instruction.

    Attributes:
        arm: Name of the arm.
        group: Arms are compared within a group, such as a seed; empty if there is only one.
        difference: Compared with the answer of the first arm of its group; None for that arm itself.
        text: The answer; None if the arm did not answer this instruction.
    """

    arm: str
    group: str
    text: str | None
    difference: Difference | None = None

    @property
    def differs(self) -> bool:
        """Whether its words are known to differ from those of the first arm's answer."""
        return self.difference is not None and not self.difference.is_same


@dataclass(frozen=True)
class AnsweredPrompt:
    """An instruction and what the arms answered."""

    instruction: str
    answers: Sequence[Answer]
    context: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Answers:
    """Answers side by side, with filters.

    Attributes:
        title: Where they come from.
        baseline: The arm that the others are compared with.
        groups: Names of the groups; empty if there is only one.
        exchanges: One for each instruction.
    """

    title: str
    baseline: str
    groups: Sequence[str]
    exchanges: Sequence[AnsweredPrompt]


Block = Table | Chart | Note | Heading | Findings | Answers


@dataclass(frozen=True)
class PageSection:
    """A section of the page.

    Attributes:
        slug: Its name in links.
        title: Its heading.
        lead: Introduction.
        blocks: What it shows.
    """

    slug: str
    title: str
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)
