"""`NEFTune` for programs that import `pytorch_lightning` instead of `lightning`: a callback of that package too."""

from __future__ import annotations

import pytorch_lightning

from lightning_neft import callback

__all__ = ["NEFTune"]


# The same methods, typed for the Trainer of the other package.
class NEFTune(callback.NEFTune, pytorch_lightning.Callback):  # type: ignore[misc]
    """`lightning_neft.NEFTune`, for a `LightningCLI` of pytorch_lightning, which takes its own callbacks alone.

    As `--trainer.callbacks+=lightning_neft.pytorch_lightning.NEFTune`. Elsewhere `lightning_neft.NEFTune` and
    `NEFTuneMixin` work in a Trainer of either package.
    """
