"""What a whole run of the program writes holds no token of the environment, and lies where it was asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bad_input.refusals import ANNOTATIONS, FIT, OUTPUTS, RECORDS, line_of, listing, put
from judge_server import JudgeServer, running
from lightning_neft.cli.main import main
from report.example import study

TOKENS = {
    "HF_TOKEN": "hf_planted0123456789abcdefghijklmnop",
    "OPENAI_API_KEY": "sk-planted0123456789abcdefghijklmnop",
    "WANDB_API_KEY": "planted0123456789abcdef0123456789abcdef01",
}
EVIL = "../../evil"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, two levels below that of the test, with the caches in it and tokens in the environment."""
    import datasets

    work = tmp_path / "deep" / "work"
    put(work / "data.json", RECORDS)
    monkeypatch.chdir(work)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    return work


def files_with(folder: Path, texts: dict[str, str]) -> list[tuple[str, str]]:
    """Return each file below a folder, with the name of the token that it holds."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [(str(path.relative_to(folder)), name) for name, text in texts.items() if text.encode() in content]
    return found


def run(command: str) -> None:
    assert main(command.split()) == 0


def test_no_file_of_a_run_holds_a_token(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(f"{FIT} --name=a --trainer.log_every_n_steps=1")
    model = "runs/a/version_0/model"
    run(f"generate --model={model} --device=cpu --max-new-tokens=3 --input=data.json --output=answers.json")
    run("evaluate --outputs answers.json --out results/text.json")
    run("evaluate --memorization --outputs answers.json --out results/memory.json")
    put(
        folder / "base.json",
        [{**row, "generator": "base", "output": "x"} for row in json.loads(Path("answers.json").read_text())],
    )
    with running(JudgeServer()) as server:
        run(f"evaluate --judge=j --judge-url={server.url} --outputs answers.json --baseline base.json --out results")
        # The judge did get its key: the search below would find one that is passed on.
        assert server.keys == {f"Bearer {TOKENS['OPENAI_API_KEY']}"}
    run(f"export --model={model} --output=exported")
    run("report results/text.json results/memory.json answers.json --out report.html")
    written = {path.suffix for path in folder.parents[1].rglob("*") if path.is_file()}
    assert written >= {".ckpt", ".yaml", ".json", ".csv", ".html", ".sqlite", ".safetensors"}
    assert files_with(folder.parents[1], TOKENS) == []
    told = capsys.readouterr()
    assert not any(token in told.out + told.err for token in TOKENS.values())


@pytest.mark.slow
def test_no_file_of_a_study_holds_a_token(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = f"{FIT[4:]} --trainer.max_epochs=1 --trainer.limit_train_batches=2"
    run(f"study --alphas=0,5 --seeds=1 --answers=1 --max-new-tokens=3 --out=out {options}")
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} >= {".sqlite", ".html", ".txt", ".ckpt"}
    assert files_with(folder.parents[1], TOKENS) == []
    told = capfd.readouterr()
    assert not any(token in told.out + told.err for token in TOKENS.values())


@pytest.mark.parametrize("name", [EVIL, "a/../../../evil", "..", f"{os.sep}tmp{os.sep}evil-of-lightning-neft"])
def test_the_name_of_a_run_leads_nowhere_else(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / "c.yaml", f"name: {name}\n")
    before = listing(folder.parents[1])
    for option in (f"--name={name}", "--config=c.yaml"):
        line = line_of(f"{FIT} {option}", capsys)
        assert repr(name) in line
        assert "trainer.default_root_dir" in line
    assert {path for path in listing(folder.parents[1]) if not path.startswith("cache")} == set(before)
    assert not Path(f"{os.sep}tmp{os.sep}evil-of-lightning-neft").exists()


def _evil_study() -> dict[str, Any]:
    found = study()
    found["label"] = found["recipe"] = EVIL
    for comparison in found["comparisons"]:
        comparison["metric"] = EVIL
    for arm in found["arms"]:
        arm["folder"] = EVIL
        arm["curves"] = {EVIL: arm["curves"]["val/loss"]}
    return found


def test_names_in_data_lead_to_no_other_file(folder: Path) -> None:
    put(folder / "answers.json", [{**row, "generator": EVIL, "dataset": EVIL} for row in OUTPUTS])
    put(folder / "annotations.json", [{**row, "generator_2": EVIL, "annotator": EVIL} for row in ANNOTATIONS])
    put(folder / "study.json", _evil_study())
    put(folder / "base.json", [{**row, "generator": "base", "dataset": EVIL} for row in OUTPUTS])
    before = {path for path in listing(folder.parents[1]) if not path.startswith("deep/work/")}
    run("evaluate --outputs answers.json")
    run("evaluate --annotations annotations.json")
    with running(JudgeServer()) as server:
        run(f"evaluate --judge={EVIL} --judge-url={server.url} --outputs answers.json --baseline base.json")
    run("report answers.json study.json results/evil-text_statistics.json --out page/report.html")
    after = {path for path in listing(folder.parents[1]) if not path.startswith("deep/work/")}
    assert after == before
    # Beside what was asked for stands nothing that a name has led to either.
    assert not [path for path in listing(folder) if Path(path).name.startswith("evil") and "results" not in path]
