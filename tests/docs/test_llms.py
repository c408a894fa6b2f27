"""llms.txt: each of its links leads to a page of the site or to a file beside it."""

from __future__ import annotations

import re

from pages import DOCS, ROOT

TEXT = (DOCS / "_static_root" / "llms.txt").read_text(encoding="utf-8")


def test_links_of_llms_txt_lead_somewhere() -> None:
    links = re.findall(r"^- \[[^]]+\]\(([^)]+)\): ", TEXT, re.MULTILINE)
    assert len(links) > 10
    pages = [DOCS / link.replace(".html", ".md") for link in links if link.endswith(".html")]
    files = [ROOT / "recipes" / link for link in links if not link.endswith(".html")]
    assert [path for path in (*pages, *files) if not path.is_file()] == []


def test_llms_txt_begins_as_llmstxt_org_says() -> None:
    title, _, quote = TEXT.splitlines()[:3]
    assert title == "# lightning_neft"
    assert quote.startswith("> ")
