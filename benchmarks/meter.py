"""One meter for all sides: the clock of a training loop, the tokens that the model saw, the losses, the memory."""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections.abc import Sequence
from typing import Any

import torch
from harness import PROCESS_BEGUN
from torch import Tensor, nn


class Meter:
    """Times a training loop and counts what its embedding reads.

    Args:
        pad_id: Id of padding, which stands nowhere else.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id
        self.steps = 0
        self._losses: list[Tensor] = []
        self._begun = self._ended = self._cpu_begun = self._cpu_ended = 0.0
        self._fit_begun = self._first_ended = 0.0
        self._tokens: list[Tensor] = []
        self._places = 0

    def watch(self, model: nn.Module) -> None:
        """Count the ids that the embedding of a transformers model is called with in training."""
        model.get_input_embeddings().register_forward_pre_hook(self._count)  # type: ignore[operator]

    def begin_fit(self) -> None:
        """To be called when data and model are ready and the trainer is told to train."""
        self._fit_begun = time.perf_counter()

    def start_step(self) -> None:
        """To be called before each step; the clock starts at the first one."""
        if not self.steps:
            _wait()
            self._begun, self._cpu_begun = time.perf_counter(), time.process_time()
        elif self.steps == 1:
            _wait()
            self._first_ended = time.perf_counter()
        self.steps += 1

    def add_loss(self, loss: Tensor) -> None:
        """To be called with the loss of each step, by sides that do not log it themselves."""
        self._losses.append(loss.detach())

    def stop(self) -> None:
        """To be called when the optimiser has made its last step."""
        _wait()
        self._ended, self._cpu_ended = time.perf_counter(), time.process_time()
        if self.steps == 1:
            self._first_ended = self._ended

    def result(self, logged: Sequence[float] | None = None) -> dict[str, Any]:
        """Return what was measured: seconds, tokens, bytes.

        Args:
            logged: The losses that the side logged, one for every ten steps.
        """
        losses = means_of_ten(self._losses) if logged is None else list(logged)
        counts = torch.stack(self._tokens).tolist()
        seconds, tokens = self._ended - self._begun, sum(counts)
        result: dict[str, Any] = {
            "tokens": tokens,
            "padding_share": round(1 - tokens / self._places, 4),
            "steps": self.steps,
            # Tells whether two sides had the same batches.
            "batches": hashlib.sha256(repr(counts).encode()).hexdigest()[:12],
            "seconds": seconds,
            "cpu_seconds": self._cpu_ended - self._cpu_begun,
            "tokens_per_second": tokens / seconds,
            "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "first_loss": round(losses[0], 4) if losses else None,
            "last_loss": round(losses[-1], 4) if losses else None,
            "threads": torch.get_num_threads(),
        }
        # By the clock of the machine, which the process that started this one has told its start by.
        if PROCESS_BEGUN in os.environ:
            result["first_step_after_process"] = self._first_ended - float(os.environ[PROCESS_BEGUN])
        result["first_step_after_fit"] = self._first_ended - self._fit_begun
        if torch.cuda.is_available():
            result["peak_cuda"] = torch.cuda.max_memory_allocated()
        return result

    def _count(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if not torch.is_grad_enabled():  # not training: a look at the model beforehand
            return
        # A tensor on the model's device: a number would have to be waited for.
        self._tokens.append((args[0] != self.pad_id).sum())
        self._places += args[0].numel()


def means_of_ten(losses: Sequence[Tensor]) -> list[float]:
    """Return the mean over each ten steps, as the Trainer of transformers logs it."""
    whole = len(losses) // 10 * 10
    return torch.stack(list(losses[:whole])).view(-1, 10).float().mean(1).tolist() if whole else []


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
