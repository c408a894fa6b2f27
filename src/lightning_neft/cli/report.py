"""The verb report: one HTML page from results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_neft.cli.arguments import VerbParser

__all__ = ["run"]


def run(verb: str, args: Sequence[str]) -> None:
    """Run the verb.

    Args:
        verb: report.
        args: The command line after it.

    Raises:
        ConfigError: An option is wrong, or the extra study is missing.
        DataError: A file cannot be read, or is neither a result nor an answer file.
    """
    parser = VerbParser(verb)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT")
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    parser.add_argument("--title")
    parser.add_argument("--overwrite", action="store_true")
    options = parser.parse(args)
    # These imports take a second.
    from lightning_neft.report.page import write_report

    written = write_report(options.results, options.out, options.title, overwrite=options.overwrite)
    size = written.page.stat().st_size / 1e6
    print(f"{written.page} ({size:.1f} MB), and {len(written.plots)} plots as PNG files next to it")
