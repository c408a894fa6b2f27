"""A plain loop under torch's FSDP1 on two CPU processes, which Lightning's strategy refuses."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from lightning_neft import EmbeddingNoise
from tiny import Recorder, batch, llama


def run(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo")
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
    torch.save({"outputs": recorder.outputs, "left": names}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
