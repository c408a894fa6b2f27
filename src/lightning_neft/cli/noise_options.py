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
        distribution: Distribution of the noise.
        length: Length in the scale alpha / sqrt(length * width): the true length of each sequence, the padded length of
            the batch, or a fixed number.
        scope: Tokens that get noise; in an encoder-decoder the encoder reads the prompt, the decoder the response.
        scale: The paper's scale, or one relative to the norm of the embedded tokens: the noise-to-signal ratio is then
            alpha / sqrt(3 length) / reference_norm on any model.
        reference_norm: With the relative scale, the token norm of the model that alpha is meant for (see doctor).
        antithetic: Put each sample into its batch twice, with a noise and its negative: about twice the time
            and memory.
        target: Name of the embedding module, or several; detected if null.
        schedule: How alpha changes over the run.
        warmup: Share of the run in which alpha rises from 0.
        seed: Seed of the noise; seed_everything if null.
        required: Training batches in which noise must be applied: all (always), the first of the fit, or one in each
            epoch.
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
