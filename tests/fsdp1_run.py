"""A plain loop under torch's FSDP1 on two CPU processes, which Lightning's strategy refuses; started as a script.

Usage: python fsdp1_run.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from lightning_neft import EmbeddingNoise
from tiny import Recorder, batch, llama


def run(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model = FullyShardedDataParallel(
        llama(),
        auto_wrap_policy=ModuleWrapPolicy({LlamaDecoderLayer}),
        device_id=torch.device("cpu"),
        use_orig_params=True,
    )
    noise = EmbeddingNoise(5).attach(model)
    recorder = Recorder(noise.targets[0].module)
    for step in range(2):
        given = batch([9, 4], seed=step)
        with noise.armed(given, step, rank=rank):
            model(**given).loss.backward()
    noise.detach()
    model(**given)
    names = [target.name for target in noise.targets]
    torch.save({"outputs": recorder.outputs, "left": names}, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(run, (sys.argv[1],), nprocs=2)
