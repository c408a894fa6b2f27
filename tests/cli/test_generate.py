"""The verb generate: prompts of all kinds, files that resume after an interruption, and chats."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_neft.cli.main import main
from lightning_neft.cli.prompt_file import AnswerJournal, read_prompts
from lightning_neft.common.escaping import visible
from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.errors import ConfigError
from lightning_neft.generation.answering import Answerer
from lightning_neft.generation.sources import open_answerer

TINY = ["generate", "--model=tiny", "--template=alpaca", "--device=cpu", "--max-new-tokens=12"]
WORDS = ("cat", "dog", "a hen and a fox", "owl", "bee", "ant or fly", "cow")


@pytest.fixture
def prompts(folder: Path) -> str:
    rows = [{"instruction": f"What is the plural of {word}?"} for word in WORDS]
    (folder / "p.json").write_text(json.dumps(rows))
    return "p.json"


def expected(texts: list[str], template: str = "alpaca") -> list[str]:
    answerer = open_answerer("tiny", template=template, device="cpu")
    asked = [Conversation((Message("user", text),)) for text in texts]
    return [answerer.answers([one], max_new_tokens=12)[0].strip() for one in asked]


def outputs(path: str) -> list[str]:
    return [row["output"] for row in json.loads(Path(path).read_text())]


def line_of(printed: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith("lightning_neft:")]
    return line


def test_one_prompt_has_its_answer_on_the_standard_output(
    folder: Path, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    assert main([*TINY, "--prompt=What is the plural of cat?"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == expected(["What is the plural of cat?"])
    (line,) = [line for line in captured.err.splitlines() if "alpaca" in line]
    snapshot(line)


def test_a_file_of_answers_has_the_form_of_alpaca_eval(prompts: str, folder: Path) -> None:
    assert main([*TINY, "--input", prompts, "--output=deep/out.json", "--batch-size=3"]) == 0
    rows = json.loads((folder / "deep" / "out.json").read_text())
    questions = [f"What is the plural of {word}?" for word in WORDS]
    answers = expected(questions)
    assert rows == [
        {"instruction": question, "output": answer, "generator": "tiny", "dataset": "p"}
        for question, answer in zip(questions, answers, strict=True)
    ]
    assert [path.name for path in (folder / "deep").iterdir()] == ["out.json"]


@pytest.mark.parametrize(
    ("text", "last", "reference", "dataset"),
    [
        ('[{"instruction": "Add.", "input": "1 2"}]', Message("user", "Add.", "1 2"), "", "f"),
        ('{"instruction": "Add."}\n\n{"instruction": "Sub.", "input": ""}', Message("user", "Add."), "", "f"),
        ('{"prompt": "Add."}', Message("user", "Add."), "", "f"),
        ('{"prompt": "Add.", "completion": "3"}', Message("user", "Add."), "3", "f"),
        ('{"source": "Add."}', Message("user", "Add."), "", "f"),
        ('{"instruction": "Add.", "output": "3"}', Message("user", "Add."), "3", "f"),
        (
            '[{"instruction": "Add.", "output": "3", "generator": "g", "dataset": "koala"}]',
            Message("user", "Add."),
            "",
            "koala",
        ),
        (
            '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}, '
            '{"role": "user", "content": "Add."}]}',
            Message("user", "Add."),
            "",
            "f",
        ),
        ('{"conversations": [{"from": "human", "value": "Add."}, {"from": "gpt", "value": "3"}]}', None, "3", "f"),
        (
            '{"conversations": [{"from": "human", "value": "Add."}, {"from": "function_call", "value": '
            '"{\\"name\\": \\"add\\"}"}, {"from": "observation", "value": "3"}]}',
            Message("tool", "3", name="add"),
            "",
            "f",
        ),
    ],
)
def test_prompts_are_read_from_all_kinds_of_files(
    folder: Path, text: str, last: Message | None, reference: str, dataset: str
) -> None:
    (folder / "f.json").write_text(text)
    found = read_prompts("f.json")
    assert found[0].conversation.messages[-1] == (last or Message("user", "Add."))
    assert (found[0].reference, found[0].dataset) == (reference, dataset)
    assert len(found) == (2 if "Sub." in text else 1)
    row = found[0].to_json("out", "me")
    assert row.get("input") == ("1 2" if "1 2" in text else None)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[{"instruction": "a"}, {"instruction": 3}]', "f.json, record 2: 'instruction'"),
        ('{"instruction": "a"}\n{"instruction": " "}', "f.json, line 2:"),
        ('{"text": "a"}', "f.json, line 1:"),
        ('{"text": "a", "label": 1}', "f.json, line 1:"),
        ('{"a": "a"}', "f.json (a)"),
        ('[{"instruction": "a"', "f.json, line 1, column 21:"),
        ("[]", "f.json"),
        ("", "f.json"),
    ],
    ids=["number", "blank", "text", "text and label", "other columns", "truncated", "empty list", "empty file"],
)
def test_a_broken_file_of_prompts_is_reported_with_its_line(
    folder: Path, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None], text: str, where: str
) -> None:
    (folder / "f.json").write_text(text)
    assert main([*TINY, "--input=f.json", "--output=o.json"]) == 2
    line = line_of(capsys.readouterr().err)
    assert where in line
    snapshot(line.partition("broken JSON")[0])
    assert [path.name for path in folder.iterdir()] == ["f.json"]


class Interrupted:
    """Raises what Ctrl-C does after a number of answers, and counts the conversations that are asked about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.asked: list[int] = []
        original = Answerer.answers

        def answers(answerer: Answerer, conversations: Any, *, on_done: Any, **options: Any) -> list[str]:
            self.asked.append(len(conversations))
            done = []

            def count(index: int, answer: str) -> None:
                on_done(index, answer)
                done.append(index)
                if len(done) == after:
                    os.kill(os.getpid(), signal.SIGINT)

            return original(answerer, conversations, on_done=count, **options)

        monkeypatch.setattr(Answerer, "answers", answers)


