"""What lies around the package: the workflows do what .ci/run does, and versions, links and counts are right."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_neft import __version__
from lightning_neft.data.catalogue import catalogue
from lightning_neft.data.formats.registry import FORMATS
from lightning_neft.data.templates.registry import TEMPLATES
from lightning_neft.recipes.recipe import load_recipes
from matrix.architectures import ROWS
from pages import DOCS, ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(file for file in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if file.stem != "config")


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def jobs(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = read(file)["jobs"]
    return found


def steps(file: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(file).values():
        yield from job["steps"]


def lines(script: Path) -> list[str]:
    """The commands of a shell script that is a list of them, without its head; one for each target of make."""
    text = [line.strip() for line in script.read_text(encoding="utf-8").splitlines()]
    commands = [line for line in text if line and not line.startswith(("#", "set ", "cd "))]
    return [part for command in commands for part in _targets(command)]


def _targets(command: str) -> list[str]:
    program, *words = command.split()
    return [f"make {word}" for word in words if not word.startswith("-")] if program == "make" else [command]


def test_the_workflow_has_the_commands_of_the_script() -> None:
    workflow = [step["run"].removeprefix("sudo ") for step in steps(GITHUB / "workflows" / "ci.yml") if "run" in step]
    assert sorted(workflow) == sorted(lines(ROOT / ".ci" / "run"))
    assert "make test" in workflow


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_what_a_workflow_calls_is_there(file: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for step in steps(file):
        command = step.get("run", "")
        if called := re.search(r"\bmake ([\w-]+)", command):
            assert called[1] in targets, command
        if called := re.search(r"\.ci/\w+", command):
            assert (ROOT / called[0]).stat().st_mode & 0o100, command


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_may_only_read_and_its_actions_are_fixed(file: Path) -> None:
    assert read(file)["permissions"] == {"contents": "read"}
    for job in jobs(file).values():
        assert job.get("permissions") in (None, {"id-token": "write"})
        assert job["timeout-minutes"]
    actions = [step["uses"] for step in steps(file) if "uses" in step]
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []


def test_only_the_job_that_publishes_can_ask_pypi() -> None:
    release = jobs(GITHUB / "workflows" / "release.yml")
    allowed = [name for name, job in release.items() if "permissions" in job]
    assert allowed == ["publish"]
    # It runs nothing of the repository: what it uploads was built and tested by the other.
    assert [step for step in release["publish"]["steps"] if "run" in step] == []
    assert release["publish"]["needs"] == "build"


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.stem)
def test_a_form_asks_for_something(file: Path) -> None:
    form = read(file)
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) >= 2
    assert any(field["validations"]["required"] for field in form["body"] if "validations" in field)


def test_the_citation_has_this_version() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["version"] == __version__
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2310.05914"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
@pytest.mark.parametrize(
    ("tag", "changelog", "readme", "says"),
    [
        (f"v{__version__}", f"## {__version__}\n", "no link\n", ""),
        ("v99", f"## {__version__}\n", "no link\n", f"tag v99, but _version.py has {__version__}"),
        (f"v{__version__}", "## Unreleased\n", "no link\n", f"CHANGELOG.md has no section for {__version__}"),
        (f"v{__version__}", f"## {__version__}\n", "[page](docs/study.md)\n", "relative links, which lead nowhere"),
    ],
    ids=["ready", "tag", "changelog", "links"],
)
def test_a_release_that_is_not_ready_is_stopped(
    tmp_path: Path, tag: str, changelog: str, readme: str, says: str
) -> None:
    for name, text in {
        ".ci/release": (ROOT / ".ci" / "release").read_text(encoding="utf-8"),
        "src/lightning_neft/_version.py": f'__version__ = "{__version__}"\n',
        "CHANGELOG.md": changelog,
        "README.md": readme,
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    done = subprocess.run(["bash", str(tmp_path / ".ci" / "release"), tag], capture_output=True, text=True)
    assert done.returncode == bool(says)
    assert says in done.stderr


_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
# What README, changelog and docs count, with a number or a word: the noun, and the count of the code.
COUNTS = {
    "architectures": len(ROWS),
    "datasets": len(catalogue()),
    "(?:data )?formats": len(FORMATS),
    "recipes": len(load_recipes()),
    "templates": len(TEMPLATES),
}


def _counts(noun: str) -> list[tuple[str, int]]:
    """All counts of a noun in the texts: the file, and the number."""
    # The pages of recipes are generated.
    pages = [page for page in DOCS.rglob("*.md") if not {"_build", "recipes"} & {part.name for part in page.parents}]
    files = [ROOT / "README.md", ROOT / "CHANGELOG.md", *pages]
    pattern = re.compile(rf"\b([0-9]+|{'|'.join(_WORDS)})\s+{noun}\b", re.IGNORECASE)
    return [
        (file.name, int(word) if word.isdecimal() else _WORDS.index(word.lower()) + 1)
        for file in files
        for word in pattern.findall(file.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("noun", COUNTS)
def test_a_count_in_the_texts_is_that_of_the_code(noun: str) -> None:
    stated = _counts(noun)
    assert stated
    assert [(file, count) for file, count in stated if count != COUNTS[noun]] == []


def test_the_readme_is_short() -> None:
    words = (ROOT / "README.md").read_text(encoding="utf-8").split()
    # Without the lines and bars of tables.
    assert len([word for word in words if any(map(str.isalnum, word))]) < 700


def test_the_table_of_recipes_counts_each_status() -> None:
    kinds = [recipe.status.kind for recipe in load_recipes()]
    counts = {kind: kinds.count(kind) for kind in ("executed", "smoke")}
    line = f"{len(kinds)} recipes: {counts['executed']} executed, {counts['smoke']} smoke."
    assert line in (DOCS / "recipes.md").read_text(encoding="utf-8")


def test_names_of_tests_are_short():
    files = (ROOT / "tests").rglob("test_*.py")
    names = [name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)]
    assert len(names) > 1000
    assert [name for name in names if len(name) > 60] == []
