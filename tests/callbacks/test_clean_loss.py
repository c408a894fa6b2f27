"""The noise-off loss beside the noisy one, and a training that does not notice it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_neft import NEFTune
from lightning_neft.callbacks.losses import CleanLoss
from lightning_neft.errors import ConfigError
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.loss import mean_loss
from models.words import batches, fit
from tiny import LoggedRows, Tuned, llama, loader, trainer


class Watched(CausalLM):
    """Keeps for each training batch the loss of its weights in eval mode, worked out beside the callback."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.expected: list[float] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        modes = {part: part.training for part in self.model.modules()}
        self.model.eval()
        with torch.no_grad():
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
            self.expected.append(self.model(**inputs).loss.item())
        for part, mode in modes.items():
            part.training = mode
        return super().training_step(batch, batch_idx)


def logged(rows: LoggedRows, name: str) -> dict[int, float]:
    found = [(row["step"], row[name]) for row in rows.rows if name in row]
    assert len(dict(found)) == len(found)  # once a step
    return dict(found)


@pytest.mark.parametrize(
    ("every", "log_every", "steps"),
    [(1, 1, range(12)), (3, 1, [2, 5, 8, 11]), (3, 2, [3, 7, 11]), (5, 4, [7]), (4, 4, [3, 7, 11])],
)
def test_it_is_logged_beside_the_loss_with_noise(base: str, every: int, log_every: int, steps: Any) -> None:
    rows, module, callback = LoggedRows(), Watched(base, learning_rate=0.01), CleanLoss(every)
    fit(module, 12, callbacks=[NEFTune(alpha=20), callback], logger=rows, log_every_n_steps=log_every)
    clean, noisy = logged(rows, "train/clean_loss"), logged(rows, "train/loss")
    assert list(clean) == list(steps)
    assert clean.keys() <= noisy.keys()
    for step, loss in clean.items():
        assert loss == pytest.approx(module.expected[step], rel=1e-6)
        assert abs(noisy[step] - loss) > 1e-3
    # Loggers count steps from 0.
    assert callback.last == (step + 1, pytest.approx(noisy[step]), pytest.approx(loss))


def test_of_accumulated_batches_it_is_that_of_the_last_one(base: str) -> None:
    rows, module = LoggedRows(), Watched(base, learning_rate=0.01)
    options = {"max_steps": 4, "accumulate_grad_batches": 3, "log_every_n_steps": 2}
    fit(module, 12, callbacks=[NEFTune(alpha=20), CleanLoss(2)], logger=rows, **options)
    clean = logged(rows, "train/clean_loss")
    assert list(clean) == list(logged(rows, "train/loss")) == [1, 3]
    assert clean[1] == pytest.approx(module.expected[5], rel=1e-6)
    assert clean[3] == pytest.approx(module.expected[11], rel=1e-6)


def test_antithetic_pairs_have_the_clean_loss_of_their_batch(base: str) -> None:
    rows, module = LoggedRows(), Watched(base)
    noise = NEFTune(alpha=20, antithetic=True)
    for callbacks in ([noise, CleanLoss(1)], [CleanLoss(1), noise]):
        module.expected.clear()
        fit(module, 3, callbacks=callbacks, logger=rows, log_every_n_steps=1)
        assert list(logged(rows, "train/clean_loss").values()) == pytest.approx(module.expected, rel=1e-6)
        rows.rows.clear()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_training_does_not_notice_it(base: str, precision: Any, accumulate: int) -> None:
    weights = []
    for callbacks in ([], [CleanLoss(1)]):
        torch.manual_seed(0)
        # With dropout, whose random numbers the probe must not draw.
        module = CausalLM(base, learning_rate=0.01, warmup_ratio=0.0)
        options = {"precision": precision, "accumulate_grad_batches": accumulate, "log_every_n_steps": 1}
        fit(module, 6, callbacks=[NEFTune(alpha=5), *callbacks], max_steps=6 // accumulate, **options)
        weights.append(module.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_fit_with_shares_of_the_step_logs_plain_means(base: str) -> None:
    given = [{**batch, "step_share": torch.tensor(0.125)} for batch in batches(3)]
    rows, module = LoggedRows(), Watched(base, keep_eval=True)
    data = DataLoader(given, batch_size=None)  # type: ignore[arg-type]
    fit(module, 3, data, callbacks=[CleanLoss(1)], logger=rows, log_every_n_steps=1)
    assert list(logged(rows, "train/loss").values()) == pytest.approx(module.expected, rel=1e-6)
    assert list(logged(rows, "train/clean_loss").values()) == pytest.approx(module.expected, rel=1e-6)


def test_the_loss_is_logged_as_the_trainer_says(base: str) -> None:
    rows, module = LoggedRows(), CausalLM(base, keep_eval=True, learning_rate=0.0)
    fit(module, 6, logger=rows, log_every_n_steps=2)
    losses = logged(rows, "train/loss")
    expected = [mean_loss(module.predictions(batch)).item() for batch in batches(6)]
    assert losses == {step: pytest.approx(expected[step], rel=1e-6) for step in (1, 3, 5)}


def test_what_it_cannot_work_with_is_refused(snapshot: Callable[[str], None]) -> None:
    with pytest.raises(ConfigError, match="every_n_steps=0"):
        CleanLoss(0)
    with pytest.raises(ConfigError, match=r"CleanLoss .*Tuned") as caught:
        trainer(callbacks=[CleanLoss()]).fit(Tuned(llama()), loader())
    snapshot(str(caught.value))
