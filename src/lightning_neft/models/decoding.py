"""Answers with pinned decoding: greedy, repetition penalty 1.2, as the authors generated theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from lightning_neft.data.exchange_ids import once
from lightning_neft.hub.tokenizer import leading_ids, pad_id, stops
from lightning_neft.models.execution import eager, evaluating

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

__all__ = [
    "REPETITION_PENALTY",
    "before_end",
    "decoding",
    "empty_prompt",
    "end_ids",
    "generate_answers",
    "padded",
    "write_tokens",
]

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


def end_ids(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> list[int]:
    """Return the tokens that end an answer: the end token, and those that the texts begin with (see `stops`)."""
    return list(dict.fromkeys([int(tokenizer.eos_token_id), *stops(tokenizer, stop)[0]]))


def empty_prompt(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token that stands in for an empty prompt: beginning-of-sequence, or the end token without one."""
    return [int(tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id)]


def decoding(
    tokenizer: PreTrainedTokenizerBase,
    ends: Sequence[int],
    max_new_tokens: int | None = None,
    min_new_tokens: int | None = None,
) -> GenerationConfig:
    """Return the pinned decoding as a generation config of transformers.

    Args:
        tokenizer: Of the model.
        ends: Tokens that end an answer.
        max_new_tokens: Maximum number of tokens of an answer.
        min_new_tokens: Minimum number of tokens before an end token is allowed.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=REPETITION_PENALTY,
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        eos_token_id=list(ends),
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=pad_id(tokenizer),
    )


@torch.no_grad()
def write_tokens(
    model: Any, prompts: Sequence[Sequence[int]], config: GenerationConfig, **options: Any
) -> list[list[int]]:
    """Return the ids that the model writes after each prompt, including end tokens and padding.

    Args:
        model: A causal or sequence-to-sequence model of transformers, bare or inside peft. Modules keep their modes.
        prompts: Ids of the prompts, of one forward pass.
        config: The decoding, with its padding token.
        options: Further options of transformers' `generate`, such as a streamer.
    """
    is_seq2seq = bool(model.config.is_encoder_decoder)
    device = next(model.parameters()).device
    with evaluating(model), eager(model), _without_own_decoding(model):
        # A decoder's answer must directly follow its prompt.
        ids, mask = padded(prompts, config.pad_token_id, "right" if is_seq2seq else "left")
        if not is_seq2seq:
            # Up to 5.22 transformers penalises padding tokens too: pad with a token that the prompt already has.
            ids = torch.where(mask.bool(), ids, ids[:, -1:])
        written = model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config, **options
        )
    # A sequence-to-sequence model begins with the token that starts its decoder.
    rows: list[list[int]] = written[:, 1 if is_seq2seq else ids.shape[1] :].tolist()
    return rows


@contextmanager
def _without_own_decoding(model: nn.Module) -> Iterator[None]:
    """Hide a model's own generation_config, except for the token that starts a decoder.

    transformers takes from it whatever the pinned decoding does not set: forced or banned tokens, time-outs, methods.
    """
    from transformers import GenerationConfig

    own = {
        module: vars(module)["generation_config"] for module in model.modules() if "generation_config" in vars(module)
    }
    try:
        for module, config in own.items():
            start = getattr(config, "decoder_start_token_id", None)
            module.generation_config = GenerationConfig(decoder_start_token_id=start)
        yield
    finally:
        for module, config in own.items():
            module.generation_config = config


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
        prompts: Rendered prompts, or their ids. Text for an encoder gets the special tokens that the tokenizer puts
            around a text. An empty prompt becomes the beginning-of-sequence token, or the end token without one.
        max_new_tokens: Maximum number of tokens of an answer.
        batch_size: Prompts in one forward pass.
        stop_ids: Tokens that end an answer, besides the end token.
    """
    ends = [*end_ids(tokenizer), *stop_ids]
    config = decoding(tokenizer, ends, max_new_tokens)
    encoded = _encoded(tokenizer, prompts, bool(model.config.is_encoder_decoder))
    encoded = [ids if len(ids) else empty_prompt(tokenizer) for ids in encoded]
    answers: list[str] = []
    for start in range(0, len(encoded), batch_size):
        rows = write_tokens(model, encoded[start : start + batch_size], config)
        answers += tokenizer.batch_decode([before_end(row, ends) for row in rows], skip_special_tokens=True)
    return answers


def _encoded(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str] | Sequence[Sequence[int]], is_seq2seq: bool
) -> list[Sequence[int]]:
    if not prompts or not isinstance(prompts[0], str):
        return list(cast("Sequence[Sequence[int]]", prompts))
    texts = list(cast("Sequence[str]", prompts))
    if is_seq2seq:
        return [once(ids, tokenizer) for ids in tokenizer(texts)["input_ids"]]
    lead = leading_ids(tokenizer)
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [ids if ids[: len(lead)] == lead else lead + ids for ids in encoded]


def before_end(row: list[int], ends: Sequence[int]) -> list[int]:
    """Return the ids in front of the first one that ends an answer."""
    return row[: next((place for place, token in enumerate(row) if token in ends), len(row))]
