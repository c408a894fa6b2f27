"""The parser and the parts of a run: model, data, noise, Trainer, built from configs and the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import LearningRateFinder, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from typing_extensions import override

from lightning_neft.callbacks.losses import CleanLoss, FiniteLoss
from lightning_neft.callbacks.model_folder import ModelFolder
from lightning_neft.callbacks.sample_answers import SampleAnswers
from lightning_neft.callbacks.signals import StopOnSignal
from lightning_neft.callbacks.step_checkpoint import StepCheckpoint
from lightning_neft.callbacks.step_seed import StepSeed
from lightning_neft.callbacks.token_rate import TokenRate
from lightning_neft.cli.config_files import (
    PARSER_MODE,
    expand_paths,
    last_recipe,
    make_local_classes_importable,
    resolve_configs,
    run_name,
)
from lightning_neft.cli.errors import explain_instantiation
from lightning_neft.cli.keys import LINKS, KnownKeys, check_keys
from lightning_neft.cli.loggers import accept_names, names_of, run_tags
from lightning_neft.cli.memory import MemoryEstimate
from lightning_neft.cli.precision import choose_precision
from lightning_neft.cli.program_options import NoiseOptions, check_values, read_whole_numbers_first
from lightning_neft.cli.progress_bar import PlainProgressBar, RunProgressBar
from lightning_neft.cli.run_block import RunBlock
from lightning_neft.cli.run_folder import RunFolder, SaveConfig, check_not_masked
from lightning_neft.cli.task import MODELS, check_monitors, logged_metrics, task_of
from lightning_neft.cli.tiny import say_what_is_tiny, with_tiny, without_flag
from lightning_neft.common.near_names import similar
from lightning_neft.common.paths import file_in_the_way, user_path
from lightning_neft.common.secrets import mask_addresses
from lightning_neft.data.batching.global_batch import GlobalBatch
from lightning_neft.data.module import TextData
from lightning_neft.data.options import Source
from lightning_neft.data.sources.source import local_files
from lightning_neft.data.tokenization import Task
from lightning_neft.errors import ConfigError
from lightning_neft.evaluation.result import InputFile
from lightning_neft.models.consistency import check_pairs
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.recipes.recipe import read_card_of_file
from lightning_neft.saving.checkpoints import AtomicCheckpointIO

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
    # The sanity check goes over all held-out samples: it gives the loss of the base model, the reference for the run.
    "num_sanity_val_steps": -1,
    "default_root_dir": "runs",
    # The program prints what is trained; Lightning's table lists the metrics too.
    "enable_model_summary": False,
}
_CHECKPOINT_DEFAULTS = {
    "checkpoint.monitor": "val/loss",
    "checkpoint.mode": "min",
    "checkpoint.filename": "best-{step}",
    "checkpoint.auto_insert_metric_name": False,
    "checkpoint.save_last": True,
}
# Sections that may be null as a whole, so that their keys are not among the parser's own.
_OPTIONAL_SECTIONS = {"neftune": NoiseOptions, "model.lora": LoraOptions}
_LISTS_OF_SECTIONS = {"data.sources": Source}


class Program(LightningCLI):
    """Parses the arguments of a verb and builds what it needs; `trainer`, `model` and `datamodule` are then ready.

    `run_folder` is where it writes, and is not made yet. `config_files` are the files of `--config`, in their order.
    `precision` is what was chosen where the options name none, else None. `accelerator` is that of a fit, also for a
    verb that stays on the CPU itself.

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
        # The precision of a verb without training is that of the device which a fit would take.
        self._is_without_training = tuple(args[-len(WITHOUT_TRAINING) :]) == WITHOUT_TRAINING
        if self._is_without_training:
            args = [*args[: -len(WITHOUT_TRAINING)], *ONLY_LOOKING]
        # Of a verb that only looks; the variables of a cluster, such as those of an interactive job, are not for it.
        self._is_alone = set(ONLY_LOOKING) <= set(args)
        args, self.config_files = resolve_configs(args)
        super().__init__(
            MODELS[task_of(args)],
            TextData,
            trainer_defaults=_TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_kwargs={
                "exit_on_error": False,
                "allow_abbrev": False,
                "prog": f"lightning_neft {verb}",
                "parser_mode": PARSER_MODE,
            },
            args=args,
            run=False,
            save_config_callback=SaveConfig,
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
            "--clean_loss",
            type=int,
            default=50,
            help="Interval in steps of measuring the loss without noise; 0: never.",
        )
        parser.add_argument(
            "--samples",
            type=int,
            default=3,
            help="Answers to validation prompts printed at each validation; 0: only at the end.",
        )
        parser.add_argument(
            "--global_batch_size",
            type=int | None,
            help="Rows per optimiser step over all devices; sets the gradient accumulation. data.batch_size is the "
            "maximum per device and batch.",
        )
        parser.add_argument("--card", type=dict | None, help="Card of a recipe; has no effect on the run.")
        parser.add_lightning_class_args(StepCheckpoint, "checkpoint")
        parser.set_defaults(_CHECKPOINT_DEFAULTS)
        parser.add_argument(
            "--name", type=str | None, help="Name of the run folder; default: the name of the last config."
        )
        parser.add_argument("--ckpt_path", type=str | None, help="Checkpoint to resume from: last, or a path.")
        for target, source in LINKS.items():
            parser.link_arguments(source, target)
        read_whole_numbers_first(parser)
        accept_names(parser)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        assert isinstance(args, list)
        check_keys(_known_keys(parser), args, self.config_files)
        make_local_classes_importable([*args, *(file.read_text(encoding="utf-8") for file in self.config_files)])
        for file in self.config_files:
            read_card_of_file(file)
        name = run_name(self.config_files)
        if self._is_tiny:
            name = f"{name}-tiny"
            # --print_config would end the program here, before there is anything tiny in it.
            before = parser.parse_args([argument for argument in args if not argument.startswith("--print_config")])
            args = with_tiny(args, before)
        self.config = parser.parse_args(args)
        expand_paths(self.config)
        if self._is_tiny:
            say_what_is_tiny(name, before, self.config)
        check_values(self.config)
        check_not_masked(self.config, without=("trainer.logger",) if self._is_alone else ())
        # Kept in the saved config, so that a run from there has the same name and precision.
        self.config.name = self.config.name or name
        if Path(self.config.name).is_absolute() or ".." in Path(self.config.name).parts:
            raise ConfigError(
                f"name {self.config.name!r} leads out of trainer.default_root_dir; give that, and a name without .."
            )
        if not self.config.name.isprintable():
            raise ConfigError(f"name {self.config.name!r} holds a character that cannot be shown; give another one")
        self.precision = choose_precision(self.config, self._existing_checkpoint())
        if self.precision is not None:
            self.config.trainer.precision = self.precision.precision
        self.accelerator: Any = self.config.trainer.accelerator
        if self._is_without_training:
            self.config.trainer.accelerator = "cpu"

    def _existing_checkpoint(self) -> Path | None:
        """Return the checkpoint of the command line if it is there; `checkpoint_of` reports what is wrong with it."""
        given, config = self.config.ckpt_path, self.config
        if not given:
            return None
        try:
            root = Path(config.trainer.default_root_dir or ".")
            path = (
                newest_checkpoint(root, config.name, config.checkpoint.dirpath)
                if given == "last"
                else user_path(given, "--ckpt_path")
            )
        except ConfigError:
            return None
        return path if path.exists() else None

    @override
    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except (TypeError, ValueError, RuntimeError, ImportError) as error:
            # Nothing but options has been looked at so far, and what a logger or a cluster needs.
            raise ConfigError(explain_instantiation(str(error))) from error
        recipe = last_recipe(self.config_files)
        if recipe is not None and self._is_tiny:
            recipe = f"{recipe}-tiny"
        self.model.recipe = recipe or self.config.name
        noise = self.config_init["neftune"]
        if noise is not None and noise.scope != "all" and self.datamodule.prompt_loss:
            raise ConfigError(
                f"neftune.scope={noise.scope} detects prompts by their masked labels, but data.prompt_loss="
                f"{self.datamodule.prompt_loss:g} trains on them; omit one of the two"
            )
        check_pairs(self.model.consistency, noise is not None and noise.antithetic)
        if self._is_without_training and self.config.global_batch_size is not None:
            # The batches are those that a fit has on one device.
            self.datamodule.batch_size = min(self.datamodule.batch_size, self.config.global_batch_size)

    @override
    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = {**self.config_init["trainer"].as_dict(), **kwargs}
        self.run_folder = RunFolder(str(config["default_root_dir"] or "."), self.config.name)
        self.save_config_kwargs = {"run_folder": self.run_folder}
        if self._is_alone:
            config["plugins"] = _without_cluster(config["plugins"])
        if (names := names_of(config["logger"])) is not None:
            sources = [one.source for one in self.datamodule.options.each]
            tags = run_tags(self.config, sources, last_recipe(self.config_files))
            config["logger"] = self.run_folder.loggers(names, tags)
        given = config["callbacks"] or []
        given = given if isinstance(given, list) else [given]
        if any(isinstance(item, LearningRateFinder) for item in given):
            raise ConfigError(
                "trainer.callbacks: the rate that LearningRateFinder finds would not reach the program's schedule. "
                "Remove it, and give the rate that you want as --model.learning_rate"
            )
        callbacks = [*self._callbacks(config)]
        if config["enable_progress_bar"] is not False and not any(isinstance(item, ProgressBar) for item in given):
            callbacks.append(RunProgressBar() if sys.stdout.isatty() else PlainProgressBar())
        for logger in config["logger"] if isinstance(config["logger"], list) else [config["logger"]]:
            if isinstance(logger, (CSVLogger, TensorBoardLogger)) and "://" in str(logger.save_dir):
                place = mask_addresses(str(logger.save_dir))
                raise ConfigError(f"{type(logger).__name__}: save_dir {place} is an address; give a folder")
        trainer = self._instantiate_trainer(config, callbacks)
        has_noise = self.config_init["neftune"] is not None
        everyone: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        sources = self.datamodule.options.validated_names
        check_monitors(everyone, logged_metrics(self.config.task, has_noise, sources))
        # Sharded checkpoints are folders, which other plugins write.
        if isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)) and not config["plugins"]:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    @property
    def input_paths(self) -> list[Path]:
        """The files that no output may replace: those of `--config` and of the data."""
        sources = self.datamodule.options.read_sources
        return [*self.config_files, *(path for source in sources for path in local_files(source))]

    def inputs(self) -> list[InputFile]:
        """Return what a result records of its inputs: the files of `--config`, and the sources that are one file each.

        Other data (bundled, from the hub, several files) are identified by the digest in `Prepared`.

        Raises:
            OSError: A file cannot be read.
        """
        inputs = [InputFile.read("config", path) for path in self.config_files]
        sources = [user_path(source, "data.source") for source in self.datamodule.options.read_sources]
        return [*inputs, *(InputFile.read("data", source) for source in sources if source.is_file())]

    def _callbacks(self, config: dict[str, Any]) -> Iterator[L.Callback]:
        # First, because others may draw random numbers.
        yield StepSeed()
        if self.config.global_batch_size is not None:
            yield GlobalBatch(self.config.global_batch_size)
        yield (memory := MemoryEstimate())
        yield RunBlock(self.run_folder, self.precision, memory)
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
        yield FiniteLoss()
        yield TokenRate()
        yield StopOnSignal()


