"""The options that name a model: `--model`, or the program's own with `--ckpt_path`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from lightning_neft.cli.program import Program
    from lightning_neft.generation.answering import Answerer
    from lightning_neft.models.description import ModelDescription

__all__ = ["DTYPES", "add_model_options", "answerer_of", "checkpoint_of", "trained_program"]

DTYPES = ("auto", "float32", "bfloat16", "float16")
# A sharded checkpoint has one of these files: PyTorch's or DeepSpeed's.
_SHARDED = (".metadata", "checkpoint")
# Lightning looks these up in the memory of the process that trained.
_KEYWORDS = ("best", "hpc", "registry")
# Lightning cannot read a checkpoint without these entries,
_ENTRIES = ("state_dict", "pytorch-lightning_version")
# and omits these with save_weights_only.
_TO_RESUME = ("optimizer_states", "lr_schedulers", "callbacks")


def add_model_options(parser: VerbParser) -> None:
    """Add `--model`, `--template`, `--device`, `--dtype` and `--trust-remote-code`; the others are the program's."""
    for name in ("--model", "--template", "--device"):
        parser.add_argument(name)
    parser.add_argument("--dtype", choices=DTYPES)
    parser.add_argument("--trust-remote-code", action="store_true")


def answerer_of(verb: str, options: Namespace, rest: Sequence[str]) -> Answerer:
    """Load the model that a command line names.

    Args:
        verb: The verb, for messages.
        options: Those of `add_model_options`.
        rest: The program's options, without `--model`.

    Raises:
        ConfigError: If no model or two models are named, or an option is wrong.
        ModelError: If the model or the checkpoint cannot be loaded, or generates no text.
        DataError: If the template depends on the data, and they cannot be read.
    """
    if options.model is not None:
        if rest:
            raise ConfigError(f"{verb}: {rest[0]} cannot be combined with --model; omit it, or give --config instead")
        from lightning_neft.generation.sources import open_answerer

        return open_answerer(
            options.model,
            template=options.template,
            device=options.device,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
        )
    if not rest:
        raise ConfigError(
            f"{verb} needs a model: --model FOLDER_OR_HUB_ID, or --config FILE_OR_RECIPE with --ckpt_path last "
            f"(lightning_neft {verb} --help)"
        )
    from lightning_neft.generation.sources import chosen_device, local_source, module_answerer

    chosen_device(options.device)  # before the weights are read
    program, facts, checkpoint = trained_program(verb, options, rest)
    if facts.task == "sequence_classification":
        raise ConfigError(f"{verb}: a classifier (task: sequence_classification) generates no text")
    assert facts.template is not None
    name = f"{facts.recipe} ({program.config.ckpt_path or 'not trained'})"
    source = checkpoint or local_source(program.model.base)
    return module_answerer(program.model, facts.template, name=name, source=source, device=options.device)


def trained_program(
    verb: str, options: Namespace, rest: Sequence[str], *, without_quantization: bool = False
) -> tuple[Program, ModelDescription, Path | None]:
    """Build the model of a config as in training, with the weights of `--ckpt_path` if it is given.

    Args:
        verb: The verb, for messages.
        options: Namespace with `template`, `dtype` and `trust_remote_code`.
        rest: The program's options.
        without_quantization: Whether a 4-bit base is loaded in bfloat16 instead.

    Returns:
        The program, how the model was trained, and the checkpoint; None without one.

    Raises:
        ConfigError: If an option is wrong.
        ModelError: If the model or the checkpoint cannot be loaded.
        DataError: If the template depends on the data, and they cannot be read.
    """
    from dataclasses import replace

    from lightning_neft.cli.program import WITHOUT_TRAINING, Program
    from lightning_neft.data.rendering import template_of
    from lightning_neft.generation.sources import build_module
    from lightning_neft.models.description import ModelDescription
    from lightning_neft.saving.checkpoints import checkpoint_description

    given = [f"--model.dtype={options.dtype}"] if options.dtype else []
    given += ["--model.trust_remote_code=true"] if options.trust_remote_code else []
    program = Program(verb, [*rest, *given, *WITHOUT_TRAINING])
    if without_quantization and program.model.quantization is not None:
        program.model.quantization, program.model.weights_dtype = None, options.dtype or "bfloat16"
    module, checkpoint = program.model, checkpoint_of(program, any_strategy=True)
    facts = None if checkpoint is None else checkpoint_description(checkpoint)
    template = options.template or (facts.template if facts else None)
    if facts is not None and facts.labels:
        module.label_names = facts.labels
    elif program.config.task == "sequence_classification" and module.num_labels is None:
        program.datamodule.setup("fit")
        module.label_names = [str(name) for name in program.datamodule.label_names]
    if template is None and program.config.task != "sequence_classification":
        template = template_of(program.datamodule.options, module.tokenizer()).name
    with program.trainer.precision_plugin.module_init_context():
        build_module(module, template, checkpoint)
    return program, replace(facts or ModelDescription.of(module.description()), template=template), checkpoint


