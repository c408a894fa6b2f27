"""Run every check of the table of architectures and write what came out as a page of the documentation.

    python scripts/architecture_matrix.py

writes docs/architectures.md. The table and the checks are those of tests/matrix/, nothing is downloaded. If any check
fails no page is written. Rows that need a package which is not installed are listed as not run.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import platform
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from lightning_neft.common.files import write_text
from lightning_neft.errors import NEFTError
from lightning_neft.noise.injector import EmbeddingNoise
from lightning_neft.noise.probe import NoiseStrength, probe

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from matrix.architectures import ROWS  # noqa: E402  # the table lives with the tests
from matrix.checks import ALPHA, CHECKS, STEPS, TOLERANCE, Case, case_of, not_applicable  # noqa: E402
from matrix.rows import Architecture  # noqa: E402

PAGE = ROOT / "docs" / "architectures.md"
PACKAGES = ("torch", "transformers", "peft", "lightning")
NOT_INSTALLED = "its package is not installed"


@dataclass
class Result:
    """What a row gave: by heading "ok", "FAILED: ..." or the reason why the check does not apply; its strengths."""

    row: Architecture
    cells: dict[str, str] = field(default_factory=dict)
    strengths: list[NoiseStrength] = field(default_factory=list)


def run_row(row: Architecture) -> Result:
    """Run all checks of one row, and measure."""
    if row.needs is not None and importlib.util.find_spec(row.needs) is None:
        return Result(row, dict.fromkeys(CHECKS, NOT_INSTALLED))
    case, result = case_of(row.name), Result(row)
    for heading, check in CHECKS.items():
        reason = not_applicable(row, check)
        if reason is None:
            try:
                check(case)
                reason = "ok"
            except (AssertionError, NEFTError) as error:
                reason = f"FAILED: {error}"
        result.cells[heading] = reason
    if row.error is None:
        result.strengths = measure(case)
    return result


def measure(case: Case) -> list[NoiseStrength]:
    """Strength of the noise on the row's batch."""
    noise = EmbeddingNoise(ALPHA, target=case.row.target)
    return probe(case.model, case.batch, noise=noise, forward=case.forward)


def page(results: list[Result]) -> str:
    """The page in Markdown."""
    return "\n".join([*_head(results), *_checks(results), *_errors(results), *_strengths(results), *_legend(results)])


def _head(results: list[Result]) -> Iterator[str]:
    cells = [cell for result in results for cell in result.cells.values()]
    run = [result for result in results if NOT_INSTALLED not in result.cells.values()]
    packages = [*PACKAGES, *dict.fromkeys(result.row.needs for result in run if result.row.needs is not None)]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    yield "# Architectures"
    yield ""
    yield (
        "A reference for people who ask whether a model is supported. On each of these architectures noise is applied "
        "to the token embedding only, has the strength of the paper, and is off outside of training batches; or the "
        "run stops with an error that gives the reason. The models are tiny and random; nothing is downloaded."
    )
    yield ""
    yield (
        f"{len(results)} rows, {cells.count('ok')} checks passed. {datetime.date.today().isoformat()}, {versions}, "
        f"Python {platform.python_version()}, CPU. Made by `python scripts/architecture_matrix.py` in the repository; "
        "the same checks are part of the tests."
    )
    yield ""


def _legend(results: list[Result]) -> Iterator[str]:
    yield "## What is checked"
    yield ""
    for heading, check in CHECKS.items():
        yield f"- **{heading}**: {(check.__doc__ or '').strip()}"
    yield ""
    yield (
        f"Strength is measured at alpha {ALPHA:g} over {STEPS} draws of each sequence; {TOLERANCE:g} standard "
        "errors are 3 to 7 %. Sequences have different lengths, and the lengths of an encoder and its decoder differ "
        "too."
    )
    yield ""


def _marks(results: list[Result]) -> dict[str, str]:
    """A short mark for each reason why a check does not apply."""
    reasons = dict.fromkeys(cell for result in results for cell in result.cells.values() if cell != "ok")
    return {reason: f"-({number})" for number, reason in enumerate(reasons, start=1)}


def _checks(results: list[Result]) -> Iterator[str]:
    marks = _marks(results)
    yield "## Checks"
    yield ""
    yield f"[What each column means](#what-is-checked). A check that does not apply: {_reasons(marks)}."
    yield ""
    yield f"| architecture | family | {' | '.join(CHECKS)} |"
    yield "|---" * (len(CHECKS) + 2) + "|"
    for result in results:
        cells = (marks.get(cell, cell) for cell in result.cells.values())
        yield f"| {result.row.name} | {result.row.family} | {' | '.join(cells)} |"
    yield ""


def _reasons(marks: dict[str, str]) -> str:
    return ", ".join(f"{mark} {reason}" for reason, mark in marks.items())


def _errors(results: list[Result]) -> Iterator[str]:
    yield "## Errors"
    yield ""
    yield "| architecture | what the error says |"
    yield "|---|---|"
    for result in results:
        if result.row.error is not None:
            yield f"| {result.row.name} | `{result.row.error}` |"
    yield ""


def _strengths(results: list[Result]) -> Iterator[str]:
    yield "## Strength"
    yield ""
    yield (
        f"Noise-to-signal at alpha {ALPHA:g} on the row's batch. The weights are random and the models tiny: compare "
        "the two columns, not the numbers with a trained model's."
    )
    yield ""
    yield "| architecture | family | noise on | at the embedding | at the first block | first block |"
    yield "|---|---|---|---|---|---|"
    for result in results:
        for strength in result.strengths:
            ratio = strength.block_noise_to_signal
            at_block = "not found" if ratio is None else f"{ratio:.2f}"
            block = "" if strength.block is None else f"`{strength.block}`"
            yield (
                f"| {result.row.name} | {result.row.family} | `{strength.embedding}` | "
                f"{strength.noise_to_signal:.2f} | {at_block} | {block} |"
            )
    yield ""


def main() -> int:
    """Run all rows, write the page; 1 if a check failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PAGE)
    output: Path = parser.parse_args().output
    # Other packages' deprecations; the tests are where they count.
    warnings.simplefilter("ignore", FutureWarning)
    results = [run_row(row) for row in ROWS]
    failed = [
        f"{result.row.name}, {heading}: {cell}"
        for result in results
        for heading, cell in result.cells.items()
        if cell.startswith("FAILED")
    ]
    if failed:
        print("\n".join(failed), file=sys.stderr)
        return 1
    write_text(output, page(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
