"""The parser and the parts of a run: model, data, noise, Trainer, built from configs and the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.callbacks import LearningRateFinder, ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from typing_extensions import override

from lightning_neft.cli.config_files import last_recipe, resolve_configs, run_name
from lightning_neft.cli.keys import KnownKeys, check_keys
from lightning_neft.cli.noise_options import NoiseOptions
from lightning_neft.cli.run_folder import usual_loggers
from lightning_neft.cli.stop_signals import StopOnSignal
from lightning_neft.cli.task import MODELS, task_of
from lightning_neft.cli.tiny import say_what_is_tiny, with_tiny, without_flag
from lightning_neft.cli.whole_numbers import read_whole_numbers_first
from lightning_neft.data.batching.global_batch import GlobalBatch
from lightning_neft.data.module import TextData
from lightning_neft.data.tokenization import Task
from lightning_neft.errors import ConfigError
from lightning_neft.files import file_in_the_way
from lightning_neft.models.checkpoint_io import AtomicCheckpointIO
from lightning_neft.models.clean_probe import CleanLoss
from lightning_neft.models.lora import LoraOptions
from lightning_neft.models.model_folder import ModelFolder
from lightning_neft.models.samples import SampleAnswers
from lightning_neft.models.step_checkpoint import StepCheckpoint
from lightning_neft.models.step_seed import StepSeed
from lightning_neft.models.token_rate import TokenRate
from lightning_neft.zoo.recipe import read_card_of_file

__all__ = ["ONLY_LOOKING", "WITHOUT_TRAINING", "Program", "newest_checkpoint"]

# For verbs that only look at a model: on one device, and nothing is written or shown.
ONLY_LOOKING = (
    "--trainer.devices=1",
    "--trainer.num_nodes=1",
    "--trainer.strategy=auto",
    "--trainer.logger=false",
    "--trainer.enable_checkpointing=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)
# The same for those to which it does not matter what a run would need of machines: that need not be here.
WITHOUT_TRAINING = ("--trainer.accelerator=cpu", *ONLY_LOOKING)

# The paper's where it has one (epochs, clipping).
_TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": 3,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    # The sanity check goes over all held-out samples: it tells the loss of the base, against which the run is measured.
    "num_sanity_val_steps": -1,
    "default_root_dir": "runs",
}
_CHECKPOINT_DEFAULTS = {
    "checkpoint.monitor": "val/loss",
    "checkpoint.mode": "min",
    "checkpoint.filename": "best-{step}",
    "checkpoint.auto_insert_metric_name": False,
    "checkpoint.save_last": True,
}
# Taken from another key: the tokenizer is always the one of the model.
_LINKS = {
    "data.tokenizer": "model.base",
    "data.trust_remote_code": "model.trust_remote_code",
    "data.task": "task",
}
# The least that options may be which Lightning takes as they are, or whose mistake it tells without their name.
_LEAST = {
    "trainer.gradient_clip_val": 0,
    "trainer.accumulate_grad_batches": 1,
    "clean_loss": 0,
    "samples": 0,
    "seed_everything": 0,
}
# Sections that may be null as a whole, so that their keys are not among the parser's own.
_OPTIONAL_SECTIONS = {"neftune": NoiseOptions, "model.lora": LoraOptions}


class Program(LightningCLI):
    """Parses the arguments of a verb and builds what it needs; `trainer`, `model` and `datamodule` are then ready.

    `config_files` are the files of `--config`, in their order.

    Args:
        verb: The verb, for the help text.
        args: The command line after it.

    Raises:
        ConfigError: If a key or value is wrong, or a file is missing.
        argparse.ArgumentError: If a value has the wrong type.
        SystemExit: After `--help` and `--print_config`.
    """

    def __init__(self, verb: str, args: Sequence[str]) -> None:
        args, self._is_tiny = without_flag(args)
        args, self.config_files = resolve_configs(args)
        super().__init__(
            MODELS[task_of(args)],
            TextData,
            trainer_defaults=_TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False, "allow_abbrev": False, "prog": f"lightning_neft {verb}"},
            args=args,
            run=False,
            save_config_callback=_SaveConfig,
            # Loggers other than the usual ones have one folder for all runs.
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            # Options in a checkpoint would silently win over those of the command line.
            load_from_checkpoint_support=False,
        )

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--neftune",
            type=NoiseOptions | None,
            default=NoiseOptions(),
            help="Noise on the embeddings; null turns it off.",
        )
        parser.add_argument("--task", type=Task, default="causal_lm", help="What the model learns.")
        parser.add_argument(
            "--clean_loss", type=int, default=50, help="Measure the loss without noise every so many steps; 0: never."
        )
        parser.add_argument(
            "--samples", type=int, default=3, help="Answers to held-out prompts at each validation; 0: none."
        )
        parser.add_argument(
            "--global_batch_size",
            type=int | None,
            help="Rows of an optimiser step over all devices: sets accumulation, and data.batch_size is the most that "
            "a device takes at a time.",
        )
        parser.add_argument("--card", type=dict | None, help="What a recipe says about itself; changes nothing.")
        parser.add_lightning_class_args(StepCheckpoint, "checkpoint")
        parser.set_defaults(_CHECKPOINT_DEFAULTS)
        parser.add_argument(
            "--name", type=str | None, help="Folder of the run; the name of the last config by default."
        )
        parser.add_argument("--ckpt_path", type=str | None, help="Checkpoint to go on from: last, or a path.")
        for target, source in _LINKS.items():
            parser.link_arguments(source, target)
        read_whole_numbers_first(parser)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        assert isinstance(args, list)
        check_keys(_known_keys(parser), args, self.config_files)
        for file in self.config_files:
            read_card_of_file(file)
        name = run_name(self.config_files)
        if self._is_tiny:
            name = f"{name}-tiny"
            # --print_config would end the program here, before there is anything tiny in it.
            before = parser.parse_args([argument for argument in args if not argument.startswith("--print_config")])
            args = with_tiny(args, before)
        self.config = parser.parse_args(args)
        if self._is_tiny:
            say_what_is_tiny(name, before, self.config)
        _check_least(self.config)
        # Kept in the saved config, so that a run from there has the same name.
        self.config.name = self.config.name or name
        if Path(self.config.name).is_absolute() or ".." in Path(self.config.name).parts:
            raise ConfigError(
                f"name {self.config.name!r} leads out of trainer.default_root_dir; give that, and a name without .."
            )

    @override
    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except (TypeError, ValueError) as error:
            # Nothing but options has been looked at so far.
            raise ConfigError(str(error)) from error
        recipe = last_recipe(self.config_files)
        if recipe is not None and self._is_tiny:
            recipe = f"{recipe}-tiny"
        self.model.recipe = recipe or self.config.name
        noise = self.config_init["neftune"]
        if noise is not None and noise.scope != "all" and self.datamodule.prompt_loss:
            raise ConfigError(
                f"neftune.scope={noise.scope} tells prompts by their missing labels, which data.prompt_loss="
                f"{self.datamodule.prompt_loss:g} gives them; leave one of the two away"
            )

    @override
    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = {**self.config_init["trainer"].as_dict(), **kwargs}
        if config["logger"] is None or config["logger"] is True:
            config["logger"] = [*usual_loggers(config["default_root_dir"], self.config.name)]
        given = config["callbacks"] or []
        given = given if isinstance(given, list) else [given]
        if any(isinstance(item, LearningRateFinder) for item in given):
            raise ConfigError(
                "trainer.callbacks: the rate that LearningRateFinder finds would not reach the program's schedule. "
                "Remove it, and give the rate that you want as --model.learning_rate"
            )
        callbacks = [*self._callbacks(config)]
        if config["enable_progress_bar"] is not False and not any(isinstance(item, ProgressBar) for item in given):
            # A file or a pipe gets few lines.
            callbacks.append(RichProgressBar() if sys.stdout.isatty() else TQDMProgressBar(refresh_rate=50))
        trainer = self._instantiate_trainer(config, callbacks)
        # Sharded checkpoints are folders, which other plugins write.
        if isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)) and not config["plugins"]:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    def _callbacks(self, config: dict[str, Any]) -> Iterator[L.Callback]:
        # First, because others may draw random numbers.
        yield StepSeed()
        if self.config.global_batch_size is not None:
            yield GlobalBatch(self.config.global_batch_size)
        if config["enable_checkpointing"] is not False:
            checkpoint = self.config_init["checkpoint"]
            if checkpoint.dirpath and (file := file_in_the_way(Path(checkpoint.dirpath))):
                raise ConfigError(f"checkpoint.dirpath {checkpoint.dirpath}: {file} is a file; give another folder")
            yield checkpoint
            yield ModelFolder()
        if (noise := self.config_init["neftune"]) is not None:
            yield noise.callback()
            if self.config.clean_loss > 0:
                yield CleanLoss(self.config.clean_loss)
        if self.config.samples > 0 and self.config.task != "sequence_classification":
            yield SampleAnswers(count=self.config.samples)
        yield TokenRate()
        yield StopOnSignal()


class _SaveConfig(SaveConfigCallback):
    """Writes the config into the folder of a run. Without a logger there is no such folder, and nothing is written."""

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)


def _known_keys(parser: LightningArgumentParser) -> KnownKeys:
    leaves = [key for key in parser.get_defaults().keys() if not key.startswith("neftune.")]  # noqa: SIM118
    for section, options in _OPTIONAL_SECTIONS.items():
        leaves += [section, *(f"{section}.{field.name}" for field in fields(options))]
    return KnownKeys([key for key in leaves if key not in _LINKS], _LINKS)


def _check_least(config: Namespace) -> None:
    values = {key: config.get(key) for key in _LEAST}
    for key, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not value >= _LEAST[key]:
            raise ConfigError(f"{key} must be {_LEAST[key]} or more, got {value!r}")


def newest_checkpoint(root: Path, name: str) -> Path:
    """Return the `last.ckpt` that was written last by a run of this name.

    Raises:
        ConfigError: If there is none.
    """
    found = list((root / name).glob("version_*/checkpoints/last.ckpt"))
    if not found:
        others = sorted({path.parents[2].relative_to(root).as_posix() for path in root.rglob("checkpoints/last.ckpt")})
        near = get_close_matches(name, others, n=3, cutoff=0.0)
        runs = f" (runs that have one: {', '.join(near)})" if near else ""
        raise ConfigError(
            f"--ckpt_path last: there is no {root / name}/version_*/checkpoints/last.ckpt{runs}; "
            "start without it, or give a path or --name"
        )
    return max(found, key=lambda path: path.stat().st_mtime)
