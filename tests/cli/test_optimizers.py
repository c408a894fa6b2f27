"""Optimisers and schedules by name and by class, through the program; a killed run ends as the unbroken one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from lightning_neft.cli.main import main

ADAFACTOR = "class_path: torch.optim.Adafactor\n    init_args: {d: 2.0}"


def weights(name: str, version: int = 0) -> dict[str, torch.Tensor]:
    path = Path(f"runs/{name}/version_{version}/checkpoints/last.ckpt")
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def test_a_class_with_its_options_is_kept_in_the_config(short: list[str], folder: Path) -> None:
    (folder / "c.yaml").write_text(f"model:\n  weight_decay: 0.1\n  optimizer:\n    {ADAFACTOR}\n")
    schedule = ["--model.lr_scheduler=StepLR", "--model.lr_scheduler.step_size=1"]
    assert main(["fit", "--config=c.yaml", *short, *schedule]) == 0
    config = yaml.safe_load(Path("runs/c/version_0/config.yaml").read_text())
    optimizer = config["model"]["optimizer"]
    assert (optimizer["class_path"], optimizer["init_args"]["d"]) == ("torch.optim.Adafactor", 2.0)
    # These are the model's.
    assert not {"lr", "weight_decay"} & set(optimizer["init_args"])
    assert config["model"]["lr_scheduler"]["class_path"] == "torch.optim.lr_scheduler.StepLR"
    checkpoint = torch.load("runs/c/version_0/checkpoints/last.ckpt", weights_only=True)
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    assert [(group["d"], group["weight_decay"]) for group in groups] == [(2.0, 0.1), (2.0, 0.0)]
    assert groups[0]["lr"] == pytest.approx(1e-5)  # after two steps, from 1e-3
    # What was saved repeats the run.
    assert main(["fit", "--config=runs/c/version_0/config.yaml", "--name=again"]) == 0
    assert all(torch.equal(value, weights("again")[name]) for name, value in weights("c").items())


@pytest.mark.parametrize("name", ["adamw_torch_fused", "adafactor", "muon"])
def test_a_resumed_run_by_name(short: list[str], folder: Path, name: str) -> None:
    given = [*short, f"--model.optimizer={name}", "--model.lr_scheduler=linear", "--trainer.max_epochs=3"]
    assert main(["fit", *given, "--name=unbroken"]) == 0
    assert main(["fit", *given, "--name=broken", "--trainer.limit_train_batches=2", "--checkpoint.save_top_k=-1"]) == 0
    checkpoint = sorted(Path("runs/broken/version_0/checkpoints").glob("best-*.ckpt"))[0]
    assert main(["fit", *given, "--name=resumed", f"--ckpt_path={checkpoint}"]) == 0
    assert all(torch.equal(value, weights("resumed")[key]) for key, value in weights("unbroken").items())


def test_the_memory_line_says_what_it_assumes(
    short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "opaque.py").write_text(
        "import torch\n\n\nclass Opaque(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n"
        "        found = super().step(closure)\n"
        "        next(iter(self.param_groups[0]['params'])).data_ptr()\n"
        "        return found\n"
    )
    assert main(["fit", *short, "--model.optimizer=opaque.Opaque", "--trainer.max_steps=1", "--samples=0"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("memory: "))
    assert "optimiser assumed as AdamW" in line
