"""The content of a page as plain data: sections of tables, charts, notes, findings and answers, and number formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_neft.report.figure import Theme
    from lightning_neft.report.sections.answers import Difference

__all__ = [
    "MISSING",
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
    "alpha_name",
    "count",
    "fixed",
    "number",
    "seeds_name",
    "share",
]

MISSING = "—"


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows.

    Attributes:
        caption: What it shows.
        columns: Column headings.
        rows: One text per column.
        texts: Indices of columns with text instead of numbers, besides the first.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: frozenset[int] = frozenset()
    kind: ClassVar = "table"


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
    kind: ClassVar = "chart"


@dataclass(frozen=True)
class Note:
    """A paragraph, or a warning."""

    text: str
    is_warning: bool = False
    kind: ClassVar = "note"


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: ClassVar = "heading"


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
    kind: ClassVar = "findings"


@dataclass(frozen=True)
class Answer:
    """One answer to an instruction.

    Attributes:
        arm: Name of the arm.
        group: Arms are compared within a group, such as a seed; empty if there is only one.
        text: The answer; None if the arm did not answer this instruction.
        difference: Compared with the answer of the first arm of its group; None for that arm itself.
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
    """An instruction and the answers of the arms."""

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
    kind: ClassVar = "answers"


Block = Table | Chart | Note | Heading | Findings | Answers


@dataclass(frozen=True)
class PageSection:
    """A section of the page.

    Attributes:
        slug: Its name in links.
        title: Its heading.
        lead: Introduction.
        blocks: Its content.
    """

    slug: str
    title: str
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with this many significant digits, without an exponent if possible.

    Example:
        >>> number(1234.56), number(0.123456), number(None)
        ('1,235', '0.1235', '—')
    """
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def fixed(value: float | None, decimals: int = 4) -> str:
    """Return a number with this many decimals, for columns to compare.

    Example:
        >>> fixed(1.5), fixed(1.5, decimals=1)
        ('1.5000', '1.5')
    """
    return MISSING if value is None else f"{value:,.{decimals}f}"


def count(value: float | None) -> str:
    """Return a whole number.

    Example:
        >>> count(12805.0)
        '12,805'
    """
    return fixed(value, decimals=0)


def share(value: float | None) -> str:
    """Return a fraction in percent.

    Example:
        >>> share(0.0512)
        '5.1 %'
    """
    return MISSING if value is None else f"{100 * value:.1f} %"


def alpha_name(alpha: float) -> str:
    """Return the name of all arms with one alpha.

    Example:
        >>> alpha_name(5.0)
        'alpha 5'
    """
    return f"alpha {alpha:g}"


def seeds_name(*n_seeds: int) -> str:
    """Return numbers of seeds as words.

    Example:
        >>> seeds_name(1), seeds_name(3, 1, 3)
        ('1 seed', '1 or 3 seeds')
    """
    numbers = sorted(set(n_seeds))
    return f"{' or '.join(map(str, numbers))} seed{'s' * (numbers[-1] != 1)}"
