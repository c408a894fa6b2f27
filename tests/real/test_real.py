"""Real pretrained models: what tiny random ones cannot show. `make real` fetches them and runs this."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lightning_neft.cli.main import main

RUN = Path("runs/r/version_0")


def losses(run: Path) -> list[float]:
    """The losses on the held-out samples, first to last."""
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["val/loss"]) for row in csv.DictReader(file) if row.get("val/loss")]


def test_doctor_sees_where_and_how_strong(smollm2: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", f"--model={smollm2}", "--json"]) == 0
    report = json.dumps(json.loads(capfd.readouterr().out))
    assert '"model.embed_tokens"' in report
    assert '"LlamaForCausalLM"' in report


def test_an_instruction_model_knows_a_capital(smollm2: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = [f"--model={smollm2}", "--template=plain", "--prompt=The capital of France is"]
    assert main(["generate", *command, "--max-new-tokens=3", "--device=cpu"]) == 0
    assert "Paris" in capfd.readouterr().out


def test_a_base_model_continues_a_text(gemma3: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = [
        f"--model={gemma3}",
        "--template=plain",
        "--prompt=Monday, Tuesday, Wednesday, Thursday,",
        "--max-new-tokens=3",
    ]
    assert main(["generate", *command, "--device=cpu"]) == 0
    assert "Friday" in capfd.readouterr().out


def test_twenty_steps_lower_the_loss_and_the_export_is_the_model(
    smollm2: Path, options: list[str], folder: Path
) -> None:
    assert main(["fit", *options, f"--model.base={smollm2}"]) == 0
    first, *_, last = losses(RUN)
    assert last < first
    assert main(["export", f"--model={RUN}", "--output=whole"]) == 0
    tokenizer = AutoTokenizer.from_pretrained("whole")
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        trained, exported, base = (
            AutoModelForCausalLM.from_pretrained(name).eval()(input_ids=ids).logits
            for name in (RUN / "model", "whole", smollm2)
        )
    torch.testing.assert_close(exported, trained, rtol=0, atol=0)
    assert not torch.allclose(exported, base, atol=0.01)


def test_a_gguf_file_is_a_base_from_fit_to_export(
    smollm2: Path, options: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    file = smollm2.with_suffix(".gguf")
    assert main(["fit", *options, f"--model.base={file}", "--model.lora.r=4", "--trainer.max_steps=2"]) == 0
    adapters = json.loads((RUN / "model" / "adapter_config.json").read_text())
    assert adapters["base_model_name_or_path"] == str(file)
    assert main(["export", f"--model={RUN}", "--output=whole"]) == 0
    assert "expanded from 4-bit values (Q4_1)" in Path("whole/README.md").read_text()
    exported, expanded = (AutoModelForCausalLM.from_pretrained(name) for name in ("whole", smollm2))
    assert exported.num_parameters() == expanded.num_parameters()
    # Adapters leave the table as it is: the file gave the same weights as the folder.
    assert torch.equal(exported.get_input_embeddings().weight, expanded.get_input_embeddings().weight)
