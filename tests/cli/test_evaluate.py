"""The verb evaluate: what each kind prints, writes and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.evaluate import _KINDS
from lightning_neft.cli.help import static_help
from lightning_neft.cli.main import main
from lightning_neft.evaluation.result import read_result
from lightning_neft.hub.tiny_models import TINY

ANSWERS = ["to be or not to be", "one two three four five [bold]six[/bold]", "yes"]


@pytest.fixture
def outputs(folder: Path) -> str:
    """Three answers with references; the first is a copy."""
    records = [
        {"instruction": f"question {n}", "output": answer, "generator": "my/alpha5", "reference": ANSWERS[0]}
        for n, answer in enumerate(ANSWERS)
    ]
    (folder / "outputs.json").write_text(json.dumps(records))
    return "outputs.json"


def annotations(folder: Path, name: str, preferences: list[Any]) -> str:
    records = [
        {
            "instruction": f"question {n}",
            "output_1": "a baseline",
            "generator_1": "baseline",
            "output_2": "x" * (8 + n),
            "generator_2": name,
            "annotator": "judge",
            "preference": preference,
        }
        for n, preference in enumerate(preferences)
    ]
    (folder / f"{name}.json").write_text(json.dumps(records))
    return f"{name}.json"


def _object(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_object_for_programs_is_flat_and_no_file_is_written(
    outputs: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--outputs", outputs, "--json"]) == 0
    found = _object(capsys)
    assert (found["kind"], found["label"], found["n_total"]) == ("text_statistics", "my/alpha5", 3)
    assert found["mean_characters"] == pytest.approx(sum(map(len, ANSWERS)) / 3)
    assert found["mean_words"] == pytest.approx((6 + 6 + 1) / 3)
    assert found["repetition_2"] == pytest.approx(0.1)
    assert found["log_diversity_paper"] == 20
    assert found["mean_tokens"] is None
    assert [path.name for path in folder.iterdir()] == [outputs]


def test_the_table_for_people_and_the_file(outputs: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["evaluate", "--outputs", outputs, "--first-k-tokens", "6", "--tokenizer", "tiny"]
    assert main(args) == 0
    printed = capsys.readouterr().out
    assert "my/alpha5: 3 outputs, 0 of them empty" in printed
    assert "first 6 words, 1 shorter outputs omitted" in printed
    result = read_result(Path("results/my-alpha5-text_statistics.json"))
    assert (result["n_short"], result["first_k_tokens"]) == (1, 6)
    assert result["mean_tokens"] > result["mean_words"]
    (source,) = result["provenance"]["inputs"]
    assert (source["role"], source["name"], source["records"]) == ("outputs", outputs, 3)
    assert result["provenance"]["settings"] == {"first_k_tokens": 6, "tokenizer": "tiny"}


def test_a_result_replaces_one_of_the_same_files_and_settings(outputs: str, folder: Path) -> None:
    def names() -> list[str]:
        return sorted(path.name for path in (folder / "results").iterdir())

    assert main(["evaluate", f"--outputs={outputs}"]) == 0
    (first,) = names()
    before = (folder / "results" / first).read_bytes()
    assert main(["evaluate", f"--outputs={outputs}"]) == 0
    assert names() == [first]
    rows = json.loads(Path(outputs).read_text())
    Path(outputs).write_text(json.dumps(rows[:-1]))
    assert main(["evaluate", f"--outputs={outputs}"]) == 0
    assert main(["evaluate", f"--outputs={outputs}"]) == 0
    second = first.replace(".json", "-2.json")
    assert names() == sorted([first, second])
    same = (json.loads(text)["n_total"] for text in (before, (folder / "results" / first).read_bytes()))
    assert len(set(same)) == 1
    assert json.loads((folder / "results" / second).read_text())["n_total"] == len(rows) - 1


def test_several_files_give_a_list_and_a_file_each(outputs: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["evaluate", "--outputs", outputs, "--outputs", outputs, "--json", "--out", "here"]
    assert main(args) == 0
    assert [item["n_total"] for item in _object(capsys)["results"]] == [3, 3]
    names = sorted(path.name for path in Path("here").iterdir())
    assert names == ["my-alpha5-text_statistics-2.json", "my-alpha5-text_statistics.json"]


def test_a_win_rate_is_shown_raw_and_at_equal_length(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = annotations(folder, "alpha5", [2, 1, 0, 2, 1, 2, 1])
    assert main(["evaluate", "--annotations", path, "--json"]) == 0
    found = _object(capsys)
    assert (found["n_total"], found["n_wins"], found["n_losses"], found["n_draws"]) == (7, 3, 3, 1)
    assert found["win_rate"] == pytest.approx(50)
    # Squared distances: 6 * 0.25; over 6 for the variance, over 7 more.
    assert found["standard_error"] == pytest.approx(100 * (1.5 / 6 / 7) ** 0.5)
    assert found["mean_characters"] == 11
    assert main(["evaluate", "--annotations", path]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "7 pairs, 3 wins, 3 losses, 1 draws" in printed
    assert f"at equal length (own model) {found['length_controlled_win_rate']:.4f}" in printed
    assert "win rate, compared with 50 % % standard error" in printed
    # The figure of AlpacaEval has a name of its own.
    assert (
        "mean length: 11 characters, baseline 10; the rate at equal length is not the length-controlled win" in printed
    )
    assert read_result(Path("results/alpha5-win_rate.json"))["win_rate"] == pytest.approx(50)


def test_a_rate_at_equal_length_that_cannot_be_is_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = annotations(folder, "alpha5", [1, 1, 1, 2, 2, 2])
    assert main(["evaluate", "--annotations", path]) == 0
    assert "no rate at equal length: the difference in length separates" in " ".join(capsys.readouterr().out.split())
    result = read_result(Path("results/alpha5-win_rate.json"))
    assert result["length_controlled_win_rate"] is None
    assert result["win_rate"] == 50


def test_two_models_are_compared_in_pairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = annotations(folder, "plain", [1, 1, 2, 1, 1, 1])
    noisy = annotations(folder, "alpha5", [2, 1, 2, 2, 0, 1])
    assert main(["evaluate", "--annotations", plain, noisy, "--json"]) == 0
    *rates, difference = _object(capsys)["results"]
    assert [item["label"] for item in rates] == ["plain", "alpha5"]
    assert (difference["kind"], difference["label"]) == ("win_rate_difference", "alpha5")
    assert difference["difference"] == pytest.approx(rates[1]["win_rate"] - rates[0]["win_rate"])
    at_equal_length = rates[1]["length_controlled_win_rate"] - rates[0]["length_controlled_win_rate"]
    assert difference["length_controlled_difference"] == pytest.approx(at_equal_length)
    assert difference["length_controlled_low"] < at_equal_length < difference["length_controlled_high"]
    assert (difference["mean_characters"], difference["baseline_mean_characters"]) == (10.5, 10.5)
    assert difference["provenance"]["seed"] == 0
    assert main(["evaluate", "--annotations", plain, noisy]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "alpha5 minus plain, win rate in percent points over 6 pairs: " in printed
    assert "no evidence of a difference (41.7, 95 % interval" in printed
    assert "at equal length (own model): no evidence of a difference" in printed
    # All lost: there is no rate at equal length, and so no difference.
    lost = annotations(folder, "lost", [1, 1, 1, 1, 1, 1])
    assert main(["evaluate", "--annotations", plain, lost]) == 0
    assert "no difference at equal length: there is no win" in " ".join(capsys.readouterr().out.split())


def test_a_higher_win_rate_is_not_called_better(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weak, strong = annotations(folder, "plain", [1, 1, 2, 1] * 9), annotations(folder, "noisy", [2, 2, 1, 2] * 9)
    assert main(["evaluate", "--annotations", weak, strong]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "noisy minus plain, win rate in percent points over 36 pairs: higher by 50 (95 % interval" in printed
    assert "better" not in printed


def test_memorisation_of_an_outputs_file(outputs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--memorization", "--outputs", outputs, "--json"]) == 0
    found = _object(capsys)
    assert (found["kind"], found["n_total"]) == ("memorization", 3)
    assert found["per_sample"]["rouge_l"] == [1, 0, 0]
    assert found["near_copy_share"] == pytest.approx(1 / 3)
    assert main(["evaluate", "--memorization", f"--outputs={outputs}"]) == 0
    assert "near-copies (ROUGE-L above 0.9) 33.3 %" in " ".join(capsys.readouterr().out.split())


def test_losses_and_answers_of_a_checkpoint(short: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *short, "--name=a", "--samples=0"]) == 0
    before = sorted(Path("runs").rglob("*"))
    capsys.readouterr()
    base, trained = (
        [*short, "--name=a", "--json", "--limit=3"],
        [*short, "--name=a", "--json", "--limit=3", "--ckpt_path=last"],
    )
    losses = []
    for args in (base, trained):
        assert main(["evaluate", "--clean-loss", *args]) == 0
        found = _object(capsys)
        assert (found["kind"], found["label"]) == ("clean_loss", "a" if args is trained else "a (not trained)")
        assert [found["splits"][split]["n_samples"] for split in ("train", "held_out")] == [3, 2]
        losses.append(found["splits"]["train"]["mean_loss"])
    # The checkpoint is what was measured, not the base.
    assert losses[1] < losses[0]
    sources = [(source["role"], source["name"]) for source in found["provenance"]["inputs"]]
    assert sources == [("data", "data.json"), ("checkpoint", "last.ckpt")]
    assert found["provenance"]["settings"]["alpha"] == 5
    folder = str(next(Path("runs").rglob("model.safetensors")).parent)
    for args in (trained, [*base, f"--model={folder}"]):
        assert main(["evaluate", "--memorization", *args, "--max-new-tokens=4"]) == 0
        found = _object(capsys)
        assert (found["kind"], found["n_total"]) == ("memorization", 3)
        assert found["provenance"]["settings"]["decoding"] == "greedy"
    # A look at a run leaves nothing in it.
    assert sorted(Path("runs").rglob("*")) == before


def test_models_of_one_name_each_keep_their_result(short: list[str], folder: Path) -> None:
    for run, factor in (("first", 1.0), ("second", 2.0)):
        shutil.copytree(TINY, folder / run / "model")
        weights = load_file(TINY / "model.safetensors")
        norm = next(name for name in weights if name.endswith("norm.weight"))
        save_file({**weights, norm: weights[norm] * factor}, folder / run / "model/model.safetensors")
    args = ["evaluate", "--memorization", *short, "--limit=1", "--max-new-tokens=4"]
    for run in ("first", "second", "first"):
        assert main([*args, f"--model={run}/model"]) == 0
    results = [json.loads(path.read_text()) for path in sorted((folder / "results").iterdir())]
    assert [result["label"] for result in results] == ["model", "model"]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ("", "--clean-loss, --memorization, --judge"),
        ("--output x", "--outputs?"),
        ("--outputs", "--outputs"),
        ("--outputs outputs.json --jsn", "--json?"),
        ("--outputs none.json", "none.json"),
        ("--outputs outputs.json --first-k-tokens 3", "first_k_tokens"),
        ("--outputs outputs.json --out outputs.json/x", "outputs.json"),
        ("--outputs outputs.json outputs.json --out x.json", "--out x.json"),
        ("--outputs outputs.json --baseline bare.json", "--judge NAME"),
        ("--memorization --data=outputs.json", "outputs.json"),
        ("--annotations outputs.json", "record 1 has no 'output_1'"),
        ("--memorization", "--outputs FILE"),
        ("--memorization --outputs bare.json", "bare.json: 1 of 1"),
        ("--memorization --outputs outputs.json --model tiny", "--model"),
        ("--memorization --outputs outputs.json --limit 0", "--limit"),
        ("--clean-loss", "--config FILE_OR_RECIPE"),
        ("--clean-loss --limit x", "--limit"),
        ("--clean-loss --config=quickstart --data.sorce=x", "data.source?"),
        ("--clean-loss --data.source=outputs.json --data.val_size=0", "data.val_size"),
        ("--memorization --data.source=texts.csv --task=sequence_classification", "texts.csv"),
        ("--clean-loss --config=quickstart --ckpt_path=none.ckpt", "--ckpt_path none.ckpt"),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    args: str,
    named: str,
    outputs: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    snapshot: Callable[[str], None],
) -> None:
    (folder / "bare.json").write_text('[{"instruction": "a", "output": "b"}]')
    (folder / "texts.csv").write_text("text,label\n" + "good,1\nbad,0\n" * 20)
    assert main(["evaluate", *args.split()]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lightning_neft: ")]
    assert named in line
    snapshot(line)
    assert not list(folder.rglob("*-*.json"))


@pytest.mark.parametrize(
    "name",
    [
        "answer_files.AnnotationsKind",
        "answer_files.OutputsKind",
        "answering.AblationKind",
        "answering.TasksKind",
        "judge.JudgeKind",
        "overfitting.CleanLossKind",
        "overfitting.MemorizationKind",
    ],
)
def test_the_help_names_every_option_of_a_kind(name: str) -> None:
    text = static_help(["evaluate", "--help"])
    assert text is not None
    module, _, kind = name.partition(".")
    parser = VerbParser("evaluate")
    getattr(import_module(f"lightning_neft.cli.evaluate.{module}"), kind)().add_options(parser)
    assert [name for action in parser._actions for name in action.option_strings if name not in text] == []


def test_every_kind_is_in_the_help() -> None:
    text = static_help(["evaluate", "--help"])
    assert text is not None
    assert [option for option in (*_KINDS, "--out", "--overwrite", "--json") if f"  {option} " not in text] == []


def test_half_a_surrogate_pair_in_a_name_is_shown_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": word, "output": "b c d", "generator": "m\ud800"} for word in ("a", "b")]
    Path("o.json").write_text(json.dumps(rows))
    assert main(["evaluate", "--outputs", "o.json", "--out", "r.json"]) == 0
    assert "\\ud800" in capfd.readouterr().out
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))["label"] == "m\ud800"
