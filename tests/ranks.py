"""Several ranks of one run, forked from the process of the test: the environment of torchrun without the imports."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

from forked import Forked


def run_ranks(run: Callable[[], int | None], folder: Path, ranks: int = 2) -> None:
    """Call a function on each rank and wait for all; `rank-N.log` in the folder has what each printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def entered(rank: int) -> int:
        os.environ |= {
            **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"},
            **{"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"},
        }
        # A new process would have neither the filters of the tests nor the random state that earlier tests left.
        warnings.simplefilter("default")
        torch.manual_seed(0)
        rank_zero_only.rank = rank
        return run() or 0

    logs = [folder / f"rank-{rank}.log" for rank in range(ranks)]
    processes = [Forked(lambda rank=rank: entered(rank), log) for rank, log in enumerate(logs)]
    codes = [process.wait(300) for process in processes]
    for process in processes:
        if process.poll() is None:
            process.send(9)
    assert codes == [0] * ranks, "\n".join(log.read_text()[-3000:] for log in logs)
