"""`InstructionData`: from a source of instructions to batches, with held-out samples and exact resume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import lightning as L
import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader import StatefulDataLoader
from typing_extensions import override

from lightning_neft.data.alpaca import read_alpaca
from lightning_neft.data.collate import RightPadding
from lightning_neft.data.encoding import IGNORED, EncodedSample, encode_samples
from lightning_neft.data.order import HeldOutOrder, TrainOrder
from lightning_neft.data.sample import Sample
from lightning_neft.data.template import AlpacaTemplate
from lightning_neft.data.tokenizer import load_tokenizer, pad_id
from lightning_neft.data.toy import toy_instructions
from lightning_neft.errors import ConfigError, DataError

__all__ = ["InstructionData"]

# One split for all seeds, so that runs with different seeds are measured on the same samples.
_SPLIT_SEED = 20231009


class _Encoded(Dataset[EncodedSample]):
    """Encoded samples; the index one past the end is a sample without labels (see `HeldOutOrder`)."""

    def __init__(self, samples: list[EncodedSample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> EncodedSample:
        if index < len(self.samples):
            return self.samples[index]
        ids = self.samples[0].input_ids
        return EncodedSample(ids, [IGNORED] * len(ids))


class InstructionData(L.LightningDataModule):
    """Instruction samples in the Alpaca template, tokenised once, loss on the answers only.

    Args:
        source: `toy` for the data that come with the package, or the path of a file in Alpaca's form.
        tokenizer: Base model whose tokenizer is used.
        trust_remote_code: Whether code that comes with the tokenizer may run.
        max_length: The most tokens of a sample; longer ones are cut at their end.
        batch_size: Samples in a batch of one device.
        val_size: Samples to hold out of a file: a count (1 or more), or a share between 0 and 1. The toy data have
            held-out samples of their own.
        seed: Seed of the order; by default the one of seed_everything, 0 without one. Which samples are held out does
            not depend on it.
        num_workers: Processes that load data. Samples are tokenised beforehand, so 0 is fast.

    Raises:
        ConfigError: If a number is out of its range.
    """

    def __init__(
        self,
        source: str = "toy",
        tokenizer: str = "tiny",
        trust_remote_code: bool = False,
        max_length: int = 512,
        batch_size: int = 16,
        val_size: int | float = 0.05,
        seed: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (("max_length", max_length, 2), ("batch_size", batch_size, 1)):
            if value < least:
                raise ConfigError(f"data.{name} must be {least} or more, got {value!r}")
        if num_workers < 0:
            raise ConfigError(f"data.num_workers must be 0 or more, got {num_workers!r}")
        if seed is not None and seed < 0:
            raise ConfigError(f"data.seed must be 0 or more, got {seed!r}")
        if not (0 < val_size < 1 or (isinstance(val_size, int) and val_size >= 1)):
            raise ConfigError(
                f"data.val_size must be a count of samples (1 or more) or a share between 0 and 1, got {val_size!r}"
            )
        self.source = source
        self.tokenizer = tokenizer
        self.trust_remote_code = trust_remote_code
        self.max_length = max_length
        self.batch_size = batch_size
        self.val_size = val_size
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed
        self.num_workers = num_workers
        self.template = AlpacaTemplate()
        self.train_samples: list[Sample] = []
        self.held_out_samples: list[Sample] = []
        self._train: _Encoded | None = None
        self._held_out: _Encoded | None = None
        self._pad_id = 0

    @override
    def setup(self, stage: str) -> None:
        """Read, split and tokenise; done once.

        Raises:
            DataError: If the source cannot be read, or has nothing to train on or to hold out.
            ModelError: If the tokenizer cannot be loaded.
        """
        if self._train is not None:
            return
        train, held_out = self._read()
        tokenizer = load_tokenizer(self.tokenizer, self.trust_remote_code)
        self._pad_id = pad_id(tokenizer)
        self._held_out, self.held_out_samples = self._encode("held-out", held_out, tokenizer)
        self._train, self.train_samples = self._encode("training", train, tokenizer)

    @override
    def train_dataloader(self) -> StatefulDataLoader:
        data, (rank, world_size) = self._ready(self._train), self._rank()
        order = TrainOrder(data, self.seed, rank, world_size)
        if self.trainer is not None:
            # The number that Lightning sets itself, but on a resume only after workers have begun to fetch batches.
            order.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return StatefulDataLoader(
            data,
            batch_size=self.batch_size,
            sampler=order,
            collate_fn=RightPadding(self._pad_id),
            num_workers=self.num_workers,
        )

    @override
    def val_dataloader(self) -> DataLoader[EncodedSample]:
        data, (rank, world_size) = self._ready(self._held_out), self._rank()
        return DataLoader(
            data,
            batch_size=self.batch_size,
            sampler=HeldOutOrder(data, rank, world_size),
            collate_fn=RightPadding(self._pad_id),
            num_workers=self.num_workers,
        )

    @override
    def test_dataloader(self) -> DataLoader[EncodedSample]:
        """Return the held-out samples, the same as for validation."""
        return self.val_dataloader()

    @override
    def predict_dataloader(self) -> DataLoader[str]:
        """Return the prompts of the held-out samples, as text."""
        self._ready(self._held_out)
        prompts = [self.template.prompt(sample) for sample in self.held_out_samples]
        return DataLoader(prompts, batch_size=self.batch_size, collate_fn=list)  # type: ignore[arg-type]

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return what the order of the samples depends on, to notice on a resume that it is no longer the same."""
        return {
            "samples": len(self._ready(self._train)),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "ranks": self._rank()[1],
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the run goes on with the very order that it began with.

        Raises:
            DataError: If it does not.
        """
        now = self.state_dict()
        changed = [f"{name} {state_dict[name]} then, {now[name]} now" for name in now if state_dict[name] != now[name]]
        if changed:
            raise DataError(
                f"the checkpoint was made with other data options ({'; '.join(changed)}), so its run cannot go on "
                "where it stopped; give the same data.* options and devices as in its config.yaml"
            )

    def _read(self) -> tuple[Sequence[Sample], Sequence[Sample]]:
        if self.source == "toy":
            return _toy("train"), _toy("held_out")
        samples = read_alpaca(self.source)
        count = self.val_size if isinstance(self.val_size, int) else max(1, round(self.val_size * len(samples)))
        if count >= len(samples):
            raise DataError(
                f"data.val_size={self.val_size!r} holds out {count} of the {len(samples)} samples of {self.source}, "
                "which leaves none to train on; give a smaller data.val_size"
            )
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(samples)).tolist()
        # In the file's order, which is the one that a reader of the file looks for.
        return [samples[i] for i in sorted(order[count:])], [samples[i] for i in sorted(order[:count])]

    def _encode(self, name: str, samples: Sequence[Sample], tokenizer: Any) -> tuple[_Encoded, list[Sample]]:
        encoding = encode_samples(samples, tokenizer, self.template, self.max_length)
        if encoding.truncated or encoding.dropped:
            rank_zero_info(
                f"{name} data: of {len(samples)} samples, {encoding.truncated} were cut to {self.max_length} tokens "
                f"and {encoding.dropped} left out because their prompt alone fills them (data.max_length)"
            )
        if not encoding.samples:
            raise DataError(
                f"none of the {len(samples)} {name} samples of {self.source!r} has a token of its answer within "
                f"data.max_length={self.max_length}; raise it"
            )
        return _Encoded(encoding.samples), [samples[index] for index in encoding.kept]

    def _ready(self, data: _Encoded | None) -> _Encoded:
        if data is None:
            raise DataError("the data are not read yet: call setup('fit') first, or let the Trainer do it")
        return data

    def _rank(self) -> tuple[int, int]:
        """Return the data-parallel rank and the number of such ranks; (0, 1) without a Trainer or with one device."""
        kwargs = self.trainer.distributed_sampler_kwargs if self.trainer is not None else None
        return (kwargs["rank"], kwargs["num_replicas"]) if kwargs else (0, 1)


def _toy(split: Literal["train", "held_out"]) -> list[Sample]:
    return [Sample(**record) for record in toy_instructions(split)]
