"""Shard a model over the data-parallel ranks with FSDP2, for Lightning's ModelParallelStrategy."""

from __future__ import annotations

from typing import Any

from lightning_neft.errors import ConfigError

__all__ = ["shard"]


def shard(model: Any, mesh: Any) -> None:
    """Shard each block of a model and then the rest, in place.

    Args:
        model: A model of transformers, bare or inside peft. Its classes name the blocks that are to stay in one piece.
        mesh: The strategy's device mesh, with the dimensions data_parallel and tensor_parallel.

    Raises:
        ConfigError: If the strategy wants tensor parallelism.
    """
    from torch.distributed.fsdp import fully_shard

    if mesh["tensor_parallel"].size() > 1:
        raise ConfigError(
            f"tensor_parallel_size={mesh['tensor_parallel'].size()}: the models of this package are sharded over "
            "data_parallel_size alone; set tensor_parallel_size=1"
        )
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    for module in [module for module in model.modules() if type(module).__name__ in blocks]:
        fully_shard(module, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
