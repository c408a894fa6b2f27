"""The prompts of held-out samples: as text with the reference, and as the ids that the model reads."""

from __future__ import annotations

from lightning_neft.data.conversation import Conversation, Labelled
from lightning_neft.data.exchange_ids import encode_prompts
from lightning_neft.data.mixture import Mixture
from lightning_neft.data.prepared import Prepared
from lightning_neft.data.templates.template import text_of
from lightning_neft.data.token_store import TokenStore
from lightning_neft.data.tokenization import Task

__all__ = ["asked", "prompt_ids"]


def asked(sample: Conversation | Labelled) -> tuple[str, str]:
    r"""Return the last question or the text of a sample, and its answer or class.

    Example:
        >>> asked(Conversation.exchange("Add.", "3", context="1 and 2"))
        ('Add.\n\n1 and 2', '3')
    """
    if isinstance(sample, Labelled):
        return sample.text, str(sample.label)
    questions = [message for message in sample.messages if message.role == "user"]
    return text_of(questions[-1]) if questions else "", sample.answer


def prompt_ids(prepared: Prepared, task: Task, count: int) -> list[list[int]]:
    """Return the ids that the model reads for the first held-out samples, each rendered by the template of its source.

    Args:
        prepared: Data with a validation set.
        task: causal_lm or seq2seq_lm.
        count: Number of samples, at most.
    """
    held_out = prepared.held_out
    assert held_out is not None
    if task == "seq2seq_lm":
        return [list(map(int, held_out[index].input_ids)) for index in range(min(count, len(held_out)))]
    if not isinstance(held_out, Mixture):
        return encode_prompts(prepared.tokenizer, prepared.template, _conversations(held_out, count))
    # Those of a source at a time, with its template.
    drawn = held_out.sources[:count].tolist()
    of_source = [
        iter(encode_prompts(source.tokenizer, source.template, _conversations(source.held_out, drawn.count(number))))
        for number, source in enumerate(prepared.held_out_sources)
    ]
    return [next(of_source[number]) for number in drawn]


def _conversations(store: TokenStore | None, count: int) -> list[Conversation]:
    samples = [] if store is None else store.samples[:count]
    return [sample for sample in samples if isinstance(sample, Conversation)]
