"""The page about the verb shows its output and names all keys of its JSON."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lightning_neft.cli.main import main
from lightning_neft.doctor.report import Advice, BatchReport, DoctorReport, EmbeddingReport, LengthReport, ModelReport

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```console\n\$ lightning_neft (.+)\n([\s\S]+?)\n```", PAGE)


@pytest.fixture
def printed(capsys, monkeypatch):
    """Runs a command at the width of the page."""

    def run(command):
        monkeypatch.setenv("COLUMNS", "80")
        assert main(command.split()) == 0
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return run


def test_the_page_shows_the_output_for_a_model(printed):
    [(command, output)] = [(c, o) for c, o in EXAMPLES if "--model" in c]
    assert printed(command) == output.splitlines()


def test_the_page_shows_the_output_for_a_config(printed):
    """Numbers are not compared: they depend on the order of the data."""
    [(command, output)] = [(c, o) for c, o in EXAMPLES if "--config" in c]
    assert _without_numbers("\n".join(printed(command))) == _without_numbers(output)


def _without_numbers(text):
    return " ".join(re.sub(r"\d[\d,.]*\d|\d", "0", text).split())


@pytest.mark.parametrize("report", [DoctorReport, ModelReport, BatchReport, EmbeddingReport, LengthReport, Advice])
def test_all_keys_are_named(report):
    table = PAGE.partition("## JSON")[2]
    assert {field.name for field in fields(report)} <= set(re.findall(r"`(\w+)`", table))
