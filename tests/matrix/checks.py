"""The checks that every row goes through. Each raises AssertionError with what it saw; test_checks.py shows it failing.

They do not ask the package what happened: they compare activations of a clean and an armed pass, taken down by hooks
of their own, with lengths that the table states.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neft.errors import NEFTError
from lightning_neft.noise.injector import EmbeddingNoise
from matrix.recording import Recording, equal, recorded, sources_of_change
from matrix.rows import Architecture, Batch

ALPHA = 5.0
# Draws of which the strength of the noise is taken.
STEPS = 16
# In standard errors. The mean of n squares of Uniform(-1, 1) has a relative standard error of sqrt(4/5 / n), the RMS
# half of that. So 3 to 7 %, by length and width; padding counted as tokens (12 for 7) would be 24 % off.
TOLERANCE = 5.0


@dataclass
class Case:
    """A row with its model built, its batch made, and what a clean pass of it looks like."""

    row: Architecture
    model: nn.Module
    batch: Batch
    clean: Recording = field(default_factory=dict)
    noisy: Recording = field(default_factory=dict)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Loss and logits."""
        return self.row.forward(self.model, self.batch)

    @contextmanager
    def attached(self) -> Iterator[EmbeddingNoise]:
        """The noise on this row's model, not armed yet."""
        with EmbeddingNoise(ALPHA, target=self.row.target) as noise:
            yield noise.attach(self.model)

    def tokens(self) -> dict[str, list[Tensor]]:
        """Of each embedding that is to get noise, the mask (B, L) of the tokens in each of its calls."""
        if self.row.tokens is None:
            return {self.row.expected[0]: [self.batch["attention_mask"] == 1]}
        return {name: list(masks) for name, masks in self.row.tokens().items()}

    def record(self) -> tuple[Recording, Recording]:
        """The clean and the armed pass, taken down once."""
        if not self.clean:
            with self.attached() as noise:
                with recorded(self.model) as self.clean:
                    self.forward()
                with recorded(self.model) as self.noisy, noise.armed(self.batch, 0):
                    self.forward()
        return self.clean, self.noisy