def _without_cluster(plugins: Any) -> list[Any]:
    given = plugins if isinstance(plugins, list) else [] if plugins is None else [plugins]
    kept = [plugin for plugin in given if not isinstance(plugin, ClusterEnvironment)]
    return [*kept, LightningEnvironment()]


def _known_keys(parser: LightningArgumentParser) -> KnownKeys:
    leaves = [key for key in parser.get_defaults().keys() if not key.startswith("neftune.")]  # noqa: SIM118
    for section, options in _OPTIONAL_SECTIONS.items():
        leaves += [section, *(f"{section}.{field.name}" for field in fields(options))]
    for section, options in _LISTS_OF_SECTIONS.items():
        leaves += [f"{section}[].{field.name}" for field in fields(options)]
    return KnownKeys([key for key in leaves if key not in LINKS], LINKS)


def newest_checkpoint(root: Path, name: str, dirpath: str | None = None) -> Path:
    """Return the `last.ckpt` that was written last by a run of this name.

    Args:
        root: Folder of all runs.
        name: Of the run.
        dirpath: The checkpoint.dirpath of the command line, where its checkpoints are then.

    Raises:
        ConfigError: If there is none.
    """
    # With a number where other runs had written there.
    found = list(
        (root / name).glob("version_*/checkpoints/last.ckpt") if dirpath is None else Path(dirpath).glob("last*.ckpt")
    )
    if not found:
        where = f"{root / name}/version_*/checkpoints/last.ckpt" if dirpath is None else f"{dirpath}/last.ckpt"
        others = sorted({path.parents[2].relative_to(root).as_posix() for path in root.rglob("checkpoints/last.ckpt")})
        near = similar(name, others, cutoff=0.0)
        runs = f" (runs that have one: {', '.join(near)})" if near else ""
        raise ConfigError(f"--ckpt_path last: there is no {where}{runs}; start without it, or give a path or --name")
    return max(found, key=lambda path: path.stat().st_mtime)