def checkpoint_of(program: Program, any_strategy: bool = False, resumes: bool = False) -> Path | None:
    """Return the checkpoint that `--ckpt_path` names; None without the option.

    Args:
        program: The parsed command line and its Trainer.
        any_strategy: Whether a sharded checkpoint is accepted that the Trainer's strategy cannot read.
        resumes: Whether a fit resumes from it, for which weights alone are not enough.

    Raises:
        ConfigError: If it does not exist, or is not a checkpoint.
    """
    from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

    from lightning_neft.cli.program import newest_checkpoint

    given, config, strategy = program.config.ckpt_path, program.config, program.trainer.strategy
    place = Path(program.trainer.default_root_dir), config.name, config.checkpoint.dirpath
    if given is None:
        return None
    if not given:
        raise ConfigError("--ckpt_path needs a value: a path, or last")
    path = newest_checkpoint(*place) if given == "last" else user_path(given, "--ckpt_path")
    if not path.exists():
        others: list[Path] = []
        if given in _KEYWORDS:
            with suppress(ConfigError):  # there is no run of this name
                others = sorted(newest_checkpoint(*place).parent.glob("*.ckpt"))
        hint = f"; its run has {', '.join(map(str, others))}" if others else ""
        raise ConfigError(f"--ckpt_path {given}: no such file (looked in {Path.cwd()}); give a path, or last{hint}")
    if not path.is_dir():
        _check_entries(path, resumes)
    elif not any((path / name).exists() for name in _SHARDED):
        raise ConfigError(f"--ckpt_path {given} is a folder, but not a sharded checkpoint; give a file in it")
    elif not any_strategy and not isinstance(strategy, (ModelParallelStrategy, FSDPStrategy, DeepSpeedStrategy)):
        raise ConfigError(
            f"--ckpt_path {path} is a sharded checkpoint, which {type(strategy).__name__} cannot read; give the "
            "trainer.strategy and trainer.devices of its config.yaml"
        )
    return path


def _check_entries(path: Path, resumes: bool) -> None:
    import torch

    from lightning_neft.saving.checkpoints import checkpoint_entries

    try:
        found = checkpoint_entries(path)
    except ModelError as error:
        raise ConfigError(f"--ckpt_path {error}") from error
    if lacking := [name for name in _ENTRIES if name not in found]:
        raise ConfigError(f"--ckpt_path {path} is not a checkpoint of Lightning: it has no {lacking[0]}")
    weights = found["state_dict"]
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ConfigError(f"--ckpt_path {path} is not a checkpoint: its state_dict holds other values than tensors")
    if resumes and (lacking := [name for name in _TO_RESUME if name not in found]):
        raise ConfigError(
            f"--ckpt_path {path} holds only weights (it has no {lacking[0]}, as with checkpoint.save_weights_only): "
            "a fit cannot resume from it; write a model folder with lightning_neft export, and give that as model.base"
        )
