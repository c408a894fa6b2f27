"""The scripts of the noise's effect on a pretrained model: what is measured, and what the page says of it."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lightning_neft.hub.names import resolve_base
from pages import ROOT


@pytest.fixture
def noise_effect(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("noise_effect")


@pytest.fixture
def page(noise_effect: ModuleType) -> ModuleType:
    return importlib.import_module("noise_effect_page")


def test_the_losses_are_those_of_the_same_samples_with_noise(
    noise_effect: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(resolve_base("tiny"), tmp_path / "gemma3-270m")
    words = [{"instruction": f"Count {number}.", "input": "", "output": f"{number} it is."} for number in range(500)]
    (tmp_path / "dolly_3k.json").write_text(json.dumps(words), encoding="utf-8")
    monkeypatch.setattr(noise_effect, "ALPHAS", {"dolly-gemma": (5.0, 500.0)})
    run = noise_effect.Run("dolly-gemma", 0, tmp_path, tmp_path, tmp_path / "out", 1)
    without, weak, strong = noise_effect.measured(run)["alphas"]
    assert (without["alpha"], without["noise_to_signal"]) == (0, 0)
    assert [np.shape(each["per_sample"]) for each in (without, weak, strong)] == [(1, 100), (3, 100), (3, 100)]
    assert strong["noise_to_signal"] == pytest.approx(100 * weak["noise_to_signal"])
    # Each seed draws other noise.
    assert len({tuple(losses) for losses in weak["per_sample"]}) == 3
    rises = [np.mean(np.array(each["per_sample"]) - without["per_sample"]) for each in (weak, strong)]
    assert abs(rises[0]) < abs(rises[1]) / 4


def result(*alphas: float) -> dict[str, object]:
    """A base whose loss rises with the square of alpha."""
    noisy = [
        {"alpha": alpha, "noise_to_signal": alpha / 20, "per_sample": [[2 + alpha**2 / 100, 4 + alpha**2 / 100]] * 3}
        for alpha in alphas
    ]
    return {"base": "a", "alphas": [{"alpha": 0.0, "noise_to_signal": 0.0, "per_sample": [[2.0, 4.0]]}, *noisy]}


def test_the_table_has_the_alpha_of_each_rise(page: ModuleType) -> None:
    base = page.Base.read(result(1, 10, 20))
    lines = list(page.table([base]))
    assert "| a, 3.000 | 10 | 0.500 | +1.000 (+1.000 to +1.000) |" in lines
    # The square root of the rise times 10, between the alphas that were measured.
    assert lines[-4:-2] == ["| 0.1 | alpha | 3 | 1.0 |", "| 0.1 | noise-to-signal | 0.16 | 1.0 |"]
    assert lines[-2:] == ["| 0.5 | alpha | 7 | 1.0 |", "| 0.5 | noise-to-signal | 0.35 | 1.0 |"]


def test_the_figure_has_both_scales_of_strength(page: ModuleType) -> None:
    first, second = page.draw([page.Base.read(result(1, 10))] * 2).axes
    assert [panel.get_xlabel() for panel in (first, second)] == ["alpha", "noise-to-signal"]
    drawn = [panel.get_lines()[0].get_xdata().tolist() for panel in (first, second)]
    assert drawn == [[1, 10], [0.05, 0.5]]
