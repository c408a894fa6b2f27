"""The alpha that a study supports."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_neft.evaluation.choice import choose_alpha
from lightning_neft.evaluation.study_result import ArmResult, StudyResult

SAMPLES = 60


def study(effects: dict[float, float], seeds: int = 3, spread: float = 0.1) -> StudyResult:
    """Arms whose held-out losses differ from the baseline by an effect, and by noise of a spread."""
    random = np.random.default_rng(0)
    base = random.normal(2, 0.5, (seeds, SAMPLES))
    arms = [ArmResult(0.0, seed, "complete", held_out_per_sample=base[seed].tolist()) for seed in range(seeds)]
    for alpha, effect in effects.items():
        for seed in range(seeds):
            losses = base[seed] + effect + random.normal(0, spread, SAMPLES)
            arms.append(ArmResult(alpha, seed, "complete", held_out_per_sample=losses.tolist()))
    return StudyResult(arms=arms, comparisons=[])


def test_the_lowest_of_those_that_are_evidence_is_chosen() -> None:
    found = choose_alpha(study({5.0: -0.1, 10.0: -0.2, 15.0: 0.3}))
    assert found.alpha == 10
    assert found.interval is not None
    assert found.interval.mean == pytest.approx(-0.2, abs=0.03)
    assert "lower than with alpha 0 by 0.199 (98.33 % interval" in found.reason
    assert "3 seeds; the lowest of 3 alphas, corrected by Holm" in found.reason


@pytest.mark.parametrize("effects", [{5.0: 0.0, 15.0: 0.0}, {5.0: 0.2}, {}])
def test_without_evidence_of_a_lower_loss_it_is_0(effects: dict[float, float]) -> None:
    found = choose_alpha(study(effects))
    assert (found.alpha, found.interval, found.compared) == (0, None, len(effects))
    assert found.reason.startswith("no evidence at 95 % that another alpha has a lower held-out loss")


def test_few_seeds_are_no_evidence() -> None:
    assert choose_alpha(study({5.0: -1.0}, seeds=2)).alpha == 0


def test_more_comparisons_need_more_evidence() -> None:
    """A difference that passes alone does not pass among nine others that show nothing."""
    alone = study({5.0: -0.02})
    assert choose_alpha(alone).alpha == 5
    others = {float(alpha): 0.0 for alpha in range(10, 19)}
    assert choose_alpha(study({5.0: -0.02} | others)).alpha == 0


def test_clear_differences_do_not_count_against_the_rest() -> None:
    """Holm's method is less strict than Bonferroni's: what is evident leaves the comparison."""
    worse = {float(alpha): 3.0 for alpha in range(10, 19)}
    found = choose_alpha(study({5.0: -0.02} | worse))
    assert found.alpha == 5
    assert found.interval is not None
    assert found.interval.level == 0.95
