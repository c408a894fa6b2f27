"""A base in a GGUF file: every verb that reads one, from the first look to the exported model."""

from __future__ import annotations

import json
import logging
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gguf_files import write_gguf
from lightning_neft.cli.main import main
from lightning_neft.hub.names import resolve_base

pytest.importorskip("gguf", reason="needs the extra gguf")

RUN = Path("runs/r/version_0")
SOURCE = "4-bit values (Q4_1)"
ANSWER = ["--device=cpu", "--template=alpaca", "--prompt=Hi", "--max-new-tokens=3"]


@pytest.fixture
def options(short: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a short run on `base.gguf` in the current folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    # Of the processes of a study.
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    write_gguf(folder / "base.gguf")
    return [*short, "--model.base=base.gguf", "--name=r"]


def card(folder: str) -> str:
    return (Path(folder) / "README.md").read_text()


def test_fit_to_export(options: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert main(["fit", *options]) == 0
    assert f"its weights are expanded from {SOURCE}" in caplog.text
    assert json.loads((RUN / "model" / "lightning_neft.json").read_text())["expanded_from"] == SOURCE
    assert main(["export", f"--model={RUN}", "--output=whole"]) == 0
    assert f"expanded from {SOURCE}" in card("whole")
    assert "cache" not in card("whole")
    for name in (RUN / "model", "whole"):
        assert "quantization_config" not in (Path(name) / "config.json").read_text()
        assert all(weights.dtype == torch.float32 for weights in load_file(Path(name) / "model.safetensors").values())
    exported, base = (AutoModelForCausalLM.from_pretrained(name) for name in ("whole", resolve_base("base.gguf")))
    assert exported.lm_head.weight.shape == base.lm_head.weight.shape
    assert not torch.equal(exported.lm_head.weight, base.lm_head.weight)
    mine, theirs = (AutoTokenizer.from_pretrained(name)("it's 3").input_ids for name in ("whole", resolve_base("tiny")))
    assert mine == theirs


def test_a_fit_resumes(options: list[str]) -> None:
    assert main(["fit", *options, "--trainer.max_epochs=2", "--trainer.max_steps=2"]) == 0
    assert main(["fit", *options, "--trainer.max_epochs=2", "--ckpt_path=last"]) == 0
    stopped, resumed = (
        torch.load(f"runs/r/version_{number}/checkpoints/last.ckpt", weights_only=True) for number in (0, 1)
    )
    assert (stopped["global_step"], resumed["global_step"]) == (2, 4)
    assert resumed["lightning_neft"]["base"] == "base.gguf"
    assert resumed["lightning_neft"]["expanded_from"] == SOURCE


def test_adapters_name_the_file(options: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *options, "--model.lora.r=2"]) == 0
    adapters = json.loads((RUN / "model" / "adapter_config.json").read_text())
    assert adapters["base_model_name_or_path"] == "base.gguf"
    assert main(["generate", f"--model={RUN / 'model'}", *ANSWER]) == 0
    assert main(["export", f"--model={RUN}", "--output=merged"]) == 0
    assert f"expanded from {SOURCE}" in card("merged")
    merged = load_file("merged/model.safetensors")
    assert merged.keys() == load_file(Path(resolve_base("base.gguf")) / "model.safetensors").keys()


@pytest.mark.parametrize(
    "command",
    [
        ["preview", "--data.source=data.json", "--model.base=base.gguf"],
        ["doctor", "--model=base.gguf"],
        ["generate", "--model=base.gguf", *ANSWER],
        ["export", "--model=base.gguf", "--output=out"],
    ],
    ids=lambda command: command[0],
)
def test_a_verb_reads_the_file(options: list[str], command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    out = capfd.readouterr().out
    if command[0] == "doctor":
        assert "base.gguf: LlamaForCausalLM, 984,192 parameters" in out
    if command[0] == "export":
        assert f"expanded from {SOURCE}" in card("out")
        assert AutoModelForCausalLM.from_pretrained("out").num_parameters() == 984_192


def test_evaluate_reads_the_file(options: list[str]) -> None:
    assert main(["evaluate", "--clean-loss", *options, "--out=loss.json"]) == 0
    assert json.loads(Path("loss.json").read_text())["kind"] == "clean_loss"


@pytest.mark.slow
def test_arms_of_a_study_share_the_expanded_file(options: list[str], folder: Path) -> None:
    # That of an earlier study in this process has another cache.
    forkserver._forkserver._stop()
    options = [option for option in options if option != "--name=r"]
    command = ["study", *options, "--alphas=0,5", "--seeds=1", "--out=s"]
    assert main([*command, "--answers=0", "--samples=0"]) == 0
    expanded = [path for path in (folder / "cache" / "lightning_neft" / "gguf").iterdir() if path.is_dir()]
    assert len(expanded) == 1


@pytest.mark.parametrize("verb", ["fit", "preview", "doctor", "generate", "export", "evaluate"])
def test_a_file_that_cannot_be_used_ends_with_2(
    verb: str, options: list[str], capfd: pytest.CaptureFixture[str], folder: Path
) -> None:
    (folder / "base.gguf").write_bytes((folder / "base.gguf").read_bytes()[:-1])
    command = {
        "fit": options,
        "preview": options,
        "evaluate": ["--clean-loss", *options, "--out=loss.json"],
        "export": ["--model=base.gguf", "--output=out"],
        "doctor": ["--model=base.gguf"],
        "generate": ["--model=base.gguf", *ANSWER],
    }[verb]
    assert main([verb, *command]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("lightning_neft: ")]
    assert len(lines) == 1
    assert "base.gguf' is truncated: the tensor" in lines[0]
    assert not {path.name for path in folder.iterdir()} & {"out", "loss.json"}
    assert not list(folder.glob("cache/lightning_neft/gguf/*"))
