"""What a terminal does in the meantime: Ctrl-C, a new width, no colours, no escape sequences, wide characters."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from terminal.conftest import SHORT
from terminal.shown import Shown, Typed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("terminal")]

ENDLESS = f"{SHORT} --trainer.max_epochs=-1 --trainer.max_steps=100000"


def test_ctrl_c_ends_a_fit_with_one_line_and_the_cursor_back(in_terminal: Callable[..., Shown]) -> None:
    shown = in_terminal(f"fit {ENDLESS} --name=stopped", typed=[Typed("noise-to-signal", "\x03")])
    assert shown.code == 130
    assert shown.has_cursor
    assert "Traceback" not in shown.text
    assert re.search(r"^lightning_neft: stopped by SIGINT after step \d+; to resume", shown.text, re.MULTILINE)
    # Without a number of epochs Lightning would count them down from -2.
    assert "Epoch 0 " in shown.text


def test_ctrl_c_ends_a_study_with_one_line_and_the_cursor_back(in_terminal: Callable[..., Shown]) -> None:
    line = f"study {ENDLESS} --alphas=0,5 --seeds=1 --answers=0 --out=stopped"
    shown = in_terminal(line, typed=[Typed(": started", "\x03")])
    assert shown.code == 130, shown.text
    assert shown.has_cursor
    assert "Traceback" not in shown.text
    assert "\nlightning_neft: study stopped by SIGINT; alpha 0, seed 0 is saved" in shown.text


def test_the_bar_stays_on_one_line_in_a_narrower_terminal(in_terminal: Callable[..., Shown]) -> None:
    line = f"fit {SHORT} --trainer.max_epochs=-1 --trainer.max_steps=8 --name=resized"
    shown = in_terminal(line, 120, typed=[Typed("noise-to-signal", columns=80)])
    assert shown.code == 0
    # One that was drawn for the old width may be left.
    *left, bar = [line for line in shown.text.splitlines() if line.startswith("Epoch ")]
    assert len(left) <= 1
    assert re.search(r"train/loss: [\d.]+ val/loss: [\d.]+$", bar)


def test_without_colours_there_are_none(in_terminal: Callable[..., Shown]) -> None:
    line = f"preview {SHORT} --samples=1"
    assert re.search(r"\x1b\[[\d;]*3\dm", in_terminal(line).raw)
    assert not re.search(r"\x1b\[[\d;]*[34]\d[\d;]*m", in_terminal(line, environment={"NO_COLOR": "1"}).raw)


def test_a_dumb_terminal_gets_text_alone(in_terminal: Callable[..., Shown]) -> None:
    shown = in_terminal(f"fit {SHORT} --name=dumb", environment={"TERM": "dumb"})
    assert shown.code == 0
    assert "\x1b" not in shown.raw
    assert "run folder  runs/dumb/version_0\n" in shown.text


@pytest.mark.parametrize("columns", [80, 120])
def test_frames_around_wide_characters_are_straight(in_terminal: Callable[..., Shown], columns: int) -> None:
    shown = in_terminal(f"preview {SHORT} --samples=1 --data.source=wide.json", columns)
    assert "猫は静かです。" in shown.text
    assert {cell_len(line) for line in shown.text.splitlines() if line[0] in "╭│╰"} == {columns}
