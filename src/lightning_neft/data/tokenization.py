"""Encode samples as token ids and labels, batch by batch, for each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from lightning_neft.data.control_tokens import ControlTokens, token_ids
from lightning_neft.data.conversation import Conversation, Labelled, Message, Sample
from lightning_neft.data.exchange_ids import (
    encode_prompts,
    exchange_ids,
    once,
    rendered,
    source_text,
    with_special_tokens,
)
from lightning_neft.data.omissions import REASONING_OMITTED, check_answers
from lightning_neft.data.templates.template import Exchange, Template, begins
from lightning_neft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ENCODING_VERSION",
    "IGNORED",
    "EncodedSample",
    "Encoding",
    "Task",
    "check_prompt_loss",
    "encode",
    "label_names",
]

Task = Literal["causal_lm", "seq2seq_lm", "sequence_classification"]

# The label that PyTorch's cross-entropy ignores.
IGNORED = -100
# Part of the fingerprint of stored tokens: raise it whenever the same sample gets different ids.
ENCODING_VERSION = 4
EMPTY_ANSWER = "empty answer"
EMPTY_TEXT = "empty text"
MARKED_UNTRAINED = "every answer is marked as untrained"
PROMPT_FILLS = "prompt fills max_length"
# Remarks about a control token in the data.
TEXT_READ = "contain {name!r} in a message: it is read as text, not as the control token"
TOKEN_READ = "contain {name!r}: it is read as the control token, and not added again where it begins or ends the text"
# Samples per call of the tokenizer.
_BATCH = 1000

S = TypeVar("S")


def nothing_to_train(what: str, dropped: Mapping[str, int], max_length: int) -> str:
    """Return the message where all samples were dropped.

    Args:
        what: The samples, with a verb, such as "no sample has a".
        dropped: Their number by reason.
        max_length: Length to which samples are truncated.

    Example:
        >>> nothing_to_train("no sample has a", {"empty answer": 2}, 512)
        'no sample has a token to train on (empty answer: 2); give them an answer, or look at the data with preview'
    """
    reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items()) or "no records are left"
    ways = {PROMPT_FILLS: f"raise data.max_length={max_length}", EMPTY_ANSWER: "give them an answer"}
    way = next((f"{ways[reason]}, or " for reason in ways if reason in dropped), "")
    return f"{what} token to train on ({reasons}); {way}look at the data with preview"


@dataclass(frozen=True)
class EncodedSample:
    """One sample as tokens.

    Attributes:
        input_ids: int32. Prompts and answers; for seq2seq the encoder's ids; for classification the text.
        labels: int32. For a causal model as long as `input_ids`, -100 where there is no loss, not shifted (the loss
            shifts them). For seq2seq the decoder's target; for classification one index.
    """

    input_ids: Sequence[int] | np.ndarray
    labels: Sequence[int] | np.ndarray


@dataclass
class Encoding:
    """The result of encoding a set of samples.

    Attributes:
        samples: The samples with a token to train on.
        kept: The index of each of them in the given samples.
        truncated: Number of truncated samples.
        dropped: Number of dropped samples by reason.
        untrained: Answers without a loss that the data do not mark as untrained: empty ones, greetings before the first
            question, those that a chat template renders differently when another turn follows, and for seq2seq all but
            the last one.
        marked: Answers that the data mark as untrained.
        remarks: Further notices: the number of samples by the text after "N of M samples".
    """

    samples: list[EncodedSample] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    truncated: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    untrained: int = 0
    marked: int = 0
    remarks: dict[str, int] = field(default_factory=dict)

    def count(self, other: Encoding) -> None:
        """Add the counts of another encoding, without its samples."""
        self.truncated += other.truncated
        self.dropped = dict(Counter(self.dropped) + Counter(other.dropped))
        self.untrained += other.untrained
        self.marked += other.marked
        self.remarks = dict(Counter(self.remarks) + Counter(other.remarks))

    def notices(self, name: str, max_length: int) -> list[str]:
        """Return lines that report truncated, dropped and untrained samples.

        Args:
            name: What to call the samples, such as "training".
            max_length: Length to which they were truncated.

        Example:
            >>> Encoding(kept=[0], truncated=1, dropped={"empty answer": 2}).notices("eval", 512)
            ['eval data: 1 of 3 samples truncated to 512 tokens', 'eval data: 2 of 3 samples dropped: empty answer']
        """
        count = len(self.kept) + sum(self.dropped.values())
        lines = []
        if self.truncated:
            lines.append(f"{self.truncated} of {count} samples truncated to {max_length} tokens")
        lines += [f"{number} of {count} samples dropped: {reason}" for reason, number in sorted(self.dropped.items())]
        lines += [f"{number} of {count} samples {remark}" for remark, number in sorted(self.remarks.items())]
        if self.untrained:
            lines.append(
                f"{self.untrained} answers are read but not trained: they are empty, come before any question, are "
                "rendered differently by the chat template in later turns, or are not the last one of a seq2seq sample"
            )
        return [f"{name} data: {line}" for line in lines]


def encode(
    samples: Sequence[Sample],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    *,
    task: Task = "causal_lm",
    max_length: int,
    max_target_length: int | None = None,
    labels: Sequence[str | int] = (),
    strict: bool = False,
    places: Sequence[str] = (),
) -> Encoding:
    """Encode samples for a task and truncate them at their end.

    - `causal_lm`: prompts and answers in one row, with the loss on every answer and its end.
    - `seq2seq_lm`: the text before the last answer for the encoder, the last answer as the decoder's target.
    - `sequence_classification`: the text with the tokenizer's special tokens, and the index of its label.

    Samples without a token to train on are dropped and counted. The name of a control token in a message is text; with
    the template plain, and in a text to classify, it is the token.

    Args:
        samples: Conversations, or texts with labels for classification.
        tokenizer: A tokenizer with an end-of-sequence token.
        template: Renders the conversations.
        task: Task of the model.
        max_length: Maximum tokens of a sample; for seq2seq of the encoder.
        max_target_length: Maximum tokens of a seq2seq target; `max_length` by default.
        labels: The classes, in the order of their indices: `label_names` of the training samples.
        strict: Whether a sample without a token to train on is an error.
        places: Where each sample is from, for errors; by default its number.

    Raises:
        DataError: If the template alone takes `max_length` tokens, cannot render a conversation or omits a part of an
            answer (see `check_answers`), if a label is not among `labels`, or, with `strict`, if a sample has no token
            to train on.
        ConfigError: If the task needs samples of another kind.
    """
    encoding = Encoding()
    dropped: Counter[str] = Counter()
    names: Counter[str] = Counter()
    omitting = 0
    control = ControlTokens.of(tokenizer)
    places = places or [f"sample {number}" for number in range(1, len(samples) + 1)]
    for start in range(0, len(samples), _BATCH):
        batch, of_batch = samples[start : start + _BATCH], places[start : start + _BATCH]
        names.update(name for sample in batch for name in control.within(sample))
        if task == "sequence_classification":
            encoded = _classification(_of_kind(batch, Labelled, task), of_batch, tokenizer, max_length, labels)
        else:
            conversations = _of_kind(batch, Conversation, task)
            worded = rendered(tokenizer, template, conversations, of_batch)
            for talk, exchanges, where in zip(conversations, worded, of_batch, strict=True):
                omitting += check_answers(talk, exchanges, template.name, where)
            if task == "causal_lm":
                encoded = _causal(worded, tokenizer, template, max_length)
            else:
                encoded = _seq2seq(worded, tokenizer, max_length, max_target_length or max_length)
            encoding.untrained += _untrained(conversations, worded, task)
            encoding.marked += sum(not message.trained for talk in conversations for message in talk.messages)
        for index, (sample, cut, reason) in enumerate(encoded, start=start):
            if sample is not None:
                encoding.samples.append(sample)
                encoding.kept.append(index)
                encoding.truncated += cut
                continue
            if reason == EMPTY_ANSWER and isinstance(given := samples[index], Conversation):
                reason = _why_empty(given, task)
            if strict:
                raise DataError(
                    f"{places[index]}: the sample that begins {_begins(samples[index])} has no token to train on "
                    f"({reason}); repair or remove it, or set data.strict false to drop such samples"
                )
            dropped[reason] += 1
        # Checked only where the lengths of the samples suggest it: their system messages may be shorter.
        all_cut = encoding.truncated == len(encoding.samples) if task == "seq2seq_lm" else not encoding.samples
        if task != "sequence_classification" and batch and all_cut:
            _check_template_fits(tokenizer, template, max_length)
    encoding.dropped = dict(dropped)
    remark = TOKEN_READ if template.is_raw or task == "sequence_classification" else TEXT_READ
    encoding.remarks = {remark.format(name=name): number for name, number in names.items()}
    if omitting:
        encoding.remarks[REASONING_OMITTED] = omitting
    return encoding


def check_prompt_loss(prompt_loss: float, marked: int) -> None:
    """Refuse a loss on prompts where the data mark answers as untrained: those would get it too.

    Raises:
        ConfigError: If there are both.
    """
    if prompt_loss and marked:
        raise ConfigError(
            f"data.prompt_loss={prompt_loss:g} trains on all tokens, but the data mark {marked} answers as untrained "
            "(weight 0, train false or loss false); omit data.prompt_loss"
        )


def label_names(samples: Iterable[Sample]) -> list[str | int]:
    """Return the classes of the samples, sorted: numbers by value before names.

    Example:
        >>> label_names([Labelled("a", "pos"), Labelled("b", "neg"), Labelled("c", "pos")])
        ['neg', 'pos']
    """
    found = {sample.label for sample in samples if isinstance(sample, Labelled)}
    return sorted(found, key=lambda label: (isinstance(label, str), label))


# The sample or None, whether it was truncated, and why there is none.
_Encoded = tuple[EncodedSample | None, bool, str]


def _causal(
    worded: Sequence[Sequence[Exchange]], tokenizer: PreTrainedTokenizerBase, template: Template, max_length: int
) -> Iterator[_Encoded]:
    for exchanges, pairs in zip(worded, exchange_ids(tokenizer, template, worded), strict=True):
        if not any(exchange.trained for exchange in exchanges):
            yield None, False, EMPTY_ANSWER
            continue
        ids: list[int] = []
        labels: list[int] = []
        for exchange, (prompt, answer) in zip(exchanges, pairs, strict=True):
            ids += prompt
            ids += answer
            labels += [IGNORED] * len(prompt)
            labels += answer if exchange.trained else [IGNORED] * len(answer)
        # No token of the sample precedes the first one and predicts it; in a packed row that would be another sample.
        labels[0] = IGNORED
        kept = np.array(labels[:max_length], np.int32)
        if (kept == IGNORED).all():
            yield None, False, PROMPT_FILLS
        else:
            yield EncodedSample(np.array(ids[:max_length], np.int32), kept), len(ids) > max_length, ""


def _seq2seq(
    worded: Sequence[Sequence[Exchange]], tokenizer: PreTrainedTokenizerBase, max_length: int, max_target_length: int
) -> Iterator[_Encoded]:
    sources = [source_text(exchanges, tokenizer) for exchanges in worded]
    targets = [exchanges[-1].answer + (exchanges[-1].end or "") if exchanges else "" for exchanges in worded]
    encoded = token_ids(tokenizer, targets, is_target=True)
    # Some tokenizers add an end token to a target.
    adds_end = tokenizer.eos_token_id in tokenizer(text_target="")["input_ids"]
    inputs = with_special_tokens(sources, tokenizer, max_length)
    for exchanges, (input_ids, cut), target in zip(worded, inputs, encoded, strict=True):
        if not exchanges or not exchanges[-1].trained:
            yield None, False, EMPTY_ANSWER
            continue
        if not adds_end and exchanges[-1].end is None:
            target = [*target, tokenizer.eos_token_id]
        target = once(target, tokenizer)
        labels = np.array(target[:max_target_length], np.int32)
        yield EncodedSample(input_ids, labels), cut or len(target) > max_target_length, ""


def _classification(
    samples: Sequence[Labelled],
    places: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    labels: Sequence[str | int],
) -> Iterator[_Encoded]:
    index_of = {label: index for index, label in enumerate(labels)}
    inputs = with_special_tokens([sample.text for sample in samples], tokenizer, max_length)
    for sample, where, (input_ids, cut) in zip(samples, places, inputs, strict=True):
        if sample.label not in index_of:
            raise DataError(
                f"{where}: the label {sample.label!r} of the sample that begins {_begins(sample)} is not one of the "
                f"classes of the training data ({', '.join(map(repr, labels))}); correct it, or add training samples "
                "of this class"
            )
        if not len(input_ids):
            yield None, False, EMPTY_TEXT
            continue
        yield EncodedSample(input_ids, np.array([index_of[sample.label]], np.int32)), cut, ""


def _untrained(conversations: Sequence[Conversation], worded: Sequence[Sequence[Exchange]], task: Task) -> int:
    """Return the number of untrained answers, in conversations with a trained one."""
    count = 0
    for conversation, exchanges in zip(conversations, worded, strict=True):
        heard = exchanges if task == "causal_lm" else exchanges[-1:]
        if trained := sum(exchange.trained for exchange in heard):
            messages = conversation.messages
            count += sum(message.role == "assistant" and message.trained for message in messages) - trained
    return count


def _why_empty(conversation: Conversation, task: Task) -> str:
    answers = [message for message in conversation.messages if message.role == "assistant"]
    heard = answers if task == "causal_lm" else answers[-1:]
    return EMPTY_ANSWER if all(message.trained for message in heard) else MARKED_UNTRAINED


def _check_template_fits(tokenizer: PreTrainedTokenizerBase, template: Template, max_length: int) -> None:
    own = len(encode_prompts(tokenizer, template, [Conversation((Message("user", ""),))])[0])
    if own >= max_length:
        raise DataError(
            f"max_length={max_length} leaves no room for an answer: the template {template.name} alone takes {own} "
            "tokens; raise data.max_length"
        )


def _of_kind(samples: Sequence[Sample], kind: type[S], task: Task) -> list[S]:
    found: list[S] = [sample for sample in samples if isinstance(sample, kind)]
    if len(found) < len(samples):
        what = "conversations" if kind is Labelled else "texts with labels"
        raise ConfigError(
            f"the task {task} cannot be trained on {what}; choose the task "
            f"{'causal_lm or seq2seq_lm' if kind is Labelled else 'sequence_classification'}, or other data"
        )
    return found


def _begins(sample: Sample) -> str:
    return begins(sample if isinstance(sample, Conversation) else Conversation((Message("user", sample.text),)))
