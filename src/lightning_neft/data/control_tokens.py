"""Names of control tokens such as `</s>` in the data: text in a message, tokens in a raw text.

A tokenizer reads the name of a control token as that token everywhere, so a question about `</s>` would end in its
middle. Names in messages are therefore marked before a template renders them, and encoded as text afterwards.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from lightning_neft.data.conversation import Conversation, Labelled, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ControlTokens", "token_ids", "without_marks"]

# Mark a name that is text. Unicode reserves both code points for internal use, so no text should contain them.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"


class ControlTokens:
    """The control tokens of a tokenizer: the tokens that it marks as special.

    Args:
        tokenizer: The tokenizer, including the tokens that a template adds.

    Attributes:
        names: Their texts.

    Example:
        >>> from lightning_neft.hub.tokenizer import load_tokenizer
        >>> tokens = ControlTokens(load_tokenizer("tiny"))
        >>> sorted(tokens.within(Conversation.exchange("What is </s>?", "<s> and </s> are tokens.")))
        ['</s>', '<s>']
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._flags = {token.content: token for token in tokenizer.added_tokens_decoder.values() if token.special}
        self.names = frozenset({*self._flags, *tokenizer.all_special_tokens} - {""})
        pattern = _any_of(self.names) or "(?!)"
        self._name = re.compile(pattern)
        self._marked = re.compile(f"{_OPEN}({pattern}){_CLOSE}|({pattern})")
        self._copy: PreTrainedTokenizerBase | None = None
        self._id_of: dict[int, int] = {}
        self._stand_in: dict[str, str] = {}

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> ControlTokens:
        """Return the control tokens of a tokenizer, cached until its tokens change."""
        tokens = (len(tokenizer), *tokenizer.all_special_tokens)
        known = _KNOWN.get(tokenizer)
        if known is None or known[0] != tokens:
            known = _KNOWN[tokenizer] = (tokens, cls(tokenizer))
        return known[1]

    def within(self, sample: Sample) -> set[str]:
        """Return the names that a conversation or a text contains."""
        texts = [sample.text] if isinstance(sample, Labelled) else _texts(sample)
        return {name for text in texts for name in self._name.findall(text)}

    def places(self, text: str) -> list[tuple[int, str]]:
        """Return the names in a text, each with the index where it ends."""
        return [(found.end(), found.group()) for found in self._name.finditer(text)]

    def as_text(self, conversation: Conversation) -> Conversation:
        """Return the conversation with the names in its messages marked, so that `token_ids` encodes them as text."""
        if not self.within(conversation):
            return conversation

        def marked(text: str) -> str:
            return self._name.sub(f"{_OPEN}\\g<0>{_CLOSE}", text)

        messages = (
            replace(
                message,
                content=marked(message.content),
                context=marked(message.context),
                reasoning=marked(message.reasoning),
                tool_calls=tuple(
                    replace(call, name=marked(call.name), arguments=marked(call.arguments))
                    for call in message.tool_calls
                ),
                name=marked(message.name),
            )
            for message in conversation.messages
        )
        return Conversation(tuple(messages), marked(conversation.tools))

    def encode(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], options: dict[str, Any]) -> Any:
        """Return the ids of texts: marked names as text, all others as tokens."""
        if not tokenizer.is_fast:
            return [self._encode_pieces(tokenizer, text, options) for text in texts]
        if self._copy is None:
            self._make_copy(tokenizer)
        assert self._copy is not None
        # The copy reads no name as a token. Names that are tokens have another name there, so that the text around both
        # kinds is encoded in one piece, as usual.
        texts = [self._marked.sub(lambda found: found[1] or self._stand_in[found[2]], text) for text in texts]
        encoded = _call(self._copy, texts, {**options, "split_special_tokens": True})
        return [[self._id_of.get(token, token) for token in ids] for ids in encoded]

    def _make_copy(self, tokenizer: PreTrainedTokenizerBase) -> None:
        from tokenizers import AddedToken

        # Random, so that no text can contain it.
        secret = uuid4().hex
        self._copy = copy.deepcopy(tokenizer)
        self._stand_in = {name: f"{_OPEN}{secret}-{number}{_CLOSE}" for number, name in enumerate(sorted(self.names))}
        added = []
        for name, stand_in in self._stand_in.items():
            flags = self._flags.get(name, AddedToken(name))
            shape = {flag: getattr(flags, flag) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
            added.append(AddedToken(stand_in, special=False, **shape))
        self._copy.add_tokens(added)
        ids = tokenizer.convert_tokens_to_ids([*self._stand_in])
        self._id_of = dict(zip(self._copy.convert_tokens_to_ids([*self._stand_in.values()]), ids, strict=True))

    def _encode_pieces(self, tokenizer: PreTrainedTokenizerBase, text: str, options: dict[str, Any]) -> list[int]:
        """Encode piece by piece with a slow tokenizer, which reads either all names as tokens or none."""
        ids: list[int] = []
        start = 0
        plain = {"add_special_tokens": False, "verbose": False}
        for found in self._marked.finditer(text):
            if found[1] is not None:
                ids += tokenizer(text[start : found.start()], **plain)["input_ids"]
                ids += tokenizer(found[1], split_special_tokens=True, **plain)["input_ids"]
                start = found.end()
        ids += tokenizer(text[start:], **plain)["input_ids"]
        if options.get("add_special_tokens", True):
            ids = tokenizer.build_inputs_with_special_tokens(ids)
        return ids[: options["max_length"]] if options.get("truncation") else ids


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **options: Any) -> list[list[int]]:
    """Return the ids of texts, in one call, which fast tokenizers run in parallel.

    Args:
        tokenizer: The tokenizer.
        texts: The texts; names that `ControlTokens.as_text` has marked are encoded as text.
        options: Further options of the tokenizer's call; with `is_target` the texts are targets of a decoder.

    Example:
        >>> from lightning_neft.hub.tokenizer import load_tokenizer
        >>> tokenizer = load_tokenizer("tiny")
        >>> said = ControlTokens.of(tokenizer).as_text(Conversation.exchange("</s>", "")).messages[0].content
        >>> as_token, as_text = token_ids(tokenizer, ["</s>", said], add_special_tokens=False)
        >>> len(as_token), tokenizer.eos_token_id in as_text, tokenizer.decode(as_text)
        (1, False, '</s>')
    """
    if not texts:
        return []
    # Without a warning about length: samples are truncated later.
    options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False, **options}
    marked = [index for index, text in enumerate(texts) if _OPEN in text]
    if not marked:
        return _call(tokenizer, texts, options)
    rest = sorted(set(range(len(texts))) - set(marked))
    ids: dict[int, list[int]] = {}
    if rest:
        ids.update(zip(rest, _call(tokenizer, [texts[index] for index in rest], options), strict=True))
    encoded = ControlTokens.of(tokenizer).encode(tokenizer, [texts[index] for index in marked], options)
    ids.update(zip(marked, encoded, strict=True))
    return [ids[index] for index in range(len(texts))]


