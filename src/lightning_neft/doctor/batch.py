"""The batch to measure with: a sample batch where only a model is given, and the report on any batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_neft.data.toy import toy_instructions
from lightning_neft.doctor.report import BatchReport
from lightning_neft.hub.tiny_models import TINY
from lightning_neft.noise.embedding import EmbeddingTarget
from lightning_neft.noise.lengths import find_token_rows

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

__all__ = ["describe_batch", "first_rows", "load_tokenizer_if_any", "sample_batch"]

_ROWS = 8
_TEXT = "horse, brush, cherry"
_IGNORED = -100
# Elements of an embedding's output: 64 MB in float32, and measuring holds a few tensors of that size.
_MAX_ELEMENTS = 1 << 24

# Prompt and answer of a sample as token ids.
_Sample = tuple[list[int], list[int]]


def load_tokenizer_if_any(path: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase | None:
    """Load the tokenizer of a model, or return None if it has none for text."""
    from transformers import AutoTokenizer

    # A missing or incomplete tokenizer raises different errors for different kinds.
    with suppress(Exception):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        # A tokenizer may load without its vocabulary and encode words as unknown, and one that is not for text has no
        # words.
        ids = tokenizer(_TEXT, add_special_tokens=False)["input_ids"]
        if tokenizer.decode(ids).replace(" ", "").lower() == _TEXT.replace(" ", ""):
            return tokenizer
    return None


def sample_batch(
    config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None, writes: bool
) -> tuple[dict[str, Tensor], str]:
    """Return a batch of the first toy instructions, padded on the right.

    Args:
        config: Config of the model.
        tokenizer: The tokenizer of the model; without one the ids are random and the samples as long as with the tiny
            tokenizer.
        writes: Whether the model generates text. Its labels are then the answers, for a decoder after a prompt of
            -100. Other models get no labels.

    Returns:
        int64 `input_ids`, `attention_mask` and for models that write `labels`; and the source of the batch in words.
    """
    if tokenizer is not None:
        samples, source = _tokenised(tokenizer), "toy instructions, encoded by the model's tokenizer"
    else:
        samples, source = _random_ids(config), "random token ids, of the lengths of the toy instructions"
    ids, labels = [prompt + answer for prompt, answer in samples], None
    if writes and config.is_encoder_decoder:
        ids, labels = [prompt for prompt, _ in samples], [answer for _, answer in samples]
    elif writes:
        labels = [[_IGNORED] * len(prompt) + answer for prompt, answer in samples]
    multiple = _window(config)
    batch = {
        # Any id will do for padding: lengths come from the mask.
        "input_ids": _padded(ids, ids[0][-1], multiple),
        "attention_mask": _padded([[1] * len(row) for row in ids], 0, multiple),
    }
    if labels is not None:
        batch["labels"] = _padded(labels, _IGNORED)
    return batch, source


def _window(config: PretrainedConfig) -> int:
    """Return what the width must be a multiple of: LED embeds the padding that fills its window in a separate call."""
    window = getattr(config, "attention_window", 1) if config.is_encoder_decoder else 1
    return max(window) if isinstance(window, list) else int(window)


def _tokenised(tokenizer: PreTrainedTokenizerBase) -> list[_Sample]:
    samples = []
    for record in toy_instructions("train")[:_ROWS]:
        prompt = tokenizer("\n\n".join(filter(None, (record["instruction"], record["input"]))) + "\n\n")["input_ids"]
        answer = tokenizer(record["output"], add_special_tokens=False)["input_ids"]
        end = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        samples.append((prompt[:-1] if prompt[-1:] == end else prompt, answer + end))
    return samples


def _random_ids(config: PretrainedConfig) -> list[_Sample]:
    tiny = load_tokenizer_if_any(str(TINY))
    assert tiny is not None  # bundled
    special = _special_ids(config.to_dict())
    ordinary = [number for number in range(config.get_text_config().vocab_size) if number not in special]
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        return [ordinary[i] for i in torch.randint(len(ordinary), (count,), generator=generator).tolist()]

    return [(draw(len(prompt)), draw(len(answer))) for prompt, answer in _tokenised(tiny)]


def _special_ids(values: Mapping[Any, Any]) -> set[int]:
    """Return the ids of special tokens, such as image placeholders, in a config and those nested in it."""
    ids: set[int] = set()
    for key, value in values.items():
        if isinstance(value, Mapping):
            ids |= _special_ids(value)
        elif str(key).endswith(("_token_id", "_token_index")):
            ids |= {number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)}
    return ids


def _padded(rows: Sequence[Sequence[int]], value: int, multiple: int = 1) -> Tensor:
    longest = max(len(row) for row in rows)
    width = longest + -longest % multiple
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def first_rows(batch: Mapping[str, Any], width: int) -> tuple[dict[str, Any], int]:
    """Truncate a batch to the rows that can be measured in little memory.

    Args:
        batch: A batch of the data loader.
        width: Width of the embedding.

    Returns:
        The batch and its number of rows.
    """
    ids = batch["input_ids"]
    rows = len(ids)
    kept = min(rows, max(1, _MAX_ELEMENTS // (ids[0].numel() * width)))
    if kept == rows or ids.dim() == 1:
        return dict(batch), rows
    cut = {
        key: value[:kept] if isinstance(value, Tensor) and len(value) == rows else value for key, value in batch.items()
    }
    return cut, kept


def describe_batch(
    batch: Mapping[str, Any],
    targets: Sequence[EmbeddingTarget],
    *,
    source: str,
    rows_measured: int,
    is_of_user: bool,
    batch_to_mask: Any = None,
    longest: int | None = None,
) -> BatchReport:
    """Return the report on a batch.

    Args:
        batch: A batch of the data loader.
        targets: The embeddings that get noise.
        source: Its source, in words.
        rows_measured: Number of its rows that are measured.
        is_of_user: Whether it is part of the training data.
        batch_to_mask: As in `find_token_rows`.
        longest: Maximum tokens of a row in the data; None if unknown.

    Raises:
        LengthsError: The lengths cannot be determined.
    """
    ids: Tensor = batch["input_ids"]
    rows = find_token_rows(
        batch,
        batch_to_mask=batch_to_mask,
        seq2seq=any(target.is_seq2seq for target in targets),
        slots=[slot for target in targets for slot in target.slots],
    )
    lengths: dict[str, list[int]] = {}
    for row in rows:
        documents = row.documents if row.slots is None else row.documents.masked_fill(row.slots, 0)
        lengths[row.source] = [count for of_row in documents for count in torch.bincount(of_row).tolist()[1:] if count]
    labels = batch.get("labels")
    if not isinstance(labels, Tensor) or labels.dim() not in (1, 2):
        kind, labelled, without = None, None, None
    elif labels.dim() == 1 and ids.dim() == 2:
        kind, labelled, without = "classes", None, None
    else:
        has_label = (labels != _IGNORED).reshape(-1, labels.shape[-1])
        kind, labelled, without = "tokens", int(has_label.sum()), int((~has_label.any(-1)).sum())
    own = next(iter(lengths.values()), [ids.shape[-1]] * (len(ids) if ids.dim() == 2 else 1))
    return BatchReport(
        source=source,
        is_of_user=is_of_user,
        rows=len(ids) if ids.dim() == 2 else 1,
        rows_measured=rows_measured,
        width=ids.shape[-1],
        lengths=lengths,
        labels=kind,  # type: ignore[arg-type]
        labelled_tokens=labelled,
        rows_without_labels=without,
        rows_cut=None if longest is None else sum(length >= longest for length in own),
    )
