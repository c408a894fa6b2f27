"""`evaluate --judge`: a whole run against a server on this machine, its files, its second stage and its errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from judge_server import JudgeServer, running
from lightning_neft.cli.main import main

KEY = "sk-planted-1234567890"
INSTRUCTIONS = [f"Question {index}?" for index in range(10)]


def write(path: Path, generator: str, lengths: list[int]) -> str:
    records = [
        {"instruction": instruction, "output": generator[0] * length, "generator": generator, "dataset": "toy"}
        for instruction, length in zip(INSTRUCTIONS, lengths, strict=False)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(records))
    return str(path)


@pytest.fixture
def files(folder: Path) -> dict[str, str]:
    """The baseline has 50 characters each time; longer answers win, and so does the first of about equal ones."""
    return {
        "baseline": write(folder / "baseline.json", "base", [50] * 10),
        "plain": write(folder / "plain.json", "plain", [90, 80, 52, 10, 20, 30, 5, 8, 9, 11]),
        "noisy": write(folder / "noisy.json", "noisy", [90, 80, 52, 49, 120, 100, 5, 8, 9, 11]),
    }


def judged(server: JudgeServer, files: dict[str, str], *more: str, outputs: str = "plain") -> list[str]:
    chosen = [files[name] for name in outputs.split()]
    options = ["--baseline", files["baseline"], "--judge", "cheap", "--judge-url", server.url, "--timeout", "0.3"]
    return ["evaluate", "--outputs", *chosen, *options, *more]


def test_the_baseline_s_own_outputs_are_draws_without_a_request(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with running(JudgeServer()) as server:
        assert main(judged(server, files, outputs="baseline")) == 0
    printed = capsys.readouterr()
    assert "0 requests to send" in printed.err
    assert "10 pairs of identical answers" in printed.out
    assert not server.answered


def test_a_run_writes_result_and_annotations_that_agree(
    files: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(JudgeServer()) as server:
        assert main(judged(server, files, "--price-input", "10", "--price-output", "30")) == 0
    printed = capsys.readouterr()
    assert "judge cheap: 10 pairs in both orders, 20 requests to send" in printed.err
    assert "plain against base, judged by cheap: 10 pairs, 2 wins, 7 losses, 1 draws" in printed.out
    # 20 requests of 100 and 2 tokens.
    assert "sent in this run: 20 of 20 requests, 2000 tokens read, 40 written, cost 0.0212" in printed.out
    found = json.loads((folder / "results/plain-win_rate.json").read_text())
    assert found["per_sample"] == [1, 1, 0.5, 0, 0, 0, 0, 0, 0, 0]
    assert (found["win_rate"], found["n_inconsistent"], found["n_malformed"]) == (25.0, 1, 0)
    assert (found["mean_characters"], found["baseline_mean_characters"]) == (31.5, 50)
    assert found["length_controlled_reason"]
    assert found["usage"] == found["usage_this_run"]
    assert found["usage"]["cost"] == pytest.approx(0.0212)
    assert found["provenance"]["settings"]["prompt"] == "pairwise_v1"
    assert [source["role"] for source in found["provenance"]["inputs"]] == ["outputs", "baseline"]

    annotations = folder / "results/plain-cheap-annotations.json"
    (first, *_) = json.loads(annotations.read_text())
    assert first == {
        "instruction": "Question 0?",
        "output_1": "b" * 50,
        "generator_1": "base",
        "output_2": "p" * 90,
        "generator_2": "plain",
        "dataset": "toy",
        "annotator": "cheap",
        "preference": 2.0,
    }
    assert main(["evaluate", "--annotations", str(annotations), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    for name in ("win_rate", "standard_error", "n_wins", "n_losses", "n_draws", "per_sample", "mean_characters"):
        assert again[name] == found[name]


def test_a_judge_who_goes_by_the_order_alone_is_called_that(
    files: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "plain.json", "plain", [50] * 10)
    with running(JudgeServer()) as server:
        assert main(judged(server, files)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "0 wins, 0 losses, 10 draws" in shown
    assert "shown first won 100.0 % of the time" in shown
    assert "every verdict changed with the order" in shown


def test_a_second_run_costs_nothing(files: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(JudgeServer()) as server:
        results, answered = [], []
        for _ in range(2):
            assert main(judged(server, files, "--json")) == 0
            printed = capsys.readouterr()
            results.append(json.loads(printed.out))
            answered.append(sum(server.answered.values()))
        # On a slow machine a request of the first run may have been sent twice.
        assert answered[0] == answered[1]
    assert "0 requests to send, 20 verdicts from earlier runs" in printed.err
    assert results[1]["per_sample"] == results[0]["per_sample"]
    assert results[1]["usage"] == results[0]["usage"]
    assert results[1]["usage_this_run"]["requests"] == 0
    assert not list(folder.glob("results/*win_rate.json"))


def test_another_judge_does_not_replace_the_result(files: dict[str, str], folder: Path) -> None:
    with running(JudgeServer()) as server:
        for judge in ("cheap", "other", "cheap"):
            assert main(judged(server, files, "--judge", judge)) == 0
    found = [json.loads(path.read_text())["judge"] for path in folder.glob("results/*win_rate*.json")]
    assert sorted(found) == ["cheap", "other"]


def test_the_final_judge_sees_the_best_one_only(
    files: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(JudgeServer()) as server:
        assert main(judged(server, files, "--final-judge", "strong", "--json", outputs="plain noisy")) == 0
    results: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["results"]
    assert [(one["label"], one["judge"], one["stage"]) for one in results] == [
        ("plain", "cheap", "first"),
        ("noisy", "cheap", "first"),
        ("noisy", "strong", "final"),
    ]
    assert results[1]["win_rate"] > results[0]["win_rate"]
    asked = [body["model"] for body in server.bodies]
    # What the two files have in common is asked once.
    assert (asked.count("cheap"), asked.count("strong")) == (40, 20)
    names = sorted(path.name for path in folder.glob("results/*annotations*"))
    assert names == [
        "noisy-cheap-annotations.json",
        "noisy-strong-annotations.json",
        "plain-cheap-annotations.json",
    ]


def test_the_key_is_nowhere(
    files: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with running(JudgeServer(["429"])) as server:
        assert (
            main(
                judged(server, files, "--judge-key-env", "MY_KEY", "--workers", "20", "--requests-per-minute", "60000")
            )
            == 0
        )
        assert server.keys == {f"Bearer {KEY}"}
        server.refuse = (401, {"error": {"message": f"wrong key {KEY}"}})
        assert main(judged(server, files, "--judge-key-env", "MY_KEY", "--verdicts", "new.sqlite")) == 2
    printed = capsys.readouterr()
    assert "refuses the key in $MY_KEY" in printed.err
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert len(written) >= 6
    assert not any(KEY.encode() in text for text in [*written, printed.out.encode(), printed.err.encode()])


def test_a_local_judge_needs_no_server(files: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["evaluate", "--outputs", files["plain"], "--baseline", files["baseline"], "--judge", "local:tiny", "--json"]
    assert main(args) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["n_total"], found["n_malformed"]) == (10, 0)
    assert found["judge"].startswith("local:tiny@")
    assert "cost" not in printed.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--workers 0", "--workers"),
        ("--requests-per-minute 0", "--requests-per-minute"),
        ("--price-input 1", "--price-output"),
        ("--final-price-output 1", "--final-price-input"),
        ("--price-input -1 --price-output 1", "price"),
        ("--judge-url host", "'host'"),
        ("--judge-key-env NONE_SUCH", "NONE_SUCH"),
        ("--final-judge x --out one.json", "--out one.json"),
        ("--judgee x", "--judge?"),
        ("--baseline none.json", "none.json"),
    ],
)
def test_mistakes_are_one_line_and_ask_nobody(
    options: str,
    named: str,
    files: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    snapshot: Callable[[str], None],
) -> None:
    with running(JudgeServer()) as server:
        assert main(judged(server, files, *options.split())) == 2
    assert not server.bodies
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    snapshot(error.rstrip("\n"))


def test_a_baseline_that_lacks_an_instruction_is_refused(
    files: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder / "baseline.json", "base", [50] * 8)
    with running(JudgeServer()) as server:
        assert main(judged(server, files)) == 2
    assert "baseline.json has no answer to 'Question 8?' and 1 more" in capsys.readouterr().err


def test_a_judge_who_never_gives_a_verdict_is_an_error(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with running(JudgeServer(["prose"] * 9)) as server:
        assert main(judged(server, files)) == 2
    assert "gave no verdict on any of 10 pairs: 20 requests without one" in capsys.readouterr().err
