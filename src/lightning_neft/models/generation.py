"""Answers with pinned decoding: greedy, repetition penalty 1.2, as the authors generated theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_neft.data.encoding import encode_prompts
from lightning_neft.data.tokenizer import pad_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["REPETITION_PENALTY", "generate_answers", "left_padded"]

# Without it greedy answers fall into loops.
REPETITION_PENALTY = 1.2


def left_padded(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask, both int64 of shape (batch, longest), with the padding on the left.

    Example:
        >>> ids, mask = left_padded([[5, 6], [7]], pad=0)
        >>> ids.tolist(), mask.tolist()
        ([[5, 6], [0, 7]], [[1, 1], [0, 1]])
    """
    shape = (len(prompts), max(map(len, prompts)))
    ids, mask = torch.full(shape, pad), torch.zeros(shape, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, shape[1] - len(prompt) :] = torch.tensor(prompt)
        mask[row, shape[1] - len(prompt) :] = 1
    return ids, mask


@torch.no_grad()
def generate_answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 256,
    batch_size: int = 8,
) -> list[str]:
    """Return the answer to each prompt, without the prompt and without the end token.

    Args:
        model: A causal language model of transformers, bare or inside peft. Its modules keep their modes.
        tokenizer: Its tokenizer.
        prompts: Prompts as the template words them.
        max_new_tokens: The most tokens of an answer.
        batch_size: Prompts in one forward pass, padded on the left.
    """
    from transformers import GenerationConfig

    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=REPETITION_PENALTY,
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=pad_id(tokenizer),
    )
    device = next(model.parameters()).device
    encoded = encode_prompts(tokenizer, prompts)
    answers: list[str] = []
    with _evaluating(model):
        for start in range(0, len(encoded), batch_size):
            ids, mask = left_padded(encoded[start : start + batch_size], pad_id(tokenizer))
            written = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config)
            answers += tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
    return answers


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and each of its modules back into the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
