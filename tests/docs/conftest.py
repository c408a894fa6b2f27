"""The built site, once for all tests that look at it; those are in one xdist group, so that one worker has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pages import DOCS, ROOT

BUILT = DOCS / "_build" / "html"


def is_current(site: Path) -> bool:
    """Whether nothing that pages are made of has changed since `make docs`."""
    made = site / "searchindex.js"
    sources = (path for folder in ("docs", "recipes", "src") for path in (ROOT / folder).rglob("*.*"))
    of_pages = (path for path in sources if not {"_build", "__pycache__"} & set(path.parts))
    return made.is_file() and all(path.stat().st_mtime < made.stat().st_mtime for path in of_pages)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its pages: what `make docs` has made, or built now in the same way, with warnings as errors."""
    if is_current(BUILT):
        return BUILT
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html", str(DOCS), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder
