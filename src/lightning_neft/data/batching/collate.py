"""Encoded samples to a batch of tensors: padded, packed or flat, with what loss and noise need to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_neft.data.batching.plan import Batching, HasTokens, PlannedBatch
from lightning_neft.data.tokenization import IGNORED, Task
from lightning_neft.errors import ConfigError, DataError

__all__ = ["Collator"]

_Rows = list[NDArray[Any]]


class Collator:
    """Puts the samples of a plan together to tensors on the CPU.

    For every task there are `input_ids` and `labels`, int64. Rows of single samples (`random` and `length_grouped`) are
    padded on the right to the longest one and have an `attention_mask`. By task and batching further:

    - causal_lm: `labels` (rows, longest), not shifted, -100 where there is no loss. `loss_index` int64 (n,) and
      `loss_targets` int64 (n,): the hidden state at place loss_index[i] of the flattened batch predicts
      loss_targets[i], never across the start of a document. Known on the CPU, so that a model can take logits there
      alone without waiting for its device.
    - causal_lm, `packed`: `position_ids` from 0 in each document, `sequence_ids` int64 with the number of the document
      in its row, -1 on padding, and no attention_mask: transformers makes the block-diagonal mask from positions that
      restart where there is neither a mask nor a cache. Padding is at the end of the row and restarts too. Labels of a
      document's first token are -100.
    - causal_lm, `flat`: all rows in one of shape (1, tokens) without padding, as transformers'
      DataCollatorWithFlattening makes it: `position_ids`, labels as above, `cu_seq_lens_q` and `cu_seq_lens_k` int32
      (documents + 1,), and the integers `max_length_q` and `max_length_k`.
    - seq2seq_lm: `input_ids` and `attention_mask` of the encoder, `labels` (rows, longest target).
    - sequence_classification: `labels` (rows,).

    Batches of a training plan carry `step_share`, a float32 scalar (see `BatchPlan`); held-out ones do not.

    Args:
        pad_id: What fills up `input_ids`. It may be the end token too: mask and labels come from the lengths.
        task: What the model learns.
        batching: How the rows are laid out. Held-out rows are single samples, so theirs is not `packed` or `flat`.
        prompt_loss: Weight of the prompt's tokens in the loss, one of the answer being 1; causal_lm only. If above 0,
            prompts have labels too, and the batch has `loss_weights` float32 in the shape of the labels (0 where there
            is no loss) and the same as `loss_token_weights` (n,) in the order of loss_targets.

    Raises:
        ConfigError: If the task cannot be batched so, or a number is out of its range.

    Example:
        >>> from types import SimpleNamespace
        >>> one = SimpleNamespace(input_ids=[5, 6], labels=[-100, 6])
        >>> other = SimpleNamespace(input_ids=[7], labels=[-100])
        >>> batch = Collator(pad_id=0)(PlannedBatch(((one,), (other,))))
        >>> {name: batch[name].tolist() for name in ("input_ids", "attention_mask", "labels")}
        {'input_ids': [[5, 6], [7, 0]], 'attention_mask': [[1, 1], [1, 0]], 'labels': [[-100, 6], [-100, -100]]}
        >>> batch["loss_index"].tolist(), batch["loss_targets"].tolist()
        ([0], [6])
    """

    def __init__(
        self,
        pad_id: int,
        task: Task = "causal_lm",
        batching: Batching = "length_grouped",
        prompt_loss: float = 0.0,
    ) -> None:
        if task != "causal_lm" and batching in ("packed", "flat"):
            raise ConfigError(f"batching={batching!r} puts documents of causal_lm together, got task={task!r}")
        if prompt_loss < 0 or (prompt_loss and task != "causal_lm"):
            raise ConfigError(f"prompt_loss must be 0 or more, and 0 but for causal_lm, got {prompt_loss!r} for {task}")
        self.pad_id = pad_id
        self.task = task
        self.batching = batching
        self.prompt_loss = prompt_loss

    def __call__(self, batch: PlannedBatch) -> dict[str, Any]:
        """Return the batch: tensors, and two integers if it is flat.

        Raises:
            DataError: If it is one to train on and nothing in it can be trained on.
        """
        if self.task == "causal_lm":
            arrays = self._causal(batch.rows)
            trained = arrays["loss_targets"].size > 0
        else:
            arrays = self._single([sample for row in batch.rows for sample in row])
            trained = bool((arrays["labels"] != IGNORED).any())
        tensors = {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in arrays.items()}
        if batch.step_share is not None:
            if not trained:
                raise DataError(
                    f"a training batch of {len(batch.rows)} rows has no label to train on; samples without one must be "
                    "left out before they are put in order"
                )
            tensors["step_share"] = torch.tensor(batch.step_share, dtype=torch.float32)
        return tensors

    def _causal(self, rows: Sequence[Sequence[HasTokens]]) -> dict[str, Any]:
        if self.batching == "flat":
            rows = [[document for row in rows for document in row]]
        joined = self.batching in ("packed", "flat")
        lengths = [[len(document.input_ids) for document in row] for row in rows]
        ids = [np.concatenate([document.input_ids for document in row]) for row in rows]
        labels = [np.concatenate([document.labels for document in row]) for row in rows]
        weights = [np.where(row == IGNORED, self.prompt_loss, 1.0) for row in labels]
        if self.prompt_loss:
            labels = [row.copy() for row in ids]
        if joined:
            for row, sizes in enumerate(lengths):
                starts = np.cumsum([0, *sizes[:-1]])
                labels[row][starts] = IGNORED
                weights[row][starts] = 0.0
        arrays: dict[str, Any] = {"input_ids": self._fill(ids, self.pad_id), "labels": self._fill(labels, IGNORED)}
        width = arrays["labels"].shape[1]
        if joined:
            # The places of padding count from 0 too, which makes them a document of their own for the attention.
            places = [[*sizes, width - sum(sizes)] for sizes in lengths]
            arrays["position_ids"] = np.stack([np.concatenate([np.arange(n) for n in row]) for row in places])
        else:
            arrays["attention_mask"] = self._fill([np.ones_like(row) for row in ids], 0)
        if self.batching == "packed":
            numbers = [np.repeat(np.arange(len(sizes)), sizes) for sizes in lengths]
            arrays["sequence_ids"] = self._fill(numbers, -1)
        elif self.batching == "flat":
            ends = np.cumsum([0, *lengths[0]], dtype=np.int32)
            arrays |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends.copy()}
            arrays |= dict.fromkeys(("max_length_q", "max_length_k"), max(lengths[0]))
        predicts = np.zeros(arrays["labels"].shape, np.bool_)
        predicts[:, :-1] = arrays["labels"][:, 1:] != IGNORED
        arrays["loss_index"] = np.flatnonzero(predicts)
        # What follows a place in the flattened batch is what follows it in its row: a row's last one predicts nothing.
        arrays["loss_targets"] = arrays["labels"].ravel()[arrays["loss_index"] + 1]
        if self.prompt_loss:
            arrays["loss_weights"] = self._fill(weights, 0.0, np.float32)
            arrays["loss_token_weights"] = arrays["loss_weights"].ravel()[arrays["loss_index"] + 1]
        return arrays

    def _single(self, samples: Sequence[HasTokens]) -> dict[str, Any]:
        """The tasks whose rows are always single samples."""
        ids = [np.asarray(sample.input_ids) for sample in samples]
        labels = [np.atleast_1d(sample.labels) for sample in samples]
        return {
            "input_ids": self._fill(ids, self.pad_id),
            "attention_mask": self._fill([np.ones_like(row) for row in ids], 0),
            "labels": np.concatenate(labels).astype(np.int64)
            if self.task == "sequence_classification"
            else self._fill(labels, IGNORED),
        }

    def _fill(self, rows: _Rows, value: float, dtype: type[np.generic] = np.int64) -> NDArray[Any]:
        """Put rows of different lengths below each other, filled up on the right."""
        width = max(map(len, rows))
        filled = np.full((len(rows), width), value, dtype)
        for to, row in zip(filled, rows, strict=True):
            to[: len(row)] = row
        return filled
