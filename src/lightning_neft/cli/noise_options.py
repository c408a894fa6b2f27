"""The section `neftune:` of the program: what of `NEFTune` can be written in a config."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lightning_neft.callback import NEFTune

__all__ = ["NoiseOptions"]


@dataclass
class NoiseOptions:
    """The noise on the embeddings; null turns it off.

    Args:
        alpha: Strength; the paper tried 5, 10 and 15.
        distribution: What the noise is drawn from.
        length: Length in the scale alpha / sqrt(length * width): the true one of each sequence, the padded one of the
            batch, or a fixed number.
        scope: Tokens that get noise; in an encoder-decoder the prompt is the encoder's, the response the decoder's.
        scale: The paper's, or relative to the size of the embedded tokens: noise-to-signal is then
            alpha / sqrt(3 length) / reference_norm on any model.
        reference_norm: With the relative scale, the token norm of the model that alpha is meant for (see doctor).
        antithetic: See each sample twice in its batch, with a noise and its opposite: about twice the time and memory.
        target: Name of the embedding module, or several; found by itself if null.
        schedule: How alpha changes over the run.
        warmup: Share of the run in which alpha rises from 0.
        seed: Seed of the noise; the one of seed_everything if null.
        required: Training batches that have to get noise: always all, the first of the fit, or one in each epoch.
    """

    alpha: float = 5.0
    distribution: Literal["uniform", "gaussian", "gaussian_unit", "rademacher"] = "uniform"
    # bool because `length: true` in YAML is no text.
    length: Literal["true", "padded"] | bool | int = "true"
    scope: Literal["all", "prompt", "response"] = "all"
    scale: Literal["paper", "relative"] = "paper"
    reference_norm: float = 1.0
    antithetic: bool = False
    target: str | list[str] | None = None
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = 0.0
    seed: int | None = None
    required: Literal["always", "first", "epoch"] = "always"

    def callback(self) -> NEFTune:
        """Build the callback.

        Raises:
            ConfigError: If a value is one that the callback refuses.
        """
        from lightning_neft.callback import NEFTune

        options = asdict(self)
        if self.length is True:
            options["length"] = "true"
        return NEFTune(**options)
