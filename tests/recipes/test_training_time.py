"""The estimated time, against the operations of a weight and token."""

from __future__ import annotations

import pytest

from lightning_neft.hub.base_models import find_base_model
from lightning_neft.recipes.training_time import PEAK_FLOPS, UTILISATION, training_seconds

LLAMA = find_base_model("llama-2-7b")
TOKENS, LENGTH = 512_000, 512


def test_time_is_six_operations_a_weight_and_token() -> None:
    found = training_seconds(LLAMA, TOKENS, LENGTH)
    # The attention adds 2 %.
    assert found == pytest.approx(6 * 6.607e9 * TOKENS / (PEAK_FLOPS * UTILISATION), rel=0.03)


def test_frozen_weights_checkpointing_and_devices_change_it() -> None:
    found = training_seconds(LLAMA, TOKENS, LENGTH)
    assert training_seconds(LLAMA, TOKENS, LENGTH, is_frozen=True) / found == pytest.approx(2 / 3)
    assert training_seconds(LLAMA, TOKENS, LENGTH, is_checkpointed=True) / found == pytest.approx(4 / 3)
    assert training_seconds(LLAMA, TOKENS, LENGTH, devices=4) == pytest.approx(found / 4)
