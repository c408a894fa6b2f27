"""The Alpaca prompts, letter by letter as the authors' data preparation writes them."""

from __future__ import annotations

from lightning_neft.data.sample import Sample
from lightning_neft.data.template import AlpacaTemplate


def test_the_form_with_an_input() -> None:
    assert AlpacaTemplate().prompt(Sample("Name it.", "A {red} fruit.", "Apple")) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n"
        "\n"
        "### Instruction:\n"
        "Name it.\n"
        "\n"
        "### Input:\n"
        "A {red} fruit.\n"
        "\n"
        "### Response:"
    )


def test_the_form_without_an_input() -> None:
    assert AlpacaTemplate().prompt(Sample("Name {a} fruit.", "", "Apple")) == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n"
        "\n"
        "### Instruction:\n"
        "Name {a} fruit.\n"
        "\n"
        "### Response:"
    )
