"""NEFTuneMixin: the callback's noise, added by the module itself."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor

from lightning_neft import NEFTune, NEFTuneMixin
from lightning_neft.errors import DuplicateNoiseError
from tiny import Tuned, llama, loader, trainer


class Mixed(NEFTuneMixin, Tuned):
    def configure_neftune(self):
        return NEFTune(alpha=10)


class MixedLast(Tuned, NEFTuneMixin):
    def configure_neftune(self):
        return NEFTune(alpha=10)


class Overriding(Mixed):
    def configure_callbacks(self):
        return LearningRateMonitor()


def fitted(module, callbacks=()):
    run = trainer(callbacks=list(callbacks))
    run.fit(module, loader())
    return run, torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("mixed", [Mixed, MixedLast])
def test_trains_to_the_bits_of_the_callback(mixed):
    _, expected = fitted(Tuned(llama()), [NEFTune(alpha=10)])
    assert torch.equal(fitted(mixed(llama()))[1], expected)


def test_overriding_configure_callbacks_keeps_the_noise():
    module = Overriding(llama())
    kinds = [type(callback) for callback in module.configure_callbacks()]
    assert kinds == [LearningRateMonitor, NEFTune]
    assert module.configure_callbacks()[1] is module.configure_callbacks()[1]


def test_a_second_fit_of_one_trainer_has_the_noise_once():
    module = Mixed(llama())
    run, _ = fitted(module)
    run.fit_loop.epoch_loop.max_steps = 6
    run.fit(module, loader())
    assert sum(isinstance(callback, NEFTune) for callback in run.callbacks) == 1
    assert len(module.model.get_input_embeddings()._forward_hooks) == 0


def test_another_module_takes_the_place_of_the_one_before():
    run, _ = fitted(Mixed(llama()))
    other = Mixed(llama())
    run.fit(other, loader())
    assert [callback for callback in run.callbacks if isinstance(callback, NEFTune)] == [other._neftune]
    run.callbacks.append(NEFTune())
    with pytest.raises(DuplicateNoiseError, match=r"Mixed .*Trainer"):
        run.fit(Mixed(llama()), loader())


def test_a_plain_module_does_not_get_the_noise_of_the_one_before():
    run, _ = fitted(Mixed(llama()))
    plain = Tuned(llama())
    run.fit_loop.epoch_loop.max_steps = 8
    run.fit(plain, loader())
    assert not any(isinstance(callback, NEFTune) for callback in run.callbacks)
    _, expected = fitted(Tuned(llama()))
    trained = torch.cat([parameter.detach().flatten() for parameter in plain.parameters()])
    assert torch.equal(trained, expected)


def test_a_module_without_callbacks_of_its_own_may_return_none():
    class Silent(Mixed):
        def configure_callbacks(self):
            return None

    assert [type(callback) for callback in Silent(llama()).configure_callbacks()] == [NEFTune]


def test_mixin_and_callback_together_are_an_error(snapshot):
    with pytest.raises(DuplicateNoiseError, match=r"Mixed .*Trainer") as error:
        fitted(Mixed(llama()), [NEFTune()])
    snapshot(str(error.value))


def test_the_module_can_say_what_is_padding():
    asked = []

    class Masked(NEFTuneMixin, Tuned):
        def neftune_batch_to_mask(self, batch):
            asked.append(batch)
            return torch.ones_like(batch["input_ids"])

    class Given(NEFTuneMixin, Tuned):
        def configure_neftune(self):
            return NEFTune(batch_to_mask=lambda batch: torch.ones_like(batch["input_ids"]))

    _, masked = fitted(Masked(llama()))
    assert len(asked) == 4
    assert torch.equal(masked, fitted(Given(llama()))[1])
    assert not torch.equal(masked, fitted(Tuned(llama()), [NEFTune()])[1])


def test_default_options_are_the_callbacks():
    class Default(NEFTuneMixin, L.LightningModule):
        pass

    (callback,) = Default().configure_callbacks()
    assert callback.alpha == 5


def test_a_callback_of_pytorch_lightning_is_kept():
    """Its Callback is another class than that of lightning.pytorch."""
    other = object()

    class Foreign(NEFTuneMixin, Tuned):
        def configure_callbacks(self):
            return other

    given = Foreign(llama()).configure_callbacks()
    assert given[0] is other
    assert isinstance(given[1], NEFTune)
