"""Help of the verb report."""

from __future__ import annotations

__all__ = ["text"]

_TEXT = """\
lightning_neft report: {what}

usage: lightning_neft report RESULT... [--out FOLDER_OR_HTML] [--title TEXT] [--overwrite]

RESULT is a file that evaluate or study wrote, or a file of answers (a JSON list of instruction, output, generator, as
generate writes it and AlpacaEval reads it). Give as many as belong together: answers of several files are shown side by
side, each compared with those of the first file. A section appears where there are data for it.

  --out PATH               the page, if it ends in .html, or the folder for a page named report.html (report.html)
  --title TEXT             title of the page
  --overwrite              replace files that are not an earlier page of the same RESULTs

The page is one file that needs no network; each of its plots is also a PNG file beside it.
Needs the extra study: pip install 'lightning-neft[study]'

examples
  lightning_neft report runs/study-quickstart/study.json --out page
  lightning_neft report alpha0.json alpha5.json win_rate.json --title "Does noise help here?\""""


def text(verb: str, what: str) -> str:
    """Return the help of the verb, which does what the line says."""
    return _TEXT.format(what=what)