def test_a_resumed_file_equals_the_uninterrupted_one(
    prompts: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    snapshot: Callable[[str], None],
) -> None:
    command = [*TINY, "--input", prompts, "--batch-size=1"]
    assert main([*command, "--output=whole.json"]) == 0
    broken = Interrupted(monkeypatch, after=3)
    capsys.readouterr()
    assert main([*command, "--output=o.json"]) == 130
    stopped = line_of(capsys.readouterr().err)
    assert "3 of 7" in stopped
    assert "o.json.partial.jsonl" in stopped
    assert not (folder / "o.json").exists()
    journal = folder / "o.json.partial.jsonl"
    # As after a kill in the middle of a line.
    journal.write_text(journal.read_text() + '{"index": 0, "outp')
    assert main([*command, "--output=o.json", "--max-new-tokens=5"]) == 2
    refusal = line_of(capsys.readouterr().err)
    assert "o.json.partial.jsonl holds 3 answers" in refusal
    assert "--overwrite" in refusal
    snapshot(f"{stopped}\n{refusal}")
    assert main([*command, "--output=o.json", "--batch-size=2"]) == 130
    assert main([*command, "--output=o.json"]) == 0
    assert broken.asked == [7, 4, 1]
    assert (folder / "o.json").read_bytes() == (folder / "whole.json").read_bytes()
    assert not journal.exists()


@pytest.mark.parametrize(
    "change",
    [["--template=vicuna"], ["--max-new-tokens=5"], ["--dtype=bfloat16"], ["--model=other"], ["--input=q.json"]],
)
def test_other_answers_are_never_mixed(
    prompts: str, folder: Path, monkeypatch: pytest.MonkeyPatch, change: list[str]
) -> None:
    other = open_answerer("tiny", template="alpaca", device="cpu")
    other.tokenizer.save_pretrained("other")
    other.model.save_pretrained("other")
    (folder / "q.json").write_text(json.dumps([{"instruction": word} for word in WORDS]))
    command = [*TINY, "--input", prompts, "--output=o.json", "--batch-size=1"]
    with monkeypatch.context() as patch:
        Interrupted(patch, after=2)
        assert main(command) == 130
        # Of a copy of the model the name is another one, and it is in the answers.
        assert main([*command, *change]) == 2
    assert main([*command, *change, "--overwrite"]) == 0
    assert len(outputs("o.json")) == len(WORDS)


