"""Curves of runs, killed ones too."""

from __future__ import annotations

from pathlib import Path

from lightning_neft.study.measure import read_curves


def test_a_resumed_run_has_one_curve_without_repeated_steps(tmp_path: Path) -> None:
    # version_10 comes after version_2: by number, not by name.
    for version, rows in (("2", ["1,3.0,", "2,2.5,4.0", "3,2.0,"]), ("10", ["3,1.9,", "4,1.5,3.5"])):
        folder = tmp_path / f"version_{version}"
        folder.mkdir()
        (folder / "metrics.csv").write_text("\n".join(["step,train/loss,val/loss", *rows]) + "\n", encoding="utf-8")
    found = read_curves(tmp_path)
    assert found["train/loss"] == [[1, 3.0], [2, 2.5], [3, 1.9], [4, 1.5]]
    assert found["val/loss"] == [[2, 4.0], [4, 3.5]]
    assert found["neft/noise_to_signal"] == []
