"""Small models, batches and LightningModules that several test files use."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

VOCABULARY = 60


def llama(hidden_size: int = 32, **options: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden_size,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        **options,
    )
    return LlamaForCausalLM(config).eval()


def transformers_hook() -> Any:
    """The forward hook by which transformers itself adds NEFTune's noise."""
    try:
        from transformers.integrations.neftune import neftune_post_forward_hook
    except ImportError:  # its place in transformers 5.0
        from transformers.trainer_utils import neftune_post_forward_hook
    return neftune_post_forward_hook


def t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    return T5ForConditionalGeneration(config).eval()


def batch(lengths: list[int], width: int | None = None, side: str = "right", seed: int = 0) -> dict[str, Tensor]:
    """Random ids with padding: input_ids, attention_mask and labels, int64 (B, L)."""
    generator = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    ids = torch.randint(1, VOCABULARY, (len(lengths), width), generator=generator)
    positions = torch.arange(width)
    if side == "left":
        positions = positions.flip(0)
    mask = (positions < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": torch.where(mask == 1, ids, -100)}


class Samples(Dataset):
    """Padded samples of uneven length, each a function of its index."""

    def __init__(self, count: int, width: int = 12) -> None:
        self.count, self.width = count, width

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {key: value[0] for key, value in batch([3 + index % (self.width - 3)], self.width, seed=index).items()}


def loader(count: int = 16, batch_size: int = 4) -> DataLoader:
    return DataLoader(Samples(count), batch_size=batch_size)


class Tuned(L.LightningModule):
    """The ordinary LightningModule around a model: loss from the batch, AdamW."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.model(**batch).loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def trainer(**options: Any) -> L.Trainer:
    """A quiet trainer on the CPU that writes nothing."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_steps": 4,
    }
    return L.Trainer(**{**defaults, **options})


class LoggedRows(DummyLogger):
    """Keeps in memory what is logged, a dictionary for each call."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append({"step": step, **metrics})

    def save(self) -> None: ...


class Recorder:
    """Keeps what a module returned, from an additional forward hook."""

    def __init__(self, module: nn.Module) -> None:
        self.outputs: list[Tensor] = []
        self.handle = module.register_forward_hook(lambda m, a, output: self.outputs.append(output.detach().clone()))
