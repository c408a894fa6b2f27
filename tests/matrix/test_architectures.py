"""Noise is on, exact and gone again on every architecture of the table, or its absence is an error."""

from __future__ import annotations

import pytest
import torch

from matrix import checks
from matrix.architectures import ROWS
from matrix.checks import Case, case_of


def rows_of(check: checks.Check) -> pytest.MarkDecorator:
    """The rows that a check applies to, as a parameter by name."""
    names = [row.name for row in ROWS if checks.not_applicable(row, check) is None]
    return pytest.mark.parametrize("case", names, indirect=True)


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    row = next(row for row in ROWS if row.name == request.param)
    if row.needs is not None:
        pytest.importorskip(row.needs)
    return case_of(row.name)


def test_names_are_unique():
    assert len({row.name for row in ROWS}) == len(ROWS)


@rows_of(checks.noise_lands_on_the_token_embedding_alone)
def test_noise_lands_on_the_token_embedding_alone(case):
    checks.noise_lands_on_the_token_embedding_alone(case)


@rows_of(checks.padding_stays_and_every_token_moves)
def test_padding_stays_and_every_token_moves(case):
    checks.padding_stays_and_every_token_moves(case)


@rows_of(checks.strength_is_alpha_over_root_of_length_times_width)
def test_strength_is_alpha_over_root_of_length_times_width(case):
    checks.strength_is_alpha_over_root_of_length_times_width(case)


@rows_of(checks.loss_and_logits_change)
def test_loss_and_logits_change(case):
    checks.loss_and_logits_change(case)


@rows_of(checks.passes_without_gradients_are_clean)
def test_passes_without_gradients_are_clean(case):
    checks.passes_without_gradients_are_clean(case)


@rows_of(checks.generation_is_clean)
def test_generation_is_clean(case):
    checks.generation_is_clean(case)


@rows_of(checks.gradients_are_finite_and_of_the_noisy_pass)
def test_gradients_are_finite_and_of_the_noisy_pass(case):
    checks.gradients_are_finite_and_of_the_noisy_pass(case)


@rows_of(checks.nothing_is_left_on_the_model)
def test_nothing_is_left_on_the_model(case):
    checks.nothing_is_left_on_the_model(case)


@rows_of(checks.image_slots_enter_the_first_block_unchanged)
def test_image_slots_enter_the_first_block_unchanged(case):
    checks.image_slots_enter_the_first_block_unchanged(case)


@rows_of(checks.missing_noise_is_an_error)
def test_missing_noise_is_an_error(case):
    checks.missing_noise_is_an_error(case)


@pytest.mark.parametrize("use_reentrant", [True, False])
@pytest.mark.parametrize("base", ["Llama", "LoRA"])
def test_checkpointing_changes_no_gradient_of_the_noise(base, use_reentrant):
    kind = "reentrant" if use_reentrant else "not reentrant"
    plain, checkpointed = case_of(base), case_of(f"{base}, checkpointed, {kind}")
    gradients = [noisy_gradients(case) for case in (plain, checkpointed)]
    assert gradients[0].keys() <= gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_a_checkpointed_embedding_has_its_own_gradients():
    plain, checkpointed = (
        noisy_gradients(case_of(name))
        for name in ("nn.Embedding and nn.TransformerEncoder", "Embedding inside a checkpoint, not reentrant")
    )
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient)


def noisy_gradients(case):
    with case.attached() as noise, noise.armed(case.batch, 0):
        return checks._gradients(case, case.forward()[0])
