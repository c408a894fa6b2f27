"""Answers with pinned decoding: greedy, repetition penalty 1.2, as the authors generated theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from lightning_neft.data.tokenizer import leading_ids, pad_id
from lightning_neft.models.modes import eager, evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["REPETITION_PENALTY", "generate_answers", "padded"]

# Without it greedy answers fall into loops.
REPETITION_PENALTY = 1.2


def padded(prompts: Sequence[Sequence[int]], pad: int, side: str = "left") -> tuple[Tensor, Tensor]:
    """Return ids and attention mask, both int64 of shape (batch, longest), with the padding on one side.

    Example:
        >>> ids, mask = padded([[5, 6], [7]], pad=0)
        >>> ids.tolist(), mask.tolist()
        ([[5, 6], [0, 7]], [[1, 1], [0, 1]])
    """
    shape = (len(prompts), max(map(len, prompts)))
    ids, mask = torch.full(shape, pad), torch.zeros(shape, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        start = shape[1] - len(prompt) if side == "left" else 0
        ids[row, start : start + len(prompt)] = torch.tensor(prompt)
        mask[row, start : start + len(prompt)] = 1
    return ids, mask


@torch.no_grad()
def generate_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str] | Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 256,
    batch_size: int = 8,
    stop_ids: Sequence[int] = (),
) -> list[str]:
    """Return the answer to each prompt, without the prompt and without the token that ended it.

    Args:
        model: A causal or sequence-to-sequence model of transformers, bare or inside peft. Modules keep their modes.
        tokenizer: Its tokenizer.
        prompts: Prompts as the template words them, or their ids. Prompts of text for an encoder get the special tokens
            that the tokenizer puts around a text. One without any token begins with the beginning-of-sequence token, or
            the end token where there is none.
        max_new_tokens: The most tokens of an answer.
        batch_size: Prompts in one forward pass.
        stop_ids: Tokens that end an answer, besides the end token.
    """
    from transformers import GenerationConfig

    is_seq2seq = bool(model.config.is_encoder_decoder)
    ends = [int(tokenizer.eos_token_id), *stop_ids]
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=REPETITION_PENALTY,
        max_new_tokens=max_new_tokens,
        eos_token_id=ends,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=pad_id(tokenizer),
    )
    device = next(model.parameters()).device
    # Of plain text the prompt is empty, and some tokenizers put nothing before it: a text follows what parts texts.
    begin = [ends[0] if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)]
    encoded = [ids if len(ids) else begin for ids in _encoded(tokenizer, prompts, is_seq2seq)]
    answers: list[str] = []
    with evaluating(model), eager(model):
        for start in range(0, len(encoded), batch_size):
            # What a decoder writes has to stand right behind its prompt.
            side = "right" if is_seq2seq else "left"
            ids, mask = padded(encoded[start : start + batch_size], pad_id(tokenizer), side)
            written = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config)
            # A sequence-to-sequence model begins with the token that starts its decoder.
            rows = written[:, 1 if is_seq2seq else ids.shape[1] :].tolist()
            answers += tokenizer.batch_decode([_before_end(row, ends) for row in rows], skip_special_tokens=True)
    return answers


def _encoded(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str] | Sequence[Sequence[int]], is_seq2seq: bool
) -> list[Sequence[int]]:
    if not prompts or not isinstance(prompts[0], str):
        return list(cast("Sequence[Sequence[int]]", prompts))
    texts = list(cast("Sequence[str]", prompts))
    if is_seq2seq:
        return list(tokenizer(texts)["input_ids"])
    lead = leading_ids(tokenizer)
    return [lead + ids for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _before_end(row: list[int], ends: Sequence[int]) -> list[int]:
    return row[: next((place for place, token in enumerate(row) if token in ends), len(row))]
