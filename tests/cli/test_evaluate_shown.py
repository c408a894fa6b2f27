"""What `evaluate` shows a person of the losses without noise: means, medians, and a bar for each range of losses."""

from __future__ import annotations

from rich.console import Console

from lightning_neft.cli.evaluate import overfitting


def shown(training: list[float], held_out: list[float]) -> list[list[str]]:
    """The words of each line that is shown."""
    splits = {
        name: {"n_samples": len(values), "mean_loss": sum(values) / len(values), "per_sample": values}
        for name, values in (("train", training), ("held_out", held_out))
    }
    console = Console(width=100)
    with console.capture() as capture:
        overfitting.CleanLossKind().show({"label": "mine", "splits": splits}, console)
    return [line.split() for line in capture.get().splitlines()]


def test_losses_are_shown_by_mean_median_and_bars() -> None:
    lines = shown([0.5, 1.0, 1.5, 4.0], [3.0, 4.0])
    assert lines[0][0] == "mine:"
    assert ["train", "4", "1.7500", "1.2500"] in lines
    assert ["held-out", "2", "3.5000", "3.5000"] in lines
    bars = [line for line in lines if line[1:2] == ["to"]]
    assert (bars[0][0], bars[-1][2]) == ("0.00", "4.00")
    # The highest loss is in the last bin, not behind it: half of the held-out samples, a quarter of the others.
    training, held_out = bars[-1][3:]
    assert len(held_out) == 2 * len(training) > 0
    assert sum(len(bar) for line in bars for bar in line[3:]) == 2 * overfitting._BAR


def test_losses_of_zero_are_all_in_the_first_bin() -> None:
    bars = [line for line in shown([0.0], [0.0, 0.0]) if line[1:2] == ["to"]]
    assert [len(bar) for bar in bars[0][3:]] == [overfitting._BAR] * 2
    assert [line[3:] for line in bars[1:]] == [[]] * (len(bars) - 1)
