"""Turn samples into token ids and labels: prompt masked, answer and end token trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lightning_neft.data.sample import Sample
from lightning_neft.data.template import AlpacaTemplate
from lightning_neft.data.tokenizer import leading_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IGNORED", "EncodedSample", "Encoding", "encode_prompts", "encode_samples"]

# The label that the cross-entropy of PyTorch leaves out.
IGNORED = -100
# Samples in one call of the tokenizer: fast tokenizers work on a batch in parallel.
_BATCH = 1000


@dataclass(frozen=True)
class EncodedSample:
    """One sample as tokens; both lists have the same length.

    Args:
        input_ids: Prompt, answer, end token.
        labels: The same with -100 in place of the prompt. Not shifted: the loss does that.
    """

    input_ids: list[int]
    labels: list[int]


@dataclass
class Encoding:
    """What came out of encoding a set of samples.

    Args:
        samples: Those that can be trained on.
        kept: For each of them, its index in what was given.
        truncated: How many were cut to the maximal length, among those kept.
        dropped: How many had no token of the answer left within it.
    """

    samples: list[EncodedSample] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    truncated: int = 0
    dropped: int = 0


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """Return the ids that the model reads for each prompt, in training as in generation; no padding, no end token."""
    if not prompts:
        return []
    lead = leading_ids(tokenizer)
    return [lead + ids for ids in tokenizer(list(prompts), add_special_tokens=False)["input_ids"]]


def encode_samples(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerBase, template: AlpacaTemplate, max_length: int
) -> Encoding:
    """Encode samples, each cut to `max_length` tokens from its end, as the authors' training script does.

    Prompt and answer are tokenised as one text, so the answer's first token is the one that a running text would have.
    Where that merges the end of the prompt with the start of the answer, the two are tokenised apart: the prompt's
    tokens are always those that generation feeds.

    Args:
        samples: What to encode.
        tokenizer: A tokenizer with an end-of-sequence token.
        template: Words the prompt.
        max_length: The most tokens that a sample may have.
    """
    encoding = Encoding()
    for start in range(0, len(samples), _BATCH):
        batch = samples[start : start + _BATCH]
        prompts = [template.prompt(sample) for sample in batch]
        texts = [prompt + sample.output for prompt, sample in zip(prompts, batch, strict=True)]
        prompt_ids = encode_prompts(tokenizer, prompts)
        text_ids = encode_prompts(tokenizer, texts)
        for offset, (prompt, text) in enumerate(zip(prompt_ids, text_ids, strict=True)):
            if text[: len(prompt)] == prompt:
                answer = text[len(prompt) :]
            else:
                answer = tokenizer(batch[offset].output, add_special_tokens=False)["input_ids"]
            answer = [*answer, tokenizer.eos_token_id]
            if len(prompt) >= max_length:
                encoding.dropped += 1
                continue
            input_ids = (prompt + answer)[:max_length]
            encoding.truncated += len(prompt) + len(answer) > max_length
            labels = [IGNORED] * len(prompt) + input_ids[len(prompt) :]
            encoding.samples.append(EncodedSample(input_ids, labels))
            encoding.kept.append(start + offset)
    return encoding