def test_other_weights_under_the_same_name_are_another_model(
    prompts: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    answerer = open_answerer("tiny", template="alpaca", device="cpu")
    answerer.tokenizer.save_pretrained("m")
    answerer.model.save_pretrained("m")
    command = [*TINY, "--model=m", "--input", prompts, "--output=o.json", "--batch-size=1"]
    Interrupted(monkeypatch, after=2)
    assert main(command) == 130
    with torch.no_grad():
        answerer.model.model.layers[3].mlp.up_proj.weight.mul_(1.001)
    answerer.model.save_pretrained("m")
    assert main(command) == 2


def test_an_output_is_overwritten_only_on_request(
    prompts: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "o.json").write_text("mine")
    command = [*TINY, "--input", prompts, "--output=o.json", "--batch-size=1"]
    assert main(command) == 2
    assert re.search("--output o.json .*--overwrite", line_of(capsys.readouterr().err))
    with monkeypatch.context() as patch:
        Interrupted(patch, after=2)
        assert main([*command, "--overwrite"]) == 130
    assert (folder / "o.json").read_text() == "mine"
    counted = Interrupted(monkeypatch, after=100)
    assert main([*command, "--overwrite"]) == 0
    assert counted.asked == [5]
    assert len(outputs("o.json")) == 7


def test_a_file_that_is_no_journal_is_left_alone(folder: Path, snapshot: Callable[[str], None]) -> None:
    for text in ("[1]\n", '{"fingerprint": "x"}\n{"index": 1}\n', "hello\n"):
        (folder / "o.json.partial.jsonl").write_text(text)
        with pytest.raises(ConfigError, match=r"o\.json\.partial\.jsonl .*--output") as caught:
            AnswerJournal(folder / "o.json", "x", start_anew=True)
        snapshot(str(caught.value))
        assert (folder / "o.json.partial.jsonl").read_text() == text


def test_a_checkpoint_of_a_config_answers_as_its_model_folder(
    short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [*short, "--name=r", "--model.learning_rate=0.01", "--data.template=vicuna", "--model.lora.r=2"]
    assert main(["fit", *train, "--checkpoint.monitor=null"]) == 0
    capsys.readouterr()
    ask = ["--prompt=Say hen.", "--device=cpu", "--max-new-tokens=12"]
    assert main(["generate", *train, "--ckpt_path=last", *ask]) == 0
    trained = capsys.readouterr()
    assert "template vicuna" in trained.err
    assert main(["generate", "--model=runs/r/version_0/model", *ask]) == 0
    assert capsys.readouterr().out == trained.out
    assert main(["generate", *train, *ask]) == 0
    untrained = capsys.readouterr()
    assert "r (not trained): template vicuna" in untrained.err
    assert untrained.out != trained.out
    assert untrained.out.splitlines() == expected(["Say hen."], "vicuna")


def test_a_checkpoint_answers_whatever_tokens_its_data_added(
    short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = '[{"source": "data.json"}, {"source": "data.json", "template": "chatml"}]'
    mixed = [*short[1:], f"--data.sources={sources}", "--data.template=alpaca", "--name=r"]
    assert main(["fit", *mixed, "--checkpoint.monitor=null"]) == 0
    capsys.readouterr()
    ask = ["--prompt=Say hen.", "--device=cpu", "--max-new-tokens=12"]
    assert main(["generate", *mixed, "--ckpt_path=last", *ask]) == 0
    of_checkpoint = capsys.readouterr().out
    assert main(["generate", "--model=runs/r/version_0/model", *ask]) == 0
    assert capsys.readouterr().out == of_checkpoint
    # And with a template whose tokens the training did not have.
    plain = [*short, "--name=p"]
    assert main(["fit", *plain, "--data.template=alpaca"]) == 0
    assert main(["generate", *plain, "--ckpt_path=last", "--template=chatml", *ask]) == 0


def chat(lines: str, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    return main([*TINY, *options])


def test_a_chat_through_a_pipe_keeps_what_was_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    asked: list[list[str]] = []
    original = Answerer.stream

    def stream(answerer: Answerer, conversation: Conversation, *args: Any, **options: Any) -> str:
        asked.append([message.content for message in conversation.messages])
        return original(answerer, conversation, *args, **options)

    monkeypatch.setattr(Answerer, "stream", stream)
    assert chat("Hi there\n\n And so?\n/reset\nAgain\n/what\n/quit\nnever\n", monkeypatch) == 0
    printed = capsys.readouterr().out
    (first,) = expected(["Hi there"])
    assert [first, *asked[1]][1::2] == ["Hi there", "And so?"]
    assert asked[1][1].strip() == first
    assert asked[2] == ["Again"]
    assert len(asked) == 3
    assert f"you> Hi there\n{first}\nyou> And so?\n" in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("there ")]
    assert "/reset" in line
    snapshot(line)


def test_a_chat_continues_after_ctrl_c_and_a_long_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, ...]] = []
    original = Answerer.stream

    def stream(answerer: Answerer, conversation: Conversation, show: Any, **options: Any) -> str:
        seen.append(tuple(message.content for message in conversation.messages))
        if len(seen) == 1:
            show(" Half of[red] it")
            raise KeyboardInterrupt
        return original(answerer, conversation, show, **options)

    monkeypatch.setattr(Answerer, "stream", stream)
    assert chat(f"One\nTwo\n{'long ' * 2000}\nThree\n", monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "Half of[red] it (stopped)\n" in printed
    assert seen[1] == ("One", " Half of[red] it", "Two")
    assert re.search("1024 positions of tiny; .*/reset", printed)
    assert len(seen[3]) == len(seen[2])
    assert seen[3][-1] == "Three"


def test_an_answer_cannot_steer_the_terminal() -> None:
    assert visible("a\x1b[2J\x07b\r\n\tc\u202e\x9b") == "a[U+001B][2J[U+0007]b\n\tc[U+202E][U+009B]"


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ("", "--model --config --ckpt_path"),
        ("--model=tiny", "tiny --template alpaca"),
        ("--model=tiny --template=alpaca --input=p.json", "--input --output"),
        ("--model=tiny --output=o.json", "--output --input"),
        ("--model=tiny --prompt=a --input=b --output=c", "--prompt --input"),
        ("--model=tiny --prompt=", "--prompt"),
        ("--model=tiny --batch-size=0", "--batch-size 0"),
        ("--model=tiny --max-new-tokens=x", "--max-new-tokens 'x'"),
        ("--model=tiny --promt=a", "--promt --prompt?"),
        ("--model=tiny --data.source=a", "--data.source=a --model"),
        ("--model=tiny --input=p.json --output=p.json", "--output p.json"),
        ("--model=tiny --input=p.json --output=.", "--output ."),
        ("--model=tiny --input=n.json --output=o.json", "n.json"),
        ("--config=quickstart --ckpt_path=last --prompt=a", "--ckpt_path runs/quickstart"),
        ("--config=quickstart --data.sorce=a", "data.sorce data.source?"),
    ],
)
def test_a_mistake_is_one_line(
    args: str,
    names: str,
    prompts: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    snapshot: Callable[[str], None],
) -> None:
    assert main(["generate", *args.split()]) == 2
    line = line_of(capsys.readouterr().err)
    assert [name for name in names.split() if name not in line] == []
    snapshot(line)
    assert [path.name for path in folder.iterdir()] == ["p.json"]


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert main([*TINY, *options]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(printed)
    return printed[-1]


def test_a_prompt_that_is_not_utf8_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    # As Python reads the bytes FF and FE of a command line.
    line = refused(capsys, "--prompt=Hi \udcff\udcfe")
    assert r"--prompt=Hi \udcff\udcfe" in line
    snapshot(line)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_chat_with_a_closed_input_is_refused_at_once(
    is_there: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    snapshot: Callable[[str], None],
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stdin", closed if is_there else None)
    monkeypatch.setattr(Answerer, "__init__", lambda *_, **__: pytest.fail("loads the model"))
    line = refused(capsys)
    assert "--prompt" in line
    snapshot(line)


def test_a_chat_whose_input_cannot_be_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    with os.fdopen(os.open(os.devnull, os.O_WRONLY), encoding="utf-8") as unreadable:
        monkeypatch.setattr("sys.stdin", unreadable)
        line = refused(capsys)
        assert "Bad file descriptor; give --prompt" in line
        snapshot(line)


def test_a_chat_skips_a_message_that_is_not_utf8(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"Hi \xff\xfe\n\xed\xa0\x80\n\nHi there\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", lines)
    assert main(TINY) == 0
    printed = capsys.readouterr().out
    assert printed.count("UTF-8;") == 2
    assert expected(["Hi there"])[0] in printed
