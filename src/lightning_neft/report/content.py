"""What a page is made of: sections of tables, charts, notes, findings and answers; plain data, nothing of HTML."""

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
        rows: Texts, as many a row as there are columns.
        texts: Columns, from 0, that hold texts and not numbers, besides the first.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: frozenset[int] = frozenset()


class Plot(Protocol):
    """Data of a plot, which can be drawn, put in a table, and said in a sentence."""

    def draw(self, theme: Theme) -> Figure:
        """Return a figure in the colours of a theme."""

    def table(self, caption: str) -> Table:
        """Return the data."""

    def sentence(self) -> str:
        """Say what is to be seen."""


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
    """A paragraph; a warning if it is something to look after."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Finding:
    """What a comparison tells.

    Attributes:
        subject: What was compared.
        tells: The word before it: `no evidence`, `no verdict` where there are too few seeds, or which way it goes.
        sentence: The verdict with its interval.
    """

    subject: str
    tells: Literal["no verdict", "no evidence", "better", "worse", "different"]
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
        arm: Whose it is.
        group: Arms are compared within a group, such as a seed; empty if there is one only.
        difference: The answer beside that of the first arm of its group; None if it is that arm's own.
        text: The answer; None if the arm has none to this instruction.
    """

    arm: str
    group: str
    text: str | None
    difference: Difference | None = None

    @property
    def differs(self) -> bool:
        """Whether it is known to have other words than the one that it is compared with."""
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
    """Answers side by side, to be filtered.

    Attributes:
        title: Where they come from.
        baseline: The arm that the others are compared with.
        groups: Names of the groups; empty if there is one only.
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
        lead: What to know when reading it.
        blocks: What it shows.
    """

    slug: str
    title: str
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)
