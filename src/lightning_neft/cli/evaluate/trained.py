"""A config's model with the weights of its checkpoint, and its data, for the kinds that evaluate a trained model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_neft.callbacks.signals import ctrl_c_raises
from lightning_neft.cli.model_options import checkpoint_of
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import ONLY_LOOKING, Program
from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.plan import BatchPlan, PlannedSamples
from lightning_neft.data.module import TextData
from lightning_neft.evaluation.result import InputFile, provenance
from lightning_neft.hub.tokenizer import pad_id
from lightning_neft.models.finetuner import FineTuner

__all__ = ["TrainedProgram"]

_T = TypeVar("_T")
# Options of the validation that the work runs in.
_ONE_BATCH = ("--trainer.limit_val_batches=1", "--samples=0")


class TrainedProgram:
    """Reads a command line as fit does, and the data.

    Args:
        args: The options of a fit: --config, --ckpt_path and others.

    Attributes:
        module: The model; its weights are loaded in `within`.
        data: The data.
        files: The files that it reads: configs and data.
        label: Name of the run, marked as not trained if there is no checkpoint.

    Raises:
        ConfigError: An option is wrong or missing.
        DataError: The data cannot be read.
    """

    def __init__(self, args: Sequence[str]) -> None:
        with quiet():
            self._program = Program("evaluate", [*args, *ONLY_LOOKING, *_ONE_BATCH])
            self.checkpoint: Path | None = checkpoint_of(self._program)
            self.module: FineTuner = self._program.model
            self.data: TextData = self._program.datamodule
            self.files = self._program.input_paths
            self.data.setup("validate")
        name: str = self._program.config.name
        self.label = f"{name} (not trained)" if self.checkpoint is None else name

    def within(self, work: Callable[[], _T]) -> _T:
        """Run some work with the weights loaded, on the device and in the precision of the config; return its result.

        It runs in a validation of the Trainer, which loads the weights, over one training sample.

        Raises:
            ModelError: The weights cannot be loaded.
        """
        trainer, prepared = self._program.trainer, self.data.prepared
        collator = Collator(pad_id(prepared.tokenizer), self.data.options.task, "random")
        one = DataLoader(
            PlannedSamples(prepared.train),
            batch_size=None,
            sampler=[BatchPlan(((0,),))],
            collate_fn=collator,  # type: ignore[arg-type]
        )
        # Usually the model gets them from the data module.
        self.module.special_tokens = self.data.special_tokens
        call = _Within(work)
        trainer.callbacks.append(call)  # type: ignore[attr-defined]
        with quiet(), ctrl_c_raises(), warnings.catch_warnings():
            # Nothing is resumed here, so the states of callbacks in the checkpoint are not needed.
            warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`")
            # weights_only: an untrusted checkpoint must not run code.
            trainer.validate(self.module, one, ckpt_path=self.checkpoint, verbose=False, weights_only=True)
        found: _T = call.found
        return found

    def provenance(self, settings: Mapping[str, Any], seed: int, *inputs_too: InputFile) -> dict[str, Any]:
        """Return the provenance of a result: config, data, checkpoint, and the options that affect it."""
        config, options = self._program.config, self.data.options
        inputs = [*self._program.inputs(), *inputs_too]
        if self.checkpoint is not None and self.checkpoint.is_file():
            inputs.append(InputFile.read("checkpoint", self.checkpoint))
        of_config = {
            "base": self.module.base,
            "source": options.source,
            "data_digest": self.data.prepared.digest,
            "task": options.task,
            "template": self.data.prepared.template.name,
            "max_length": options.max_length,
            "precision": config.trainer.precision,
            "alpha": None if config.neftune is None else config.neftune.alpha,
        }
        return provenance(inputs, {**of_config, **settings}, seed)


class _Within(L.Callback):
    """Runs some work once the weights are loaded."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.found: Any = None

    @override
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with trainer.precision_plugin.val_step_context():
            self.found = self._work()
