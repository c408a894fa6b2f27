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

import numpy as np
import numpy.typing as npt
from evidence import RESULTS, SETTINGS
from marked_text import replaced
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from saved_figure import save

from lightning_neft.common.files import write_text
from lightning_neft.evaluation.bootstrap import MIN_SEEDS, Interval, paired_interval
from lightning_neft.evaluation.choice import corrected_intervals

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURE = DOCS / "evidence.md", DOCS / "figures" / "evidence.svg"
SCRIPT = "scripts/evidence_page.py"

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
DRAWN = ("held_out_loss", "words", "rouge_l_to_reference")
# From the baseline to the strongest noise.
COLOURS = ("#777777", "#7fb3e0", "#1f6fb4", "#0b2f5c")

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

    @cached_property
    def best_alpha(self) -> float:
        """The alpha with the lowest held-out loss at the end, of all seeds: known only afterwards."""
        return min(self.alphas, key=lambda alpha: float(self.values("held_out_loss", alpha).mean()))

    @cached_property
    def probed(self) -> list[float]:
        """Of each seed the alpha that had the lowest held-out loss after the first epoch."""
        first = {key: arm["held_out_curve"][0][1] for key, arm in self.arms.items()}
        return [min(self.alphas, key=lambda alpha: first[alpha, seed]) for seed in self.seeds]

    def regrets(self, alphas: Sequence[float]) -> Values:
        """How much higher the held-out loss is at the end than with the best alpha.

        Args:
            alphas: What is chosen after a look at each seed. It is judged by the other seeds alone.

        Returns:
            (n_seeds, n_samples), a row for each choice.
        """
        best = self.values("held_out_loss", self.best_alpha)
        rows = []
        for number, alpha in enumerate(alphas):
            others = np.delete(self.values("held_out_loss", alpha) - best, number, axis=0)
            rows.append(others.mean(axis=0))
        return np.array(rows)

    @property
    def precision(self) -> str:
        """That of the seeds: one, or two of different machines."""
        return " and ".join(sorted({str(self.arms[0.0, seed]["precision"]) for seed in self.seeds}))

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
        options = "".join(f", `{option}`" for option in setting["options"])
        shared = "" if setting["baseline"] is None else f" Alpha 0 is that of `{setting['baseline']}`."
        yield f"### `{result.name}`"
        yield ""
        yield (
            f"{setting['base']} on {setting['samples']} samples of {setting['data']}, {setting['epochs']} epochs, "
            f"learning rate {setting['learning_rate']:g}, {len(result.seeds)} seeds, {setting['held_out']} held out, "
            f"precision {result.precision}{options}.{shared}"
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


def probe_table(results: Sequence[Result]) -> Iterator[str]:
    """The table in Markdown of what the held-out loss after one epoch would have chosen, line by line."""
    yield ""
    yield "### The alpha after one epoch"
    yield ""
    heads = ["setting", "best at the end", "lowest after one epoch, by seed", "its regret", "of always 0"]
    heads += ["of always 5", "minus that of always 5"]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for result in results:
        if result.setting["baseline"] is not None:  # its arms without noise are judged in another row
            continue
        probe, zero, five = (
            result.regrets(alphas) for alphas in (result.probed, *([alpha] * len(result.seeds) for alpha in (0.0, 5.0)))
        )
        against = paired_interval(probe - five)
        cells = [
            f"`{result.name}`",
            f"{result.best_alpha:g}",
            ", ".join(f"{alpha:g}" for alpha in result.probed),
            *(f"{regrets.mean():.3f}" for regrets in (probe, zero, five)),
            f"{against.mean:+.3f} ({against.low:+.3f} to {against.high:+.3f})",
        ]
        yield f"| {' | '.join(cells)} |"


def _cell(result: Result, measure: str, alpha: float, decimals: int) -> str:
    interval = result.intervals[measure, alpha]
    ends = f"{interval.low:+.{decimals}f} to {interval.high:+.{decimals}f}"
    text = f"{interval.mean:+.{decimals}f} ({ends})"
    return f"**{text}**" if (measure, alpha) in result.evidence else text


def draw(results: Sequence[Result]) -> Figure:
    """The figure: a row of panels for each setting, with its losses and a panel for each measure."""
    figure = Figure(figsize=(9.2, 0.7 + 1.6 * len(results)), layout="constrained")
    panels = figure.subplots(len(results), 1 + len(DRAWN), squeeze=False)
    for row, result in zip(panels, results, strict=True):
        curves, *measures = row
        curves.set_title(result.name, loc="left", fontweight="bold")
        _draw_losses(curves, result)
        for panel, measure in zip(measures, DRAWN, strict=True):
            _draw_differences(panel, result, measure)
            panel.set_yticks([])
        noisy = result.alphas[1:]
        measures[0].set_yticks(range(len(noisy)), [f"alpha {alpha:g}" for alpha in noisy])
    titles = ["held-out loss by epoch\n(grey: alpha 0)"]
    titles += [f"{MEASURES[measure][0]},\nwith noise minus without" for measure in DRAWN]
    for panel, title in zip(panels[-1], titles, strict=True):
        panel.set_xlabel(title)
    return figure


def _draw_losses(panel: Axes, result: Result) -> None:
    """Mean over the seeds after each epoch."""
    for alpha, colour in zip(result.alphas, COLOURS[: len(result.alphas)], strict=True):
        losses = np.mean([[loss for _, loss in result.arms[alpha, seed]["held_out_curve"]] for seed in result.seeds], 0)
        panel.plot(np.arange(1, len(losses) + 1), losses, color=colour, marker=".")
    panel.set_xticks(range(1, int(result.setting["epochs"]) + 1))


def _draw_differences(panel: Axes, result: Result, measure: str) -> None:
    """A mark with its interval for each alpha, filled where it is evidence."""
    panel.axvline(0, color=COLOURS[0], linewidth=0.8)
    for place, (alpha, colour) in enumerate(zip(result.alphas[1:], COLOURS[1 : len(result.alphas)], strict=True)):
        interval = result.intervals[measure, alpha]
        panel.errorbar(
            interval.mean,
            place,
            xerr=[[interval.mean - interval.low], [interval.high - interval.mean]],
            color=colour,
            marker="o",
            markerfacecolor=colour if (measure, alpha) in result.evidence else "none",
            capsize=3,
        )
    panel.set_ylim(len(result.alphas) - 1.5, -0.5)
    panel.locator_params(axis="x", nbins=4)


def result_files() -> list[Path]:
    """Return the files of all results."""
    return sorted(RESULTS.glob("*.json"))


def page(text: str) -> str:
    """The page with new tables in place of those between the marks."""
    results = complete_results()
    return replaced(text, SCRIPT, (line for part in (tables(results), probe_table(results)) for line in part))


def main() -> None:
    """Write the page and the figure."""
    results, text = complete_results(), PAGE.read_text(encoding="utf-8")
    if not results:
        sys.exit(f"no setting in {RESULTS} has {MIN_SEEDS} seeds yet: nothing was written")
    try:
        write_text(PAGE, page(text))
    except ValueError as error:
        sys.exit(f"{PAGE}: {error}; nothing was written")
    save(lambda: draw(results), FIGURE, result_files())


if __name__ == "__main__":
    main()
