"""The precision of a run that names none: the device's best, or that of the checkpoint; and that a fit keeps it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import Namespace

from lightning_neft.cli import precision
from lightning_neft.cli.main import main
from lightning_neft.cli.precision import choose_precision
from lightning_neft.hub.tiny_models import TINY
from lightning_neft.models.execution import native_bfloat16


def config(**options: Any) -> Namespace:
    trainer = {"precision": None, "plugins": None, "accelerator": "cpu"}
    model = {"base": "some/model", "dtype": None}
    for name, value in options.items():
        (trainer if name in trainer else model)[name] = value
    return Namespace(trainer=Namespace(**trainer), model=Namespace(**model))


@pytest.fixture
def has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """What the CPU is said to have."""
    abilities: dict[str, bool] = {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    return abilities


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bw": True, "avx2": True}, False),
        ({}, False),
    ],
)
def test_a_cpu_needs_instructions_for_it(
    has_bfloat16: dict[str, bool], abilities: dict[str, bool], expected: bool
) -> None:
    has_bfloat16 |= abilities
    assert native_bfloat16("cpu")[0] is expected


@pytest.mark.parametrize(
    ("capabilities", "expected"), [([(8, 0)], True), ([(9, 0), (8, 6)], True), ([(9, 0), (7, 5)], False), ([], False)]
)
def test_each_gpu_needs_compute_capability_8(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[tuple[int, int]], expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capabilities[index])
    assert native_bfloat16("cuda")[0] is expected


@pytest.mark.parametrize(("is_new", "expected"), [(True, True), (False, False)])
def test_an_apple_gpu_needs_macos_14(monkeypatch: pytest.MonkeyPatch, is_new: bool, expected: bool) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: is_new)
    assert native_bfloat16("mps")[0] is expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "bf16-mixed"),
        ({"base": "tiny"}, "32-true"),
        ({"dtype": "float16"}, "32-true"),
        ({"dtype": "bfloat16"}, "bf16-mixed"),
        ({"accelerator": "tpu"}, "32-true"),
    ],
)
def test_what_is_chosen(has_bfloat16: dict[str, bool], options: dict[str, Any], expected: str) -> None:
    has_bfloat16["avx512_bf16"] = True
    choice = choose_precision(config(**options), None)
    assert choice is not None
    assert choice.precision == expected
    assert choice.reason


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "16-mixed"},
        {"plugins": [Namespace(class_path="lightning.pytorch.plugins.MixedPrecision")]},
    ],
)
def test_nothing_is_chosen_where_it_is_given(options: dict[str, Any]) -> None:
    assert choose_precision(config(**options), None) is None


def test_other_plugins_leave_the_choice() -> None:
    plugin = Namespace(class_path="lightning.pytorch.plugins.environments.SLURMEnvironment")
    assert choose_precision(config(plugins=[plugin]), None) is not None


def test_a_fit_keeps_its_precision(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Printed, saved, kept by a resumed run on another machine, and overridden by the option."""

    def machine(has_it: bool) -> None:
        monkeypatch.setattr(precision, "native_bfloat16", lambda device: (has_it, f"stub {has_it}"))

    shutil.copytree(TINY, folder / "base")
    args = ["fit", *short, "--model.base=base", "--name=run", "--samples=0"]
    machine(True)
    assert main([*args, "--trainer.max_steps=1"]) == 0
    assert "precision: bf16-mixed (stub True)" in capsys.readouterr().out
    saved = folder / "runs/run/version_0/config.yaml"
    assert yaml.safe_load(saved.read_text())["trainer"]["precision"] == "bf16-mixed"

    machine(False)
    assert main([*args, "--trainer.max_steps=2", "--ckpt_path=last"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("precision: "))
    assert row.startswith("precision: bf16-mixed (that of the checkpoint; ")
    assert "32-true" in row

    assert main([*args, "--trainer.max_steps=1", "--trainer.precision=32-true"]) == 0
    assert "precision: 32-true\n" in capsys.readouterr().out
