"""The benchmarks run and read what they time; that of the noise ends where a side does something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture
def noise_op(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import noise_op

    return noise_op


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_side_is_checked_and_timed(noise_op, dtype: str) -> None:
    row = noise_op.measure((4, 64, 64), dtype, torch.device("cpu"), rounds=2)
    assert set(row["milliseconds"]) == {"copy", "transformers", "nemo", "operator", "ours"}
    assert all(times["lowest"] > 0 and times["rounds"] == 2 for times in row["milliseconds"].values())
    assert set(row["ratios"]) == set(row["operator_ratios"]) == {"copy", "transformers", "nemo"}


@pytest.mark.parametrize("fault", ["no noise", "one draw for all", "a tenth too strong", "noise on padding", "NaN"])
def test_a_side_that_does_something_else_ends_the_run(noise_op, fault: str) -> None:
    clean = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(0))
    mask = noise_op._mask(4, 64)
    right = noise_op._sides(clean, mask)["ours"]
    noise_op._check("ours", right, clean, mask)
    drawn = right()
    faults = {
        "no noise": lambda: clean.clone(),
        "one draw for all": lambda: drawn,
        "a tenth too strong": lambda: clean + 1.1 * (right() - clean),
        "noise on padding": lambda: right() + 1e-4 * (1 - mask)[..., None],
        "NaN": lambda: right().index_fill(1, torch.tensor([3]), float("nan")),
    }
    with pytest.raises(SystemExit, match="ours does not give what it is timed for"):
        noise_op._check("ours", faults[fault], clean, mask)


def test_targets_are_met_on_their_own_side_of_the_bound(noise_op) -> None:
    assert noise_op.target("x", 0.8, "<= 0.8")["met"]
    assert not noise_op.target("x", 0.81, "<= 0.8")["met"]
    assert noise_op.target("x", 2.5, ">= 2.5")["met"]
    assert not noise_op.target("x", 2.4, ">= 2.5")["met"]


@pytest.fixture
def real_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import real_model

    return real_model


def test_shares_and_ratios_are_taken_within_a_round(real_model) -> None:
    times = {"seconds": 1.0, "wall_seconds": 2.0, "first_step_after_process": 1.0, "first_step_after_fit": 0.5}

    def record(speed: float, peak: float) -> dict[str, object]:
        return {"tokens_per_second": speed, "peak_rss": peak, "settings": {}, **times}

    rounds = [
        {
            "gemm": {"flops_per_token": 10.0, "bf16": 1000.0 * slow, "float32": 500.0 * slow},
            "trl": record(20 * slow, 10e9),
            "ours_default": record(70 * slow, 5e9),
        }
        for slow in (1.0, 0.5, 0.8)
    ]
    report = real_model._report(rounds, ["trl", "ours_default"])
    assert report["sides"]["ours_default"]["share_bf16"] == pytest.approx(0.7)
    assert report["sides"]["trl"]["share_float32"] == pytest.approx(0.4)
    found = {aim["what"]: (round(aim["value"], 3), aim["met"]) for aim in report["targets"]}
    assert found == {
        "share of the bf16 products": (0.7, True),
        "tokens_per_second: ours_default / trl": (3.5, True),
        "peak_rss: ours_default / trl": (0.5, True),
    }


def test_figures_of_other_samples_are_not_continued(real_model, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert real_model._rounds_so_far(out, {"samples": 8}) == []
    out.write_text('{"workload": {"samples": 8}, "rounds": [{"trl": {}}]}')
    assert real_model._rounds_so_far(out, {"samples": 8}) == [{"trl": {}}]
    with pytest.raises(SystemExit, match="other samples"):
        real_model._rounds_so_far(out, {"samples": 9})


def test_a_fit_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import recipe_runs

    found = recipe_runs._fit("smollm2-135m-instruct/dolly-3k", ["--tiny", f"--data.cache_dir={tmp_path}"])
    assert found["steps"] == 2
    assert all(1 < found[loss] < 20 for loss in ("held_out_loss_before", "held_out_loss"))
    assert all(found[name] > 0 for name in ("tokens_per_second", "peak_memory_gb", "seconds"))
