"""Write the tables and the figure of docs/evidence.md from the results of scripts/evidence.py.

    python scripts/evidence_page.py

replaces docs/figures/evidence.svg and the text between the two marks of the page. The rest is written by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from evidence import RESULTS, SETTINGS
from matplotlib.figure import Figure

from lightning_neft.common.files import write_text
from lightning_neft.evaluation.bootstrap import MIN_SEEDS, Interval, paired_interval
from lightning_neft.evaluation.choice import corrected_intervals

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURE = DOCS / "evidence.md", DOCS / "figures" / "evidence.svg"
BEGIN, END = "<!-- made by scripts/evidence_page.py -->", "<!-- end -->"

# Title and decimals of each measure, in the order of the tables.
MEASURES = {
    "held_out_loss": ("held-out loss", 3),
    "train_clean_loss": ("training loss", 3),
    "token_accuracy": ("held-out token accuracy", 3),
    "words": ("words in an answer", 1),
    "repetition_2": ("repeated 2-grams", 3),
    "log_diversity": ("log-diversity", 2),
    "rouge_l_to_reference": ("ROUGE-L to the reference", 3),
    "rouge_l_to_nearest_training_answer": ("ROUGE-L to the nearest training answer", 3),
    "is_valid_call": ("valid calls of an offered tool", 2),
    "is_expected_tool": ("calls of the expected tool", 2),
}
DRAWN = ("held_out_loss", "words", "repetition_2", "rouge_l_to_reference")
COLOUR = "#1f5fa8"

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """The arms of a setting."""

    name: str
    setting: dict[str, Any]
    arms: dict[tuple[float, int], dict[str, Any]]

    @classmethod
    def read(cls, file: Path) -> Result:
        """Read a file of `scripts/evidence.py`."""
        found = json.loads(file.read_text(encoding="utf-8"))
        return cls(file.stem, found["setting"], {(arm["alpha"], arm["seed"]): arm for arm in found["arms"]})

    @property
    def alphas(self) -> list[float]:
        """All alphas that the setting compares."""
        return [float(alpha) for alpha in self.setting["alphas"].split(",")]

    @property
    def seeds(self) -> list[int]:
        """The seeds of which each alpha has ended."""
        seeds = sorted({seed for _, seed in self.arms})
        return [seed for seed in seeds if all((alpha, seed) in self.arms for alpha in self.alphas)]

    @property
    def is_complete(self) -> bool:
        """Whether there are enough seeds for a verdict."""
        return len(self.seeds) >= MIN_SEEDS

    def values(self, measure: str, alpha: float) -> Values:
        """Return (n_seeds, n_samples), NaN where an answer is too short for the measure."""
        rows = []
        for seed in self.seeds:
            arm = self.arms[alpha, seed]
            if measure == "train_clean_loss":
                rows.append([arm[measure]])
            elif measure == "token_accuracy":
                rows.append([arm["token_accuracy_curve"][-1][1]])
            else:
                rows.append(arm["per_sample"][measure])
        return np.array(rows, dtype=np.float64)

    @cached_property
    def differences(self) -> dict[tuple[str, float], Values]:
        """Of each measure and alpha the paired differences from alpha 0, without samples that lack one."""
        (first, *_) = self.arms.values()
        found = {}
        for measure in MEASURES:
            if measure not in {*first["per_sample"], "train_clean_loss", "token_accuracy"}:
                continue
            for alpha in self.alphas:
                if alpha:
                    pairs = self.values(measure, alpha) - self.values(measure, 0.0)
                    found[measure, alpha] = pairs[:, ~np.isnan(pairs).any(axis=0)]
        return found

    @cached_property
    def intervals(self) -> dict[tuple[str, float], Interval]:
        """The 95 % interval of each difference."""
        return {key: paired_interval(rows) for key, rows in self.differences.items()}

    @cached_property
    def evidence(self) -> set[tuple[str, float]]:
        """The differences that are evidence after Holm's correction for all comparisons of the setting's table."""
        return {key for key, interval in corrected_intervals(self.differences).items() if interval.is_evidence}

    def noise_to_signal(self, alpha: float) -> float:
        """Return the mean over the seeds."""
        return float(np.mean([self.arms[alpha, seed]["noise_to_signal"] for seed in self.seeds]))


def complete_results() -> list[Result]:
    """Read the settings that are complete, in the order of scripts/evidence.py."""
    return [result for name in SETTINGS if (result := _result(name)) is not None and result.is_complete]


def _result(name: str) -> Result | None:
    file = RESULTS / f"{name}.json"
    return Result.read(file) if file.exists() else None


def tables(results: Sequence[Result]) -> Iterator[str]:
    """The tables in Markdown, line by line, and what has not ended."""
    for result in results:
        setting = result.setting
        yield f"### `{result.name}`"
        yield ""
        yield (
            f"{setting['base']} on {setting['samples']} samples of {setting['data']}, {setting['epochs']} epochs, "
            f"learning rate {setting['learning_rate']:g}, {len(result.seeds)} seeds, {setting['held_out']} held out."
        )
        yield ""
        noisy = [alpha for alpha in result.alphas if alpha]
        yield f"| | alpha 0 | {' | '.join(f'alpha {alpha:g}' for alpha in noisy)} |"
        yield "|---" * (len(noisy) + 2) + "|"
        yield f"| noise-to-signal | | {' | '.join(f'{result.noise_to_signal(alpha):.2f}' for alpha in noisy)} |"
        for measure, (title, decimals) in MEASURES.items():
            if (measure, noisy[0]) in result.intervals:
                baseline = np.nanmean(result.values(measure, 0.0))
                cells = [_cell(result, measure, alpha, decimals) for alpha in noisy]
                yield f"| {title} | {baseline:.{decimals}f} | {' | '.join(cells)} |"
        yield ""
    lacking = [name for name in SETTINGS if name not in {result.name for result in results}]
    if lacking:
        yield "Not finished, and therefore without numbers here:"
        yield ""
        for name in lacking:
            ended = 0 if (result := _result(name)) is None else len(result.arms)
            alphas = len(SETTINGS[name].alphas.split(","))
            yield f"- `{name}`: {ended} of {MIN_SEEDS * alphas} arms"


def _cell(result: Result, measure: str, alpha: float, decimals: int) -> str:
    interval = result.intervals[measure, alpha]
    ends = f"{interval.low:+.{decimals}f} to {interval.high:+.{decimals}f}"
    text = f"{interval.mean:+.{decimals}f} ({ends})"
    return f"**{text}**" if (measure, alpha) in result.evidence else text


def draw(results: Sequence[Result]) -> Figure:
    """The figure: a row of panels for each setting, a panel for each measure, a mark for each alpha."""
    figure = Figure(figsize=(8.6, 0.6 + 1.35 * len(results)), layout="constrained")
    panels = figure.subplots(len(results), len(DRAWN), squeeze=False, sharex="col")
    for row, result in zip(panels, results, strict=True):
        noisy = [alpha for alpha in result.alphas if alpha]
        for panel, measure in zip(row, DRAWN, strict=True):
            panel.axvline(0, color="#666666", linewidth=0.8)
            for place, alpha in enumerate(noisy):
                interval = result.intervals[measure, alpha]
                panel.errorbar(
                    interval.mean,
                    place,
                    xerr=[[interval.mean - interval.low], [interval.high - interval.mean]],
                    color=COLOUR,
                    marker="o",
                    markerfacecolor=COLOUR if (measure, alpha) in result.evidence else "none",
                    capsize=3,
                )
            panel.set_ylim(len(noisy) - 0.5, -0.5)
            panel.set_yticks(range(len(noisy)), [f"alpha {alpha:g}" for alpha in noisy] if panel is row[0] else [])
        row[0].set_title(result.name, loc="left", fontweight="bold")
    for panel, measure in zip(panels[-1], DRAWN, strict=True):
        panel.set_xlabel(f"{MEASURES[measure][0]},\nwith noise minus without")
    return figure


def page(text: str) -> str:
    """The page with new tables in place of those between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(tables(complete_results()))
    return f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}"


def main() -> None:
    """Write the page and the figure."""
    results, text = complete_results(), PAGE.read_text(encoding="utf-8")
    if not results:
        sys.exit(f"no setting in {RESULTS} has {MIN_SEEDS} seeds yet: nothing was written")
    if not (BEGIN in text and END in text):
        sys.exit(f"{PAGE} lacks the marks {BEGIN} and {END}: nothing was written")
    write_text(PAGE, page(text))
    # The same file from the same code: no random ids, no date.
    with matplotlib.rc_context({"svg.hashsalt": "lightning_neft", "svg.fonttype": "path", "font.size": 9}):
        draw(results).savefig(FIGURE, metadata={"Date": None}, transparent=True)


if __name__ == "__main__":
    main()
