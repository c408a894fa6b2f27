"""The global batch: from the rows of a step to those of each device, and runs that it decides."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from lightning_utilities.core import rank_zero

from lightning_neft.cli.main import main
from lightning_neft.data.batching.global_batch import split_batch
from lightning_neft.errors import ConfigError
from ranks import run_ranks


@pytest.mark.parametrize(
    ("size", "ranks", "most", "expected"),
    [
        (128, 1, 16, (16, 8)),
        (128, 8, 16, (16, 1)),
        (128, 16, 16, (8, 1)),
        (8, 1, 16, (8, 1)),
        (24, 1, 16, (12, 2)),
        (21, 3, 4, (1, 7)),
        (1, 1, 1, (1, 1)),
    ],
)
def test_rows_are_shared_exactly_in_the_largest_batches(
    size: int, ranks: int, most: int, expected: tuple[int, int]
) -> None:
    assert split_batch(size, ranks, most) == expected


def test_each_split_is_exact_and_the_largest() -> None:
    for each in range(1, 50):
        for most in range(1, 20):
            rows, times = split_batch(3 * each, 3, most)
            assert rows * times == each
            assert not [larger for larger in range(rows + 1, most + 1) if each % larger == 0]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (3, "global_batch_size=3 is less than one row for each of the 4 data-parallel processes; give 4 or more"),
        (130, "global_batch_size=130 cannot be divided evenly by 4 data-parallel processes; give 128 or 132"),
    ],
)
def test_what_cannot_be_shared_is_refused(size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_batch(size, 4, 16)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run of 24 samples, some long, one epoch."""
    monkeypatch.chdir(tmp_path)
    records = [{"instruction": f"Say {n}.", "output": "word " * (1 + n % 7)} for n in range(26)]
    Path("data.json").write_text(json.dumps(records))
    return [
        *("--data.source=data.json", "--data.val_size=2", "--data.cache_dir=cache", "--model.learning_rate=1e-3"),
        *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
        *("--trainer.enable_model_summary=false", "--trainer.log_every_n_steps=1", "--samples=0", "--clean_loss=0"),
        *("--trainer.num_sanity_val_steps=0", "--neftune=null"),
    ]


def weights(name: str) -> dict[str, torch.Tensor]:
    return torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_a_run_is_the_one_with_the_accumulation_that_it_says(
    options: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert main(["fit", *options, "--name=derived", "--global_batch_size=12", "--data.batch_size=5"]) == 0
    assert "global_batch_size 12 = 1 device x 4 rows x 3 batches a step" in caplog.text
    by_hand = ["--trainer.accumulate_grad_batches=3", "--data.batch_size=4"]
    assert main(["fit", *options, "--name=by_hand", *by_hand]) == 0
    derived, given = weights("derived"), weights("by_hand")
    assert [name for name in given if not torch.equal(derived[name], given[name])] == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--global_batch_size=0"], "global_batch_size must be 1 or more, got 0"),
        (
            ["--global_batch_size=8", "--trainer.accumulate_grad_batches=2"],
            "global_batch_size=8 sets trainer.accumulate_grad_batches, which is 2; omit one of the two",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(
    more: list[str], message: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *options, *more]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(options: list[str], tmp_path: Path) -> None:
    options = [*options, "--data.batching=random"]  # the order of grouped batches depends on the devices
    assert main(["fit", *options, "--name=one", "--global_batch_size=8"]) == 0
    both = ["--global_batch_size=8", "--data.batch_size=2", "--trainer.devices=2", "--trainer.strategy=ddp"]

    def fit() -> int | None:
        # The handler of Lightning has the standard error of the process that imported it. Earlier tests may have
        # silenced the logger, and imports of pytorch_lightning change which one it is.
        logger = rank_zero.log
        logger.disabled = False
        logger.filters.clear()
        logger.setLevel(logging.INFO)
        logger.addHandler(logging.StreamHandler())
        return main(["fit", *options, "--name=two", *both])

    run_ranks(fit, tmp_path)
    printed = [(tmp_path / f"rank-{rank}.log").read_text() for rank in range(2)]
    line = "global_batch_size 8 = 2 devices x 2 rows x 2 batches a step"
    assert [text.count(line) for text in printed] == [1, 0]
    one, two = weights("one"), weights("two")
    # The same rows in each step: other batches only round differently.
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-4
