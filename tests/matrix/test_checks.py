"""Each check of the table can fail: what goes wrong elsewhere (noise on padding, leaks, wrong L, ...) is caught."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lightning_neft.noise import embedding, hook, injector
from lightning_neft.noise.functional import noise
from lightning_neft.noise.hook import NoiseHook
from lightning_neft.noise.injector import EmbeddingNoise
from matrix import checks
from matrix.adapters import TIED
from matrix.architectures import ROWS
from matrix.checks import Case, Check, build
from matrix.rows import Architecture

Patch = pytest.MonkeyPatch


def row_of(name: str) -> Architecture:
    return next(row for row in ROWS if row.name == name)


def noise_on_positions_too(patch: Patch, case: Case) -> None:
    attach = EmbeddingNoise.attach

    def both(self, module):
        self.target = ["transformer.wte", "transformer.wpe"]
        self.length = "padded"
        return attach(self, module)

    patch.setattr(EmbeddingNoise, "attach", both)


def no_noise(patch: Patch, case: Case) -> None:
    patch.setattr(hook, "add_noise", lambda activation, *args: activation.clone())


def padded_lengths(patch: Patch, case: Case) -> None:
    """The transformers form: noise on padding, one L for all rows."""
    arm = EmbeddingNoise.arm

    def padded(self, *args, **kwargs):
        self.length = "padded"
        arm(self, *args, **kwargs)

    patch.setattr(EmbeddingNoise, "arm", padded)


def one_sided(patch: Patch, case: Case) -> None:
    """`rand` without the sign, of the same bound."""

    def of_halves(activation, *args):
        return (activation + noise(activation, *args).abs() / 2).to(activation.dtype)

    patch.setattr(hook, "add_noise", of_halves)


def tenth_too_strong(patch: Patch, case: Case) -> None:
    add_noise = hook.add_noise
    patch.setattr(hook, "add_noise", lambda activation, scale, *args: add_noise(activation, 1.1 * scale, *args))


def image_slots_counted(patch: Patch, case: Case) -> None:
    patch.setattr(embedding, "_SLOTS", ())


def noise_without_gradients(patch: Patch, case: Case) -> None:
    original = NoiseHook._add_noise

    def always(self, module, args, kwargs, output):
        with torch.enable_grad():
            return original(self, module, args, kwargs, output)

    patch.setattr(NoiseHook, "_add_noise", always)


def noise_in_generation(patch: Patch, case: Case) -> None:
    """With the width of each call as L, as lengths of the training batch do not fit there."""
    noise_without_gradients(patch, case)
    padded_lengths(patch, case)


def noise_stays_armed(patch: Patch, case: Case) -> None:
    patch.setattr(NoiseHook, "disarm", lambda self: None)


def gradient_cut(patch: Patch, case: Case) -> None:
    add_noise = hook.add_noise
    patch.setattr(hook, "add_noise", lambda activation, *args: add_noise(activation.detach(), *args).requires_grad_())


def gradient_not_finite(patch: Patch, case: Case) -> None:
    add_noise = hook.add_noise

    def broken(*args):
        noisy = add_noise(*args)
        noisy.register_hook(lambda gradient: gradient * float("nan"))
        return noisy

    patch.setattr(hook, "add_noise", broken)


def hook_stays(patch: Patch, case: Case) -> None:
    patch.setattr(NoiseHook, "remove", lambda self: None)


def head_untied(patch: Patch, case: Case) -> None:
    """What wrapping or replacing the embedding's weight does."""
    register = NoiseHook.register

    def untying(self):
        self.target.module.weight = torch.nn.Parameter(self.target.module.weight.detach().clone())
        register(self)

    patch.setattr(NoiseHook, "register", untying)


def noise_on_image_features(patch: Patch, case: Case) -> None:
    case.model.get_submodule("model.multi_modal_projector").register_forward_hook(
        lambda module, args, output: output + torch.rand_like(output)
    )


def silent(patch: Patch, case: Case) -> None:
    patch.setattr(injector, "explain_missing_noise", None)
    disarm = EmbeddingNoise.disarm
    patch.setattr(EmbeddingNoise, "disarm", lambda self, **_: disarm(self, verify=False))


@pytest.mark.parametrize(
    ("check", "name", "mutant", "message"),
    [
        (checks.noise_lands_on_the_token_embedding_alone, "GPT-2", noise_on_positions_too, "transformer.wpe"),
        (checks.noise_lands_on_the_token_embedding_alone, "Llama", no_noise, r"noise came in at \[\]"),
        (checks.padding_stays_and_every_token_moves, "Llama", padded_lengths, "noise on 13 paddings"),
        (checks.padding_stays_and_every_token_moves, "Llama", no_noise, "only 0.0%"),
        (checks.padding_stays_and_every_token_moves, "LLaVA", image_slots_counted, "noise on 8 paddings"),
        (checks.strength_is_alpha_over_root_of_length_times_width, "Llama", padded_lengths, "row 1 of 7 tokens"),
        (checks.strength_is_alpha_over_root_of_length_times_width, "BART", padded_lengths, "row 1 of 7 tokens"),
        (checks.strength_is_alpha_over_root_of_length_times_width, "Llama", tenth_too_strong, "row 0 of 12 tokens"),
        (checks.strength_is_alpha_over_root_of_length_times_width, "Llama", one_sided, "row 0 of 12 tokens"),
        (checks.strength_is_alpha_over_root_of_length_times_width, "LLaVA", image_slots_counted, "row 0 of 8 tokens"),
        (checks.loss_and_logits_change, "Llama", no_noise, "with and without noise"),
        (checks.loss_and_logits_change, "Llama", noise_stays_armed, "is not clean"),
        (checks.passes_without_gradients_are_clean, "Llama", noise_without_gradients, "without gradients"),
        (checks.generation_is_clean, "Llama", noise_in_generation, "in generation"),
        (checks.gradients_are_finite_and_of_the_noisy_pass, "Llama", gradient_cut, "on one side only"),
        (checks.gradients_are_finite_and_of_the_noisy_pass, "Llama", gradient_not_finite, "are not finite"),
        (checks.gradients_are_finite_and_of_the_noisy_pass, "Llama", no_noise, "of a clean pass"),
        (checks.nothing_is_left_on_the_model, "Llama", hook_stays, "are left"),
        (checks.nothing_is_left_on_the_model, TIED.name, head_untied, "attaching changed"),
        (checks.image_slots_enter_the_first_block_unchanged, "LLaVA", noise_on_image_features, "on an image slot"),
        (checks.missing_noise_is_an_error, "inputs_embeds looked up past the embedding", silent, "no error"),
    ],
)
def test_a_check_catches(monkeypatch, check: Check, name: str, mutant: Callable[[Patch, Case], None], message: str):
    case = build(row_of(name))
    mutant(monkeypatch, case)
    with pytest.raises(AssertionError, match=message):
        check(case)


def test_every_check_is_shown_to_fail():
    parametrised = next(mark for mark in test_a_check_catches.pytestmark if mark.name == "parametrize")
    assert {arguments[0] for arguments in parametrised.args[1]} == set(checks.CHECKS.values())
