"""`NEFTuneMixin`: a LightningModule that adds its noise itself, so that no Trainer needs a callback."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from lightning_neft.callback import NEFTune
from lightning_neft.errors import DuplicateNoiseError

__all__ = ["NEFTuneMixin"]

_Configure = Callable[[Any], Sequence[pl.Callback] | pl.Callback]


class NEFTuneMixin:
    """Trains a LightningModule with NEFTune's noise and the options of the callback.

    List it among the bases beside LightningModule, in any order. It adds the callback in `configure_callbacks`, even if
    a subclass overrides that without calling `super()`.

    >>> import lightning as L
    >>> class Mine(NEFTuneMixin, L.LightningModule):
    ...     def configure_neftune(self):
    ...         return NEFTune(alpha=10)
    >>> [callback.alpha for callback in Mine().configure_callbacks()]
    [10.0]
    """

    _neftune: NEFTune | None = None

    def configure_neftune(self) -> NEFTune:
        """The callback with the options of the noise; override to change them."""
        return NEFTune()

    def neftune_batch_to_mask(self, batch: Any) -> Tensor | Sequence[Tensor] | None:
        """Attention mask (B, L) of a batch, or a list of masks in the order of its forward passes; override if needed.

        Returns:
            None, the default, to read attention_mask, position_ids and the other fields of the batch.
        """
        return None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        configure = getattr(cls, "configure_callbacks", None)
        if configure is not None:
            cls.configure_callbacks = _with_noise(configure)  # type: ignore[attr-defined]


def _with_noise(configure: _Configure) -> _Configure:
    """Wrap `configure_callbacks` so that its callbacks include the module's NEFTune, once."""

    @functools.wraps(configure)
    def configure_callbacks(self: Any) -> list[pl.Callback]:
        given = configure(self)
        # By sequence, not by class: a callback of pytorch_lightning has another base class.
        callbacks = list(given) if isinstance(given, Sequence) else [] if given is None else [given]
        if self._neftune is None:
            self._neftune = self.configure_neftune()
            self._neftune.is_of_module = True
            if self._neftune.noise.batch_to_mask is None:
                self._neftune.noise.batch_to_mask = self.neftune_batch_to_mask
        # Lightning would silently replace the trainer's NEFTune by this one.
        trainer = getattr(self, "_trainer", None)  # `self.trainer` raises while there is none
        trainer_callbacks = [] if trainer is None else trainer.callbacks
        # That of a module which the Trainer had before is replaced by this one, as it should be.
        if any(isinstance(callback, NEFTune) and not callback.is_of_module for callback in trainer_callbacks):
            raise DuplicateNoiseError(
                f"{type(self).__name__} has NEFTuneMixin, and the Trainer has a NEFTune callback too: keep one of them."
            )
        return callbacks if self._neftune in callbacks else [*callbacks, self._neftune]

    return configure_callbacks
