"""Code blocks of the pages in docs/, and a way to run a page from its first block to its last."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    text: str
    line: int
    """Line of the page on which the text begins."""
    says: str | None
    """What the page shows as its output: the `text` block right behind it."""


def blocks(page: Path) -> list[Block]:
    """Fenced blocks in their order; an output belongs to the block before it."""
    content = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = 0
    for fence in _FENCE.finditer(content):
        language, text = fence.groups()
        if language == "text" and not content[end : fence.start()].strip() and found:
            found[-1] = found[-1]._replace(says=text)
        else:
            found.append(Block(language, text, content.count("\n", 0, fence.start(2)) + 1, None))
        end = fence.end()
    return found


def commands(block: Block) -> list[list[str]]:
    """The command lines of a console block, behind their `$`."""
    lines = [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in lines]
