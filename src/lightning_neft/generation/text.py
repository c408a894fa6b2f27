"""The text of an answer: cut at its stop text, and streamed piece by piece."""

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

# Decoders write this for an incomplete character.
_PART = "\N{REPLACEMENT CHARACTER}"


def before_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return the text before the first stop text, and whether there is one.

    Example:
        >>> before_stop("Yes. [END]", ["[END]"])
        ('Yes. ', True)
    """
    places = [place for end in stop if (place := text.find(end)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


class StopTexts:
    """A stopping criterion for transformers' `generate`: ends each row that contains a stop text.

    The criterion of transformers matches the pieces of the vocabulary, and fails with some tokenizers.

    Args:
        tokenizer: The tokenizer of the model.
        stop: The stop texts.
        start: Index of the answer's first token in a row.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], start: int) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._start = start
        # A text has at most one token per byte, and its last token may be longer than its end.
        self._window = max(len(text.encode()) for text in stop) + 1

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        """Return which rows are done, bool (batch,), from all ids so far, int64 (batch, length)."""
        ends = input_ids[:, max(self._start, input_ids.shape[1] - self._window) :].tolist()
        texts = self._tokenizer.batch_decode(ends, skip_special_tokens=True)
        return torch.tensor([before_stop(text, self._stop)[1] for text in texts], device=input_ids.device)


class AnswerText:
    """A streamer for transformers' `generate` that keeps the answer so far, and shows the part that is final.

    Args:
        tokenizer: The tokenizer of the model.
        template: Its template, which says what precedes the content of an answer and what ends it.
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
        """Take the ids of the prompt, int64 (1, length), then each new id, int64 (1,)."""
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
        """Show the rest."""
        self._show_up_to(len(self.whole))

    def _show_up_to(self, length: int) -> None:
        sure = self.whole[:length]
        if len(sure) > len(self._shown) and sure.startswith(self._shown):
            self._show(sure[len(self._shown) :])
            self._shown = sure

    def _unsure(self) -> int:
        """Return how many of the last characters may belong to an incomplete character, a lead or a stop text."""
        if self._template.lead.startswith(self.whole):
            return len(self.whole)
        parts = [end[:length] for end in (*self._stop, _PART) for length in range(1, len(end) + 1)]
        return max((len(part) for part in parts if self.whole.endswith(part)), default=0)