def build(row: Architecture) -> Case:
    """Build a row's model on seeded random weights, leaving the global random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = row.build().train(row.train)
    return Case(row, model, row.batch())


@cache
def case_of(name: str) -> Case:
    """The case of a row by name, built once."""
    from matrix.architectures import ROWS

    return build(next(row for row in ROWS if row.name == name))


def noise_lands_on_the_token_embedding_alone(case: Case) -> None:
    """The two passes first differ at the expected modules and nowhere else; all other tables are unchanged."""
    clean, noisy = case.record()
    found = sources_of_change(clean, noisy)
    assert found == set(case.row.expected), f"noise came in at {sorted(found)}, not at {case.row.expected}"
    for name in _other_tables(case):
        same = all(equal(a.outputs, b.outputs) for a, b in zip(clean[name], noisy[name], strict=True))
        assert same, f"{name} returned something else"


def _other_tables(case: Case) -> list[str]:
    """Tables that are looked up (position, token type, ...) but do not embed the tokens."""
    return [
        name
        for name, module in case.model.named_modules()
        if isinstance(module, nn.Embedding)
        and name in case.clean
        and not any(name == expected or name.startswith(f"{expected}.") for expected in case.row.expected)
    ]


def padding_stays_and_every_token_moves(case: Case) -> None:
    """On padding the embedding is bit-equal; on each token nearly all elements differ."""
    for name, index, difference, tokens in _differences(case):
        moved = difference != 0
        assert not moved[~tokens].any(), f"{name}, call {index}: noise on {int(moved[~tokens].any(-1).sum())} paddings"
        share = moved[tokens].float().mean().item()
        assert share > 0.99, f"{name}, call {index}: only {share:.1%} of the tokens' elements got noise"


def _differences(case: Case) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """Of each call of each embedding: its name, number, armed minus clean output, and the mask of its tokens."""
    clean, noisy = case.record()
    yield from _differences_of(case, clean, noisy)


def _differences_of(case: Case, clean: Recording, noisy: Recording) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    for name, masks in case.tokens().items():
        assert len(clean[name]) == len(noisy[name]) == len(masks), f"{name} was called {len(noisy[name])} times"
        for index, (one, other, tokens) in enumerate(zip(clean[name], noisy[name], masks, strict=True)):
            difference = other.outputs[0] - one.outputs[0]
            # Some models pad further before they embed.
            yield name, index, difference, nn.functional.pad(tokens, (0, difference.shape[1] - tokens.shape[1]))


def strength_is_alpha_over_root_of_length_times_width(case: Case) -> None:
    """The RMS of the noise in each sequence is alpha / sqrt(3 L d) for its true length L, up to the sampling error."""
    clean, _ = case.record()
    squares: dict[tuple[str, int], Tensor] = {}
    masks: dict[tuple[str, int], Tensor] = {}
    width = {}
    with case.attached() as noise:
        for step in range(STEPS):
            with recorded(case.model) as noisy, noise.armed(case.batch, step):
                case.forward()
            for name, index, difference, tokens in _differences_of(case, clean, noisy):
                of_row = (difference.double().square().sum(-1) * tokens).sum(-1)
                squares[name, index] = squares.get((name, index), torch.zeros(())) + of_row
                masks[name, index], width[name, index] = tokens, difference.shape[-1]
    for key, sums in squares.items():
        lengths, d = masks[key].sum(-1), width[key]
        for row, (total, length) in enumerate(zip(sums.tolist(), lengths.tolist(), strict=True)):
            count = STEPS * length * d
            rms, wanted = math.sqrt(total / count), ALPHA / math.sqrt(3 * length * d)
            tolerance = TOLERANCE * 0.5 * math.sqrt(0.8 / count)
            assert abs(rms / wanted - 1) < tolerance, (
                f"{key[0]}, call {key[1]}, row {row} of {length} tokens: RMS {rms:.5f}, not {wanted:.5f} "
                f"(tolerance {tolerance:.1%})"
            )


def loss_and_logits_change(case: Case) -> None:
    """The noise changes loss and logits, and a later pass is clean again."""
    clean_loss, clean_logits = case.forward()
    with case.attached() as noise:
        with noise.armed(case.batch, 0):
            loss, logits = case.forward()
        after_loss, after_logits = case.forward()
    assert loss.item() != clean_loss.item(), f"the loss is {loss.item()} with and without noise"
    assert not torch.equal(logits, clean_logits), "the logits are the same with and without noise"
    assert torch.isfinite(loss), f"the loss is {loss.item()}"
    same = torch.equal(after_loss, clean_loss) and torch.equal(after_logits, clean_logits)
    assert same, "the pass after the batch is not clean"


def passes_without_gradients_are_clean(case: Case) -> None:
    """A pass under no_grad is bit-equal to the clean one although the noise is armed."""
    with _known_warnings(), torch.no_grad(), case.attached() as noise:
        clean = case.forward()
        noise.arm(case.batch, 0)
        armed = case.forward()
        noise.disarm(verify=False)
    assert equal(list(clean), list(armed)), "noise in a pass without gradients"


def generation_is_clean(case: Case) -> None:
    """The logits of every generated token are bit-equal to the clean ones although the noise is armed."""
    with _known_warnings(), case.attached() as noise:
        clean = _generate(case)
        noise.arm(case.batch, 0)
        armed = _generate(case)
        noise.disarm(verify=False)
    assert equal(clean, armed), "noise in generation"


def _generate(case: Case) -> list[Tensor]:
    assert case.row.prompt is not None
    model: Any = case.model
    options = {"max_new_tokens": 3, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    # Generation with a cache is not for training mode with activation checkpointing.
    model.eval()
    output = model.generate(**case.row.prompt(case.batch), **options)
    model.train(case.row.train)
    return [output.sequences, *output.logits]


def gradients_are_finite_and_of_the_noisy_pass(case: Case) -> None:
    """The backward pass gives finite gradients that are not all zero and differ from those of the clean pass."""
    clean = _gradients(case, case.forward()[0])
    with case.attached() as noise, noise.armed(case.batch, 0):
        noisy = _gradients(case, case.forward()[0])
    assert noisy, "no parameter got a gradient"
    broken = [name for name, gradient in noisy.items() if not torch.isfinite(gradient).all()]
    assert not broken, f"gradients of {broken} are not finite"
    assert noisy.keys() == clean.keys(), f"gradients of {noisy.keys() ^ clean.keys()} on one side only"
    assert any(gradient.any() for gradient in noisy.values()), "all gradients are zero"
    assert any(not torch.equal(noisy[name], clean[name]) for name in noisy), "the gradients are those of a clean pass"


def _gradients(case: Case, loss: Tensor) -> dict[str, Tensor]:
    case.model.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.clone() for name, p in case.model.named_parameters() if p.grad is not None}
    case.model.zero_grad(set_to_none=True)
    return gradients


def nothing_is_left_on_the_model(case: Case) -> None:
    """While attached, no module, parameter or key is replaced; afterwards no hook and no attribute remains."""
    before, hooks = _structure(case.model), _attributes(case.model)
    with case.attached() as noise:
        assert _structure(case.model) == before, "attaching changed modules, parameters or the state dict"
        with noise.armed(case.batch, 0):
            case.forward()
        assert _structure(case.model) == before, "noise changed modules, parameters or the state dict"
    assert _structure(case.model) == before, "detaching changed modules, parameters or the state dict"
    assert _attributes(case.model) == hooks, "hooks or attributes are left on the model"


def _structure(model: nn.Module) -> list[object]:
    """Names, types and identities: tied parameters stay tied, wrapped modules would show."""
    modules = [(name, type(module), id(module)) for name, module in model.named_modules(remove_duplicate=False)]
    parameters = [(name, id(p), p._version) for name, p in model.named_parameters(remove_duplicate=False)]
    return [modules, parameters, list(model.state_dict())]


def _attributes(model: nn.Module) -> dict[str, object]:
    """What each module holds, its hooks counted."""
    return {
        name: {key: len(value) if key.endswith("_hooks") else None for key, value in vars(module).items()}
        for name, module in model.named_modules()
    }


def image_slots_enter_the_first_block_unchanged(case: Case) -> None:
    """At the positions of image features, the first block gets the same input as in a clean pass."""
    assert case.row.slots is not None
    block, slots = case.row.slots[0], case.row.slots[1]()
    clean, noisy = case.record()
    moved = clean[block][0].inputs[0] != noisy[block][0].inputs[0]
    assert not moved[slots].any(), "noise on an image slot"
    text = case.tokens()[case.row.expected[0]][0]
    assert moved[text].any(-1).all(), "text tokens without noise"


def missing_noise_is_an_error(case: Case) -> None:
    """Instead of a batch without noise there is an error with the reason, and the model is unchanged."""
    assert case.row.error is not None
    before = _attributes(case.model)
    message = None
    try:
        with case.attached() as noise, noise.armed(case.batch, 0):
            case.forward()[0].backward()  # type: ignore[no-untyped-call]
    except NEFTError as error:
        message = str(error)
    case.model.zero_grad(set_to_none=True)
    assert message is not None, "no error although no noise was added"
    assert case.row.error in message, message
    assert _attributes(case.model) == before, "hooks or attributes are left on the model"


@contextmanager
def _known_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # PEFT's prompt learning in transformers' generate, which always makes position ids.
        warnings.filterwarnings("ignore", "Position ids are not supported for parameter efficient tuning")
        # Reentrant checkpointing in a pass that wants no gradients.
        warnings.filterwarnings("ignore", "None of the inputs have requires_grad=True")
        yield


Check = Callable[[Case], None]

# By the heading of the page's column.
CHECKS: dict[str, Check] = {
    "noise on the token embedding alone": noise_lands_on_the_token_embedding_alone,
    "padding clean": padding_stays_and_every_token_moves,
    "strength": strength_is_alpha_over_root_of_length_times_width,
    "loss and logits": loss_and_logits_change,
    "no_grad clean": passes_without_gradients_are_clean,
    "generation clean": generation_is_clean,
    "gradients": gradients_are_finite_and_of_the_noisy_pass,
    "nothing left": nothing_is_left_on_the_model,
    "image slots clean": image_slots_enter_the_first_block_unchanged,
    "loud": missing_noise_is_an_error,
}


def not_applicable(row: Architecture, check: Check) -> str | None:
    """Why a check does not apply to a row; None if it does."""
    if row.error is not None:
        return None if check is missing_noise_is_an_error else "stops with an error instead"
    if check is missing_noise_is_an_error:
        return "noise is added"
    if check is generation_is_clean and row.prompt is None:
        return "does not generate"
    if check is image_slots_enter_the_first_block_unchanged and row.slots is None:
        return "reads no images"
    return None
