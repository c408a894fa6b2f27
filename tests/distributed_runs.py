"""Runs that two ranks make together, with results written to files."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torchdata.stateful_dataloader import StatefulDataLoader

from lightning_neft import NEFTune
from lightning_neft.noise.hook import NoiseHook
from tiny import Recorder, Samples, Tuned, llama, trainer


class Recording(Tuned):
    """Keeps what the embedding returned in each batch, and the rank."""

    outputs: list

    def on_train_start(self):
        self.recorder = Recorder(self.model.get_input_embeddings())

    def on_train_end(self):
        self.recorder.handle.remove()


class Compiled(Recording):
    """Compiled where Lightning's documentation says to: in configure_model."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Identity())

    def configure_model(self):
        if isinstance(self.model, torch.nn.Identity):
            self.model = llama()
            self.model.compile(backend="eager")


class Sharded(Recording):
    """Built in configure_model and sharded with FSDP2, or with its embedding split over two tensor-parallel ranks."""

    def __init__(self, kind: str) -> None:
        super().__init__(torch.nn.Identity())
        self.kind = kind

    def configure_model(self):
        if not isinstance(self.model, torch.nn.Identity):
            return
        self.model = llama()
        if self.kind == "fsdp2":
            from torch.distributed.fsdp import fully_shard

            for layer in self.model.model.layers:
                fully_shard(layer, mesh=self.device_mesh["data_parallel"])
            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])
        else:
            from torch.distributed.tensor import Replicate
            from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

            plan = {"model.embed_tokens": RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate())}
            parallelize_module(self.model, self.device_mesh["tensor_parallel"], plan)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-1)


def full(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def run(name: str, folder: Path, ckpt_path: Path | None = None) -> None:
    """Make the run of this name on the rank of this process, and write `NAME-RANK.pt`."""
    options = {"devices": 2, "max_steps": 4, "strategy": "ddp"}
    module: Recording = Recording(llama())
    if name in ("fsdp2", "tensor_parallel"):
        module = Sharded(name)
        data, tensor = (2, 1) if name == "fsdp2" else (1, 2)
        options["strategy"] = ModelParallelStrategy(data_parallel_size=data, tensor_parallel_size=tensor)
    if name == "ddp_compiled":
        module = Compiled()
    if name == "ddp_accumulated":
        options |= {"accumulate_grad_batches": 3, "max_steps": 2}
    if name == "ddp_resumed":
        options["max_steps"] = 8
    callbacks = [NEFTune(alpha=0 if name == "ddp_clean" else 5)]
    if name == "ddp_resumed":
        checkpoint = ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=3, save_top_k=-1)
        callbacks.append(checkpoint)
        options["enable_checkpointing"] = True
    # Every rank is given the same rows, so that different outputs can only come from different noise.
    loader = StatefulDataLoader(Samples(64), batch_size=4)
    fit = trainer(callbacks=callbacks, use_distributed_sampler=False, **options)
    fit.fit(module, loader, ckpt_path=ckpt_path, weights_only=True)
    result = {
        "outputs": [full(output) for output in module.recorder.outputs],
        "weights": torch.cat([full(parameter).flatten() for parameter in module.parameters()]),
        "hooks_of_ours": sum(
            isinstance(getattr(hook, "__self__", None), NoiseHook)
            for part in module.modules()
            for hook in part._forward_hooks.values()
        ),
    }
    torch.save(result, folder / f"{name}-{fit.global_rank}.pt")