def without_marks(text: str) -> str:
    """Return a text without the marks of `ControlTokens.as_text`, for messages."""
    return text.replace(_OPEN, "").replace(_CLOSE, "")


_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[tuple[int | str, ...], ControlTokens]] = WeakKeyDictionary()


def _call(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], options: dict[str, Any]) -> list[list[int]]:
    options = dict(options)
    key = "text_target" if options.pop("is_target", False) else "text"
    ids: list[list[int]] = tokenizer(**{key: list(texts)}, **options)["input_ids"]
    return ids


def _texts(conversation: Conversation) -> Iterator[str]:
    yield conversation.tools
    for message in conversation.messages:
        yield from (message.content, message.context, message.reasoning, message.name)
        for call in message.tool_calls:
            yield from (call.name, call.arguments)


def _any_of(names: Collection[str]) -> str:
    """Return a pattern of the names, the longest first.

    Common beginnings occur once: some tokenizers reserve thousands of names that differ in a number.
    """
    tails: dict[str, set[str]] = defaultdict(set)
    for name in names:
        if name:
            tails[name[0]].add(name[1:])
    branches = [re.escape(head) + _any_of(rest) for head, rest in sorted(tails.items())]
    if len(branches) == 1 and "" not in names:
        return branches[0]
    return f"(?:{'|'.join(branches)}){'?' if '' in names else ''}" if branches else ""
