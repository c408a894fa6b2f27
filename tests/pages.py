"""The pages in docs/, the code blocks in them, and the scripts that stand beside them."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

# `[text](target)` over a line's end too, not in code.
LINK = re.compile(r"\[[^\]`]*(?:`[^`]*`[^\]`]*)*\]\(([^)\s]+)\)")
# Hosts that pages may lead to, and what addresses there look like. `make linkcheck` asks them, on a network.
HOSTS = {
    "arxiv.org": r"/abs/\d{4}\.\d{5}",
    "github.com": r"/[\w-]+/[\w.-]+(/(issues|pull)/\d+|/security/advisories/GHSA(-\w{4}){3})?",
    "huggingface.co": r"/(datasets/)?[\w-]+/[\w.-]+",
    "img.shields.io": r"/badge/[\w.%-]+",
    "keepachangelog.com": r"/en/1\.1\.0/",
    "raw.githubusercontent.com": r"/[\w-]+/[\w.-]+/[0-9a-f]{40}/[\w./-]+",
    "semver.org": r"/spec/v2\.0\.0\.html",
    "www.contributor-covenant.org": r"/version/2/1/code_of_conduct/",
}
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


def script(path: Path) -> ModuleType:
    """The module of a file that is in no package; it may import those beside it."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look there
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def extension(name: str) -> ModuleType:
    """One of those that sphinx is given for the site."""
    return script(DOCS / "_ext" / f"{name}.py")


def is_reviewed(address: str) -> bool:
    """Whether an address is on a host of the list and looks as addresses there do."""
    scheme, host, path, *rest = urlsplit(address)
    return scheme == "https" and not any(rest) and re.fullmatch(HOSTS.get(host, "-"), path) is not None
