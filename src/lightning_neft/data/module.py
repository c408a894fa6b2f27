"""`TextData`: from a source in any format to batches, with a validation set and exact resume."""

from __future__ import annotations

import os
from functools import cached_property
from itertools import chain
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader
from typing_extensions import override

from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.order import HeldOutOrder, RepeatedOrder, TrainOrder
from lightning_neft.data.batching.plan import Batching, BatchPlan, PlannedSamples, trained_weights
from lightning_neft.data.mixture import MixStrategy, Mixture, StoppingStrategy
from lightning_neft.data.options import Source, data_options
from lightning_neft.data.prepare import prepare
from lightning_neft.data.prepared import Prepared
from lightning_neft.data.prompts import asked, prompt_ids
from lightning_neft.data.streaming import StreamedBatches, StreamedLoader, check_options, micro_batch_limit
from lightning_neft.data.token_store import TokenStore
from lightning_neft.data.tokenization import Task, check_prompt_loss
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.hub.tokenizer import pad_id, stops

__all__ = ["TextData"]


class TextData(L.LightningDataModule):
    """Samples to fine-tune on, tokenised once and stored on disk, in batches with the loss on the answers.

    Args:
        source: `toy` for the bundled data (the default), a file (JSON, JSON Lines, CSV, TSV, Parquet; also gzipped), a
            glob pattern in quotation marks, a folder that `datasets` saved, a name of the catalogue, or a hub dataset
            (owner/name).
        tokenizer: Base model whose tokenizer is used.
        task: `causal_lm`, `seq2seq_lm` or `sequence_classification`.
        trust_remote_code: Whether the tokenizer's own code may run.
        split: Split of the source to train on; train by default.
        subset: Subset (configuration) of a hub dataset.
        revision: Branch, tag or commit of a hub dataset.
        format: Data format, such as alpaca, sharegpt or messages, or the import path of a custom class, such as
            my_module.MyFormat; detected from the column names by default.
        columns: The source's column for some of the format's own, such as `{output: answer}`.
        template: Template, such as alpaca, vicuna or chatml; tokenizer for its own chat template; or a Jinja file with
            a chat template (my.jinja). The default is that of the format.
        max_length: Maximum tokens of a sample; longer ones are truncated. For seq2seq of the encoder.
        max_target_length: Maximum tokens of a seq2seq target; as max_length by default.
        cut_conversations: Cut longer conversations into pieces of whole exchanges, as the paper did with ShareGPT; by
            default only for catalogue entries that set it.
        prompt_loss: Weight of a prompt token in the loss, where an answer token weighs 1.
        batch_size: Rows in a batch of one device.
        batching: `length_grouped` (rows of similar length in a batch), `random`, `packed` (several samples in a row of
            at most max_length tokens, without attention between them) or `flat` (packed, with all rows joined into one
            without padding, for variable-length attention such as flash_attention_2).
        val_size: Size of the validation set, of each source: a count, a share between 0 and 1 (0.05 by default), or 0
            for none. The toy data have a held-out split.
        val_split: Split of the source to validate on instead, or of val_source.
        val_source: A separate source to validate on, as for source; rendered like the training data. Excludes val_size.
        strict: Whether a sample without a token to train on is an error; by default such samples are dropped and
            counted.
        cache_dir: Folder of the tokens; by default in the cache of `datasets`.
        seed: Seed of the order; by default that of seed_everything, or 0. The validation set does not depend on it.
        num_workers: Processes that load data. Samples are tokenised beforehand, so 0 is fast.
        streaming: Read and tokenise the training data block by block while training, for datasets that are too large to
            tokenise up front. Each process reads all of them. Needs trainer.max_steps, random or length_grouped batches
            and num_workers 0 or 1. The validation set is the first val_size records, val_split or val_source.
        sources: Several sources to mix, instead of source: each with its source, and a weight or a number of samples,
            template, format, columns, split, subset and revision of its own. The draw is made once with the seed;
            each epoch has the same samples in a new order.
        mix_strategy: `interleave`, by the weights or in turn without them; or `concatenate`: all samples of each.
            By default interleave if there are weights.
        stopping_strategy: When an interleaved epoch ends, as in datasets.interleave_datasets: `first_exhausted` (the
            default), `all_exhausted`, which repeats samples, or `all_exhausted_without_replacement`.

    Raises:
        ConfigError: If a number is out of range, or options cannot be combined.
    """

    def __init__(
        self,
        source: str | None = None,
        tokenizer: str = "tiny",
        task: Task = "causal_lm",
        trust_remote_code: bool = False,
        split: str | None = None,
        subset: str | None = None,
        revision: str | None = None,
        format: str | None = None,
        columns: dict[str, str] | None = None,
        template: str | None = None,
        max_length: int = 512,
        max_target_length: int | None = None,
        cut_conversations: bool | None = None,
        prompt_loss: float = 0.0,
        batch_size: int = 16,
        batching: Batching = "length_grouped",
        val_size: int | float | None = None,
        val_split: str | None = None,
        val_source: str | None = None,
        strict: bool = False,
        cache_dir: str | None = None,
        seed: int | None = None,
        num_workers: int = 0,
        streaming: bool = False,
        sources: list[Source] | None = None,
        mix_strategy: MixStrategy | None = None,
        stopping_strategy: StoppingStrategy | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("max_length", max_length, 2),
            ("max_target_length", max_target_length, 1),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            if value is not None and value < least:
                raise ConfigError(f"data.{name} must be {least} or more, got {value!r}")
        if val_size is not None and not (0 <= val_size < 1 or (isinstance(val_size, int) and val_size >= 1)):
            raise ConfigError(
                f"data.val_size must be a count of samples, a share between 0 and 1, or 0 for none, got {val_size!r}"
            )
        if not 0 <= prompt_loss <= 1:
            raise ConfigError(f"data.prompt_loss must be between 0 and 1, got {prompt_loss!r}")
        if task != "causal_lm" and (batching in ("packed", "flat") or prompt_loss):
            what = f"batching={batching}" if batching in ("packed", "flat") else f"prompt_loss={prompt_loss}"
            raise ConfigError(f"data.{what} is for the task causal_lm, got {task}; omit it")
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed
        self.options = data_options(
            source=source,
            sources=sources,
            mix_strategy=mix_strategy,
            stopping_strategy=stopping_strategy,
            seed=self.seed,
            template=template,
            cut_conversations=cut_conversations,
            val_size=val_size,
            val_split=val_split,
            val_source=val_source,
            of_source={
                "split": split,
                "subset": subset,
                "revision": revision,
                "format": format,
                "columns": columns,
            },
            tokenizer=tokenizer,
            trust_remote_code=trust_remote_code,
            task=task,
            max_length=max_length,
            max_target_length=max_target_length,
            strict=strict,
            cache_dir=cache_dir,
            streaming=streaming,
        )
        if streaming:
            check_options(task, batching, num_workers, self.options.val_size)
        self.prompt_loss = prompt_loss
        self.batch_size = batch_size
        self.batching: Batching = batching
        self.num_workers = num_workers
        self._prepared: Prepared | None = None

    @override
    def prepare_data(self) -> None:
        """Read and tokenise in one process of each machine; the others read the tokens from disk.

        Raises:
            DataError: If the source cannot be read, or has no sample to train on or to validate on.
            ModelError: If the tokenizer cannot be loaded.
        """
        if self._prepared is None:
            self._prepared = prepare(self.options)
            for notice in self._prepared.notices:
                rank_zero_info(notice)

    @override
    def setup(self, stage: str) -> None:
        """Open the tokens, or make them if `prepare_data` was not called.

        Raises:
            ConfigError: If a stream is combined with trainer.overfit_batches, or lacks trainer.max_steps, or if
                prompt_loss would train on answers that the data mark as untrained.
        """
        if self.options.streaming and stage == "fit" and self.trainer is not None and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            raise ConfigError(
                f"trainer.overfit_batches={self.trainer.overfit_batches} repeats the same batches, which a stream does "  # type: ignore[attr-defined]
                "not keep; set data.streaming false"
            )
        if self.options.streaming and stage == "fit" and self.trainer is not None and self.trainer.max_steps == -1:
            raise ConfigError(
                "data.streaming: the length of an epoch, which the learning rate schedule needs, is unknown; give "
                "trainer.max_steps"
            )
        if self._prepared is None:
            self._prepared = prepare(self.options)
        if self._prepared.stream is not None:
            self._prepared.stream.prompt_loss = self.prompt_loss
        else:
            check_prompt_loss(self.prompt_loss, self._prepared.train.marked)

    @property
    def prepared(self) -> Prepared:
        """The prepared data.

        Raises:
            DataError: Before `setup`.
        """
        if self._prepared is None:
            raise DataError("the data are not read yet; call setup('fit') first, or let the Trainer do it")
        return self._prepared

    @property
    def label_names(self) -> list[str | int]:
        """The classes, in the order of their indices; empty for other tasks."""
        return self.prepared.label_names

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Tokens of the template that the base's tokenizer lacks."""
        return self.prepared.special_tokens

    @property
    def longest_sample(self) -> int:
        """Tokens of the longest sample that the model reads or writes; the maximum length for a stream."""
        stores = [store for store in (self.prepared.stored, self.prepared.held_out) if store is not None]
        longest = [int(store.lengths.max()) for store in stores]
        if self.options.task == "seq2seq_lm":
            longest += [int(store.trained.max()) for store in stores]
        return self.options.max_length if self.prepared.stream is not None else max(longest)

    @cached_property
    def stop_ids(self) -> list[int]:
        """Tokens that end an answer, besides the end token."""
        texts = [self.prepared.template.stop, *(one.template.stop for one in self.prepared.sources)]
        return stops(self.prepared.tokenizer, dict.fromkeys(chain.from_iterable(texts)))[0]

    @property
    def held_out_names(self) -> list[str]:
        """Names of the sources by whose number validation batches give each row's; none without a mixture."""
        return [] if self._prepared is None else [one.name for one in self._prepared.held_out_sources]

    def train_order(
        self, rank: int = 0, world_size: int = 1, accumulate: int = 1, limit: int | float = 1.0
    ) -> TrainOrder:
        """Return the order of the training batches; see `TrainOrder`. With overfit_batches the first epoch repeats."""
        train = self.prepared.train
        weights = trained_weights(
            self.options.task,
            train.lengths,
            train.trained,
            prompt_loss=self.prompt_loss,
        )
        is_overfit = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        return (RepeatedOrder if is_overfit else TrainOrder)(
            train.lengths,
            weights,
            batching=self.batching,
            batch_size=self.batch_size,
            max_length=self.options.max_length,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            accumulate=accumulate,
            limit_batches=limit,
        )

    @override
    def train_dataloader(self) -> StatefulDataLoader | StreamedLoader:
        trainer = self.trainer
        if trainer is not None:
            _check_trainer(trainer)
        collator = Collator(self._pad_id, self.options.task, self.batching, self.prompt_loss)
        accumulate = 1 if trainer is None else trainer.accumulate_grad_batches
        limit = 1.0 if trainer is None or trainer.limit_train_batches is None else trainer.limit_train_batches
        rank, world_size = self._rank()
        if self.prepared.stream is not None:
            batches = StreamedBatches(
                self.prepared.stream,
                task=self.options.task,
                prompt_loss=self.prompt_loss,
                batching=self.batching,
                batch_size=self.batch_size,
                seed=self.seed,
                rank=rank,
                world_size=world_size,
                accumulate=accumulate,
                limit=micro_batch_limit(limit),
            )
            return StreamedLoader(batches, collator, self.num_workers, trainer)
        order = self.train_order(rank, world_size, accumulate, limit)
        if trainer is not None:
            # Lightning sets the same number, but on a resume only after workers have begun to fetch batches.
            order.set_epoch(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return StatefulDataLoader(
            PlannedSamples(self.prepared.train),
            batch_size=None,
            sampler=order,
            collate_fn=collator,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    @override
    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        held_out = self.prepared.held_out
        if held_out is None:
            return []
        return DataLoader(
            PlannedSamples(held_out, held_out.sources if isinstance(held_out, Mixture) else None),
            batch_size=None,
            sampler=HeldOutOrder(held_out.lengths, self.batch_size, *self._rank()),
            collate_fn=Collator(self._pad_id, self.options.task, "random"),  # type: ignore[arg-type]
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    @override
    def test_dataloader(self) -> DataLoader[Any]:
        """Return the held-out samples, the same as for validation."""
        self._held_out()
        return self.val_dataloader()  # type: ignore[return-value]

    @override
    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the prompt ids of each held-out sample in order, or padded texts to classify."""
        held_out = self._held_out()
        if self.options.task == "sequence_classification":
            collate = Collator(self._pad_id, self.options.task, "random")
            rows = [(index,) for index in range(len(held_out))]
            starts = range(0, len(rows), self.batch_size)
            plans = [BatchPlan(tuple(rows[start : start + self.batch_size])) for start in starts]
            return DataLoader(PlannedSamples(held_out), batch_size=None, sampler=plans, collate_fn=collate)  # type: ignore[arg-type]
        prompts = prompt_ids(self.prepared, self.options.task, len(held_out))
        return DataLoader(prompts, batch_size=self.batch_size, collate_fn=list)  # type: ignore[arg-type]

    def sample_prompts(self, count: int) -> list[tuple[str, list[int], str]]:
        """Return the question as text, the prompt ids and the reference of the first held-out samples."""
        held_out = self.prepared.held_out
        if held_out is None:
            return []
        texts = [asked(sample) for sample in held_out.samples[:count]]
        ids = prompt_ids(self.prepared, self.options.task, count)
        return [(text, prompt, answer) for (text, answer), prompt in zip(texts, ids, strict=True)]

    def _held_out(self) -> TokenStore | Mixture:
        if self.prepared.held_out is None:
            raise ConfigError("there is no validation set; give data.val_size or data.val_split")
        return self.prepared.held_out

    @property
    def _pad_id(self) -> int:
        return pad_id(self.prepared.tokenizer)

    def _rank(self) -> tuple[int, int]:
        """Return the data-parallel rank and the number of these ranks; (0, 1) without a Trainer or with one device."""
        kwargs = self.trainer.distributed_sampler_kwargs if self.trainer is not None else None
        return (kwargs["rank"], kwargs["num_replicas"]) if kwargs else (0, 1)


def _check_trainer(trainer: L.Trainer) -> None:
    """Refuse callbacks that would make the loss wrong without an error."""
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise ConfigError(
            "GradientAccumulationScheduler changes the number of micro-batches of a step, by which the loss is "
            "normalised; use a constant trainer.accumulate_grad_batches"
        )
