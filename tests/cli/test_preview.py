"""The verb preview: what it shows of the data, and that it loads no weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_neft.cli.main import main
from lightning_neft.models.language_models import CausalLM


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: CausalLM) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(CausalLM, "configure_model", refuse)


@pytest.fixture
def conversations(folder: Path) -> str:
    turns = [
        {"from": "human", "value": "Say cat."},
        {"from": "gpt", "value": "cat"},
        {"from": "human", "value": "And dog?"},
        {"from": "gpt", "value": "dog it is"},
    ]
    empty = [{"from": "human", "value": "Hm?"}, {"from": "gpt", "value": ""}]
    rows = [{"conversations": turns}] * 5 + [{"conversations": empty}]
    (folder / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "talk.jsonl"


def test_it_shows_what_is_trained_and_what_is_not(conversations: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["preview", f"--data.source={conversations}", "--samples=1", "--data.val_size=0", "--data.max_length=300"]
    assert main(args) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "format sharegpt, template vicuna, task causal_lm" in printed
    assert "USER: Say cat. ASSISTANT:>>> cat</s><<<USER: And dog? ASSISTANT:>>> dog it is</s><<<" in printed
    assert "1 of 6 samples dropped: empty answer" in printed
    assert "training data: 5 samples" in printed
    assert "length_grouped (chosen)" in printed


def test_it_shows_untrained_answers_reasoning_and_tools(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}
    turns = [
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": "I forgot.", "weight": 0},
        {"role": "user", "content": "Look."},
        {**called, "reasoning_content": "A clock."},
        {"role": "tool", "content": "12:00"},
        {"role": "assistant", "content": "Noon."},
    ]
    record = {"messages": turns, "tools": [{"name": "now"}], "lang": "en"}
    (folder / "talk.jsonl").write_text((json.dumps(record) + "\n") * 3)
    args = ["preview", "--data.source=talk.jsonl", "--samples=1", "--data.val_size=0", "--data.max_length=500"]
    assert main(args) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert '<tools> {"type": "function", "function": {"name": "now"}} </tools>' in printed
    assert "assistant I forgot.<|im_end|> <|im_start|>user" in printed
    call = '<tool_call> {"name": "now", "arguments": {}} </tool_call>'
    assert f">>><think> A clock. </think> {call}<|im_end|><<<" in printed
    assert "<tool_response> 12:00 </tool_response>" in printed
    assert " 1 answer marked as untrained " in printed
    assert "training data: ignored: lang in 3 of 3 records" in printed
    assert main([*args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"][0]["marked_untrained"] == 1


def test_the_object_for_programs_has_the_numbers(conversations: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["preview", f"--data.source={conversations}", "--json", "--data.val_size=2", "--data.batching=packed"]
    assert main(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["template"], found["batching"]) == ("sharegpt", "vicuna", "packed")
    assert found["train"]["samples"] + found["held_out"]["samples"] == 5
    assert found["train"]["tokens"] == found["train"]["samples"] * found["train"]["longest"]
    assert set(found["padding"]) == {"random", "length_grouped", "packed", "flat"}
    assert found["padding"]["flat"]["share"] == 0
    (first, *_) = found["samples"]
    trained = [part["text"] for part in first["parts"] if part["trained"]]
    assert trained == [" cat</s>", " dog it is</s>"]
    assert sum(part["count"] for part in found["train"]["bins"]) == found["train"]["samples"]


def test_classes_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"fine {i},good\nbad {i},poor\n" for i in range(4))
    (folder / "texts.csv").write_text(f"text,label\n{rows}")
    args = ["preview", "--task=sequence_classification", "--data.source=texts.csv", "--data.val_size=0", "--samples=1"]
    assert main(args) == 0
    printed = capsys.readouterr().out
    assert "classes: good, poor" in printed
    assert ">>> good<<<" in printed
    assert "packed" not in printed


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "preview needs data to look at: --config FILE_OR_RECIPE, or --data.source PATH"),
        (["--data.source=nowhere.json"], "nowhere.json does not exist"),
        (["--config=quickstart", "--data.sourc=x"], "command line: unknown key data.sourc; did you mean data.source?"),
    ],
)
def test_what_is_wrong_is_one_line(
    args: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview", *args]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lightning_neft: ")]
    assert message in line


def test_a_sample_does_not_steer_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("d.json").write_text(json.dumps([{"instruction": "a\x1b[2Jb", "output": "c\nd"}] * 3))
    assert main(["preview", "--data.source=d.json", "--data.val_size=0"]) == 0
    shown = capsys.readouterr().out
    assert r"a\x1b[2Jb" in shown
    assert "\x1b[2J" not in shown


def test_the_batch_is_no_larger_than_a_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", "--config=quickstart", "--global_batch_size=2", "--samples=0"]) == 0
    assert "batch of 2 x " in capsys.readouterr().out
