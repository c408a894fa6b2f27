"""Encoded samples to a batch of tensors: padded, packed or flat, with the indices that loss and noise need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_neft.data.batching.plan import Batching, PlannedBatch
from lightning_neft.data.tokenization import IGNORED, EncodedSample, Task
from lightning_neft.errors import ConfigError, DataError

__all__ = ["Collator"]

_Rows = list[NDArray[Any]]


class Collator:
    """Combines the samples of a plan into tensors on the CPU.

    Every batch has `input_ids` and `labels`, int64. Rows of single samples (`random` and `length_grouped`) are padded
    on the right to the longest one and have an `attention_mask`. By task and batching, a batch also has:

    - causal_lm: `labels` (rows, longest), not shifted, -100 where there is no loss. `loss_index` int64 (n,) and
      `loss_targets` int64 (n,): the hidden state at place loss_index[i] of the flattened batch predicts
      loss_targets[i], never across the start of a document. Computed on the CPU, so that a model can compute logits
      there alone without waiting for its device.
    - causal_lm, `packed`: `position_ids` from 0 in each document, `sequence_ids` int64 with the number of the document
      in its row, -1 on padding, and no attention_mask: without a mask and a cache, transformers makes the
      block-diagonal mask from positions that restart. Padding is at the end of the row and restarts too. The label of
      a document's first token is -100.
    - causal_lm, `flat`: all rows joined into one of shape (1, tokens) without padding, as in transformers'
      DataCollatorWithFlattening: `position_ids`, labels as above, `cu_seq_lens_q` and `cu_seq_lens_k` int32
      (documents + 1,), and the integers `max_length_q` and `max_length_k`.
    - seq2seq_lm: `input_ids` and `attention_mask` of the encoder, `labels` (rows, longest target).
    - sequence_classification: `labels` (rows,).

    Batches of a training plan carry `step_share`, a float32 scalar (see `BatchPlan`); held-out ones do not. Those of
    several sources carry `sources`, int64 (rows,), instead.

    Args:
        pad_id: Pads `input_ids`. It may be the end token: mask and labels come from the lengths.
        task: Task of the model.
        batching: Layout of the rows. Held-out rows are single samples, so never `packed` or `flat`.
        prompt_loss: Weight of a prompt token in the loss, where an answer token weighs 1; causal_lm only. Above 0,
            prompts have labels too, and the batch has `loss_weights` float32 in the shape of the labels (0 where there
            is no loss) and, in the order of loss_targets, `loss_token_weights` (n,).

    Raises:
        ConfigError: If the task cannot be batched this way, or a number is out of range.

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
            raise ConfigError(f"batching={batching!r} is for the task causal_lm, got {task!r}; choose random")
        if prompt_loss < 0 or (prompt_loss and task != "causal_lm"):
            raise ConfigError(
                f"prompt_loss must be 0 or more, and 0 except for causal_lm; got {prompt_loss!r} for {task}"
            )
        self.pad_id = pad_id
        self.task = task
        self.batching = batching
        self.prompt_loss = prompt_loss

    def __call__(self, batch: PlannedBatch) -> dict[str, Any]:
        """Return the batch: tensors, and two integers if it is flat.

        Raises:
            DataError: If a training batch has no token to train on.
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
                    f"a training batch of {len(batch.rows)} rows has no label to train on; drop samples without one "
                    "before they are ordered"
                )
            tensors["step_share"] = torch.tensor(batch.step_share, dtype=torch.float32)
        if batch.sources is not None:
            tensors["sources"] = torch.tensor(batch.sources)
        return tensors

    def _causal(self, rows: Sequence[Sequence[EncodedSample]]) -> dict[str, Any]:
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
            # Positions of padding restart at 0 too, which makes it a separate document for the attention.
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
        # The next place in the flattened batch is the next one in the row, since the last of a row predicts nothing.
        arrays["loss_targets"] = arrays["labels"].ravel()[arrays["loss_index"] + 1]
        if self.prompt_loss:
            arrays["loss_weights"] = self._fill(weights, 0.0, np.float32)
            arrays["loss_token_weights"] = arrays["loss_weights"].ravel()[arrays["loss_index"] + 1]
        return arrays

    def _single(self, samples: Sequence[EncodedSample]) -> dict[str, Any]:
        """Return the arrays of the tasks whose rows are always single samples."""
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
        """Stack rows of different lengths, padded on the right."""
        width = max(map(len, rows))
        filled = np.full((len(rows), width), value, dtype)
        for to, row in zip(filled, rows, strict=True):
            to[: len(row)] = row
        return filled
