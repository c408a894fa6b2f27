"""`Answerer`: answers to conversations, rendered as in training, with pinned decoding, in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.exchange_ids import encode_prompts, rendered_prompt, source_text, with_special_tokens
from lightning_neft.data.templates.template import Template, begins
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.generation.text import AnswerText, StopTexts, before_stop
from lightning_neft.hub.tokenizer import stops
from lightning_neft.models.decoding import (
    REPETITION_PENALTY,
    before_end,
    decoding,
    empty_prompt,
    end_ids,
    write_tokens,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["MOST_TOKENS", "Answerer"]

# The paper's limit for prompt and answer together (arXiv 2310.05914, section 4).
MOST_TOKENS = 2048


class Answerer:
    """A model that answers: greedy, repetition penalty 1.2. An answer does not depend on its batch.

    Args:
        model: A causal or sequence-to-sequence model of transformers, bare or inside peft.
        tokenizer: Its tokenizer, with the template's tokens.
        template: Template that renders the conversations, as in training.
        name: Name of the model, for messages and results.
        source: File or folder that its weights are from; None if they are from the hub.

    Example:
        >>> from lightning_neft.data.templates.bundled import BundledTemplate
        >>> from lightning_neft.hub.tokenizer import load_tokenizer
        >>> from lightning_neft.models.weights import load_weights
        >>> model, _ = load_weights("AutoModelForCausalLM", "tiny")
        >>> tiny = Answerer(model, load_tokenizer("tiny"), BundledTemplate("alpaca"), name="tiny")
        >>> len(tiny.answers([Conversation.exchange("Add 1 and 2.", "")], max_new_tokens=4))
        1
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        *,
        name: str,
        source: Path | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.template = template
        self.name = name
        self.source = source
        self.ends = end_ids(tokenizer, template.stop)
        """Ids that end an answer."""
        self.stop_texts = stops(tokenizer, template.stop)[1]
        """Texts that end an answer and are not control tokens."""

    @property
    def positions(self) -> int:
        """Number of positions of the model; 0 if it has no limit."""
        return max(0, getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 0)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything besides the weights that determines the answers, as plain values."""
        parameter = next(self.model.parameters())
        return {
            "decoding": "greedy",
            "repetition_penalty": REPETITION_PENALTY,
            "template": self.template.name,
            "dtype": str(parameter.dtype).removeprefix("torch."),
            "device": parameter.device.type,
        }

    def answers(
        self,
        conversations: Sequence[Conversation],
        *,
        max_new_tokens: int | None = None,
        min_new_tokens: int = 0,
        batch_size: int = 8,
        on_done: Callable[[int, str], None] | None = None,
    ) -> list[str]:
        """Return the answer to each conversation, in their order.

        Args:
            conversations: Each with or without its last answer, which is ignored.
            max_new_tokens: Maximum number of tokens in an answer, within the positions of the model; by default 2048
                tokens minus the prompt.
            min_new_tokens: Minimum number of tokens before a token may end an answer; a stop text of several tokens
                still may.
            batch_size: Prompts in one forward pass; those of similar length go together, the longest first.
            on_done: Called with the index of a conversation and its answer as soon as its batch is done.

        Raises:
            ConfigError: If a number is less than 1, or min_new_tokens less than 0.
            DataError: If the template cannot render a conversation, or a prompt leaves no room for an answer.
        """
        for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be 1 or more, got {value!r}")
        if min_new_tokens < 0:
            raise ConfigError(f"min_new_tokens must be 0 or more, got {min_new_tokens!r}")
        prompts = self.prompt_ids(conversations)
        rooms = self.rooms(conversations, prompts, max_new_tokens)
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        answers = [""] * len(prompts)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            texts = self._batch([prompts[index] for index in batch], [rooms[index] for index in batch], min_new_tokens)
            for index, answer in zip(batch, texts, strict=True):
                answers[index] = answer
                if on_done is not None:
                    on_done(index, answer)
        return answers

    def stream(
        self, conversation: Conversation, show: Callable[[str], None], *, max_new_tokens: int | None = None
    ) -> str:
        """Return the answer that `answers` gives to one conversation, and show its pieces as they are generated.

        Args:
            conversation: With or without its last answer, which is ignored.
            show: Called with each piece of text.
            max_new_tokens: See `answers`.

        Raises:
            DataError: If the template cannot render the conversation, or it leaves no room for an answer.
        """
        (prompt,) = self.prompt_ids([conversation])
        text = AnswerText(self.tokenizer, self.template, show)
        self._write([prompt], self._room(conversation, prompt, max_new_tokens), streamer=text)
        return text.whole

    def rooms(
        self, conversations: Sequence[Conversation], prompts: Sequence[list[int]], max_new_tokens: int | None = None
    ) -> list[int]:
        """Return the maximum number of tokens in the answer to each conversation.

        Args:
            conversations: The conversations.
            prompts: Their `prompt_ids`.
            max_new_tokens: See `answers`.

        Raises:
            DataError: If a prompt leaves no room for an answer.
        """
        return [self._room(*pair, max_new_tokens) for pair in zip(conversations, prompts, strict=True)]

    def has_room(self, conversation: Conversation, max_new_tokens: int | None = None) -> bool:
        """Return whether the prompt leaves room for an answer; see `rooms`."""
        (prompt,) = self.prompt_ids([conversation])
        return self._left(prompt, max_new_tokens) > 0

    def prompt_ids(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Return the ids that the model reads for each conversation, the same as in training."""
        if not self.model.config.is_encoder_decoder:
            ids = encode_prompts(self.tokenizer, self.template, conversations)
            return [prompt or empty_prompt(self.tokenizer) for prompt in ids]
        asked = [rendered_prompt(self.tokenizer, self.template, conversation) for conversation in conversations]
        texts = [source_text(exchanges, self.tokenizer) for exchanges in asked]
        return [ids.tolist() for ids, _ in with_special_tokens(texts, self.tokenizer)]

    def _batch(self, prompts: Sequence[Sequence[int]], rooms: Sequence[int], least: int) -> list[str]:
        """Return the answers of one batch; those with more room than the others continue without them."""
        written: list[list[int]] = [[] for _ in prompts]
        texts = [""] * len(prompts)
        unfinished = list(range(len(prompts)))
        while unfinished:
            most = min(rooms[row] - len(written[row]) for row in unfinished)
            read = [[*prompts[row], *written[row]] for row in unfinished]
            # Unfinished answers all have the same number of tokens.
            lacking = min(most, max(0, least - len(written[unfinished[0]])))
            still = []
            for row, ids in zip(unfinished, self._write(read, most, least=lacking), strict=True):
                found = before_end(ids, self.ends)
                written[row] += found
                whole = self.tokenizer.decode(written[row], skip_special_tokens=True)
                texts[row], is_stopped = before_stop(whole, self.stop_texts)
                if len(found) == most and not is_stopped and len(written[row]) < rooms[row]:
                    still.append(row)
            unfinished = still
        return [self.template.content(text) for text in texts]

    def _write(self, prompts: Sequence[Sequence[int]], most: int, least: int = 0, **options: Any) -> list[list[int]]:
        start = 1 if self.model.config.is_encoder_decoder else max(map(len, prompts))
        if self.stop_texts:
            options["stopping_criteria"] = [StopTexts(self.tokenizer, self.stop_texts, start)]
        return write_tokens(self.model, prompts, decoding(self.tokenizer, self.ends, most, least or None), **options)

    def _left(self, prompt: Sequence[int], max_new_tokens: int | None) -> int:
        positions = self.positions
        # The decoder of an encoder-decoder starts with one token, and does not read the prompt.
        used = 1 if self.model.config.is_encoder_decoder else len(prompt)
        wanted = MOST_TOKENS - used if max_new_tokens is None else max_new_tokens
        if positions <= 0:
            return wanted
        return 0 if positions < len(prompt) else min(wanted, positions - used)

    def _room(self, conversation: Conversation, prompt: Sequence[int], max_new_tokens: int | None) -> int:
        """Return the maximum number of tokens in the answer."""
        room, positions = self._left(prompt, max_new_tokens), self.positions
        if room < 1:
            is_of_model = 0 < positions < MOST_TOKENS or max_new_tokens is not None
            limit = f"the {positions} positions of {self.name}" if is_of_model else f"{MOST_TOKENS} tokens"
            instead = "" if is_of_model else ", or give max_new_tokens"
            raise DataError(
                f"the prompt that begins {begins(conversation)} has {len(prompt)} tokens, which leaves no room for an "
                f"answer within {limit}; shorten it{instead}"
            )
        return room
