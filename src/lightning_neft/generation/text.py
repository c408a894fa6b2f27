"""The text of an answer while it is written: without what ends it, and piece by piece for a person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_neft.data.templates.template import Template
from lightning_neft.hub.tokenizer import stops
from lightning_neft.models.decoding import before_end, end_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["AnswerText", "StopTexts", "before_stop"]

# What a decoder shows for the first bytes of a character that is not whole yet.
_PART = "\N{REPLACEMENT CHARACTER}"


def before_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text in front of the first one that ends an answer, and whether there is any.

    Example:
        >>> before_stop("Yes. [END]", ["[END]"])
        ('Yes. ', True)
    """
    places = [place for end in stop if (place := text.find(end)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


class StopTexts:
    """A stopping criterion for `generate` of transformers: ends each row that has written one of the texts.

    That of transformers looks for them among the pieces of the vocabulary, and fails with those of some tokenizers.

    Args:
        tokenizer: Of the model.
        stop: The texts.
        start: Where in a row the answer begins.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], start: int) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._start = start
        # A text has no more tokens than bytes; the last token may hold its end and more.
        self._window = max(len(text.encode()) for text in stop) + 1

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        """Return which rows are done, bool (batch,), from all ids so far, int64 (batch, length)."""
        ends = input_ids[:, max(self._start, input_ids.shape[1] - self._window) :].tolist()
        texts = self._tokenizer.batch_decode(ends, skip_special_tokens=True)
        return torch.tensor([before_stop(text, self._stop)[1] for text in texts], device=input_ids.device)


class AnswerText:
    """A streamer for `generate` of transformers that keeps the answer so far, and shows it as far as it is sure.

    Args:
        tokenizer: Of the model.
        template: Its template: what stands before the content of an answer is left out, and what ends one.
        show: Called with each new piece of text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template, show: Callable[[str], None]) -> None:
        self.whole = ""
        """The answer so far."""
        self._tokenizer = tokenizer
        self._template = template
        self._show = show
        self._ends = end_ids(tokenizer, template.stop)
        self._stop = stops(tokenizer, template.stop)[1]
        self._ids: list[int] = []
        self._is_prompt = True
        self._shown = ""

    def put(self, value: Tensor) -> None:
        """Take the ids of the prompt, int64 (1, length), and after it each new id, int64 (1,)."""
        if self._is_prompt:
            self._is_prompt = False
            return
        self._ids += value.flatten().tolist()
        text = self._tokenizer.decode(before_end(self._ids, self._ends), skip_special_tokens=True)
        answer, is_stopped = before_stop(text, self._stop)
        self.whole = self._template.content(answer)
        if not is_stopped:
            self._show_up_to(len(self.whole) - self._unsure())

    def end(self) -> None:
        """Show what was held back."""
        self._show_up_to(len(self.whole))

    def _show_up_to(self, length: int) -> None:
        sure = self.whole[:length]
        if len(sure) > len(self._shown) and sure.startswith(self._shown):
            self._show(sure[len(self._shown) :])
            self._shown = sure

    def _unsure(self) -> int:
        """Return how many of the last characters may be part of another one, of a lead, or of a text that ends it."""
        if self._template.lead.startswith(self.whole):
            return len(self.whole)
        parts = [end[:length] for end in (*self._stop, _PART) for length in range(1, len(end) + 1)]
        return max((len(part) for part in parts if self.whole.endswith(part)), default=0)
