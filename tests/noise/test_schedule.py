"""Alpha over the run."""

from __future__ import annotations

import math
import re
from typing import get_args

import pytest

from lightning_neft.errors import ConfigError
from lightning_neft.noise.schedule import AlphaSchedule, ScheduleName


def test_constant_stays_one_and_needs_no_progress():
    schedule = AlphaSchedule()
    assert [schedule(p) for p in (0, 0.3, 1)] == [1, 1, 1]
    assert schedule.is_constant
    assert not AlphaSchedule("constant", warmup=0.1).is_constant


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.5), ("cosine", 0.5)])
def test_decays_reach_zero_at_the_end(shape, middle):
    schedule = AlphaSchedule(shape)
    assert schedule(0) == 1
    assert schedule(0.5) == pytest.approx(middle)
    assert schedule(1) == pytest.approx(0)
    assert not schedule.is_constant


def test_cosine_is_slower_than_linear_at_first():
    assert AlphaSchedule("cosine")(0.25) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert AlphaSchedule("cosine")(0.25) > AlphaSchedule("linear")(0.25)


def test_warm_up_rises_to_where_the_shape_begins():
    schedule = AlphaSchedule("linear", warmup=0.2)
    assert schedule(0) == 0
    assert schedule(0.1) == pytest.approx(0.5)
    assert schedule(0.2) == 1
    assert schedule(0.6) == pytest.approx(0.5)


def test_a_callable_gets_the_progress_after_the_warm_up():
    schedule = AlphaSchedule(lambda progress: 10 * progress, warmup=0.5)
    assert schedule(0.75) == pytest.approx(5)


def test_progress_outside_the_run_is_clamped():
    assert AlphaSchedule("linear")(1.7) == 0
    assert AlphaSchedule("linear")(-0.1) == 1


def test_every_name_is_known():
    assert {AlphaSchedule(name)(0.0) for name in get_args(ScheduleName)} == {1.0}


@pytest.mark.parametrize("factor", [math.nan, math.inf, -0.1, None, "x"])
def test_a_factor_that_is_no_strength_is_an_error(factor, snapshot):
    with pytest.raises(ConfigError, match=re.escape(f"{factor!r} at progress 0.5")) as error:
        AlphaSchedule(lambda progress: factor)(0.5)
    snapshot(str(error.value))


@pytest.mark.parametrize("warmup", [-0.1, 1, math.nan, "0.1", True])
def test_a_warm_up_outside_the_run_is_an_error(warmup, snapshot):
    with pytest.raises(ConfigError, match=re.escape(f"warmup={warmup!r}")) as error:
        AlphaSchedule(warmup=warmup)
    snapshot(str(error.value))


def test_an_unknown_name_is_an_error(snapshot):
    with pytest.raises(ConfigError, match=r"schedule='step'.*constant, linear, cosine") as error:
        AlphaSchedule("step")
    snapshot(str(error.value))
