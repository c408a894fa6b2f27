"""`Prepared`: data that are ready for batching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_neft.data.mixture import Mixture
from lightning_neft.data.sample_stream import SampleStream
from lightning_neft.data.templates.template import Template
from lightning_neft.data.token_store import TokenStore
from lightning_neft.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Prepared", "PreparedSource"]


@dataclass(frozen=True)
class PreparedSource:
    """A source of the data.

    Attributes:
        name: Its name in a mixture; otherwise the source as given.
        format: Name of its data format.
        template: Renders its conversations.
        tokenizer: That of `Prepared`, with the chat template of this source if that is read from a file.
        train: All of its training samples; None with streaming.
        held_out: Its validation set; None if it has none.
    """

    name: str
    format: str
    template: Template
    tokenizer: PreTrainedTokenizerBase
    train: TokenStore | None
    held_out: TokenStore | None


@dataclass(frozen=True)
class Prepared:
    """Data that are ready for batching.

    Attributes:
        stored: The training samples of an epoch, None with streaming.
        stream: The training samples with streaming, otherwise None.
        held_out: The validation set, None if there is none.
        tokenizer: With the special tokens of all templates.
        template: Renders the conversations; of a mixture the one that the model is prompted with.
        special_tokens: Tokens that were added to the tokenizer; the model needs rows for them.
        format: Name of the data format; of a mixture those of all sources.
        label_names: The classes, in the order of their indices; empty for other tasks.
        notices: Lines that report what was dropped or changed.
        digest: SHA-256 of the records (the first one of a stream), the tokenizer, the template and the options. Runs
            with the same digest have the same samples; which of them are in an epoch of a mixture depends on the seed.
        sources: The sources; one, unless they are mixed.
    """

    stored: TokenStore | Mixture | None
    stream: SampleStream | None
    held_out: TokenStore | Mixture | None
    tokenizer: PreTrainedTokenizerBase
    template: Template
    special_tokens: tuple[str, ...]
    format: str
    label_names: list[str | int]
    notices: list[str]
    digest: str
    sources: tuple[PreparedSource, ...]

    @property
    def train(self) -> TokenStore | Mixture:
        """The training samples.

        Raises:
            DataError: With streaming, which does not store them.
        """
        if self.stored is None:
            raise DataError("data.streaming does not store the training samples; set data.streaming false")
        return self.stored

    @property
    def held_out_sources(self) -> list[PreparedSource]:
        """The sources whose validation sets are mixed; none if there is only one validation set."""
        return [one for one in self.sources if one.held_out] if isinstance(self.held_out, Mixture) else []
