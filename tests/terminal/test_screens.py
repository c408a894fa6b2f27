"""Each verb in a terminal of 80 and of 120 columns: the screen that it leaves, compared with `screens/`.

The screens are written anew with `WRITE_SCREENS=1 python -m pytest tests/terminal/test_screens.py`; look at the
difference before it is committed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from terminal.conftest import SHORT
from terminal.shown import Shown, Typed

# On one worker: it has the run, and the process that all of these are forked from.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("terminal")]

SCREENS = Path(__file__).parent / "screens"
RUN = "runs/first/version_0"
LAST = f"{RUN}/checkpoints/last.ckpt"
# Name of the screen: the command line, with the width where what it writes has to have a name of its own.
LINES = {
    "validate": f"validate {SHORT} --name=validate-WIDTH --ckpt_path={LAST}",
    "test": f"test {SHORT} --name=test-WIDTH --ckpt_path={LAST}",
    "predict": f"predict {SHORT} --name=predict-WIDTH --ckpt_path={LAST} --trainer.limit_predict_batches=1",
    "recipes-list": "recipes list",
    "recipes-show": "recipes show quickstart",
    "recipes-copy": "recipes copy quickstart mine-WIDTH.yaml",
    "preview": f"preview {SHORT} --samples=2",
    "doctor": f"doctor {SHORT}",
    "study": f"study {SHORT} --alphas=0,5 --seeds=1 --answers=0 --out=study-WIDTH",
    "generate-prompt": f"generate --model {RUN}/model --prompt Hello --max-new-tokens 4 --device cpu",
    "generate-file": f"generate --model {RUN}/model --input prompts.json --output answers-WIDTH.json "
    "--max-new-tokens 4 --device cpu",
    "evaluate-outputs": "evaluate --outputs answers.json --tokenizer tiny --out texts-WIDTH.json",
    "evaluate-clean-loss": f"evaluate --clean-loss --config {RUN}/config.yaml --ckpt_path {LAST} --out loss-WIDTH.json",
    "report": "report answers.json others.json --out page-WIDTH.html",
    "export": f"export --model {RUN} --output exported-WIDTH",
    "help": "--help",
    "help-of-a-verb": "generate --help",
    "error": "fit --config quickstart --trainer.max_step 3",
}
# What depends on the machine, its load or the last digits of a sum. Digits are masked one by one: columns stay in line.
MASKS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"(Loading weights|Writing model shards): 100%.*", r"\1: 100%"),
    (r"quickstart \(/[^)]*\)", "quickstart (PATH)"),
    (
        r"\d+ s(, held-out loss [\d.]+; 1 of 2 arms left, about )\d+\s+s\s+for\s+one\s+worker",
        r"# s\1# s for one worker",
    ),
    (r"│(?=.{27}│$) +[\d.]+ +│$", f"│{'#.#':^27}│"),
    (r"done in \d+ s", "done in # s"),
    (r"\d+(:\d\d)+ • [-\d]+(:[-\d]{2})+", "#:##:## • #:##:##"),
    (r"[-\d]+:[-\d]{2}:[-\d]{2}", "#:##:##"),
    (r"[\d.]+ answers/s", "#.# answers/s"),
    (r"\d+\.\d+(e[+-]\d+)?", lambda found: re.sub(r"\d", "#", found[0])),
)


# Screens whose numbers come from no model.
SURE = ("recipes", "preview", "help", "error")


def masked(text: str, is_sure: bool) -> str:
    """A screen without what another machine would show differently."""
    for pattern, replacement in MASKS[: -1 if is_sure else None]:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def compare(name: str, columns: int, shown: Shown) -> None:
    """Compare a screen with the expected one, or write it anew if asked to."""
    assert shown.has_cursor
    assert max(map(len, shown.text.splitlines())) <= columns
    file, text = SCREENS / f"{name}-{columns}.txt", masked(shown.text, name.startswith(SURE))
    if os.environ.get("WRITE_SCREENS"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_screen_of_a_fit(fits: dict[int, Shown], columns: int) -> None:
    assert fits[columns].code == 0
    compare("fit", columns, fits[columns])


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", LINES)
def test_the_screen_of_a_verb(
    fits: dict[int, Shown], in_terminal: Callable[..., Shown], name: str, columns: int
) -> None:
    shown = in_terminal(LINES[name].replace("WIDTH", str(columns)), columns)
    assert shown.code == (2 if name == "error" else 0), shown.text
    compare(name, columns, shown)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_screen_of_a_chat(fits: dict[int, Shown], in_terminal: Callable[..., Shown], columns: int) -> None:
    typed = [Typed("you>", "Hello\n"), Typed("you>", "/quit\n")]
    shown = in_terminal(f"generate --model {RUN}/model --max-new-tokens 4 --device cpu", columns, typed=typed)
    assert shown.code == 0, shown.text
    compare("generate-chat", columns, shown)


def test_there_is_no_screen_without_a_test() -> None:
    names = {"fit", "generate-chat", *LINES}
    assert {file.name for file in SCREENS.iterdir()} == {f"{name}-{width}.txt" for name in names for width in (80, 120)}
