"""The options of verbs that ask a model: `--model`, or `--config` with the program's keys and `--ckpt_path`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from lightning_neft.cli.program import Program
    from lightning_neft.generation.answering import Answerer
    from lightning_neft.models.description import ModelFacts

__all__ = ["DTYPES", "add_model_options", "answerer_of", "trained_program"]

DTYPES = ("auto", "float32", "bfloat16", "float16")


def add_model_options(parser: VerbParser) -> None:
    """Add `--model`, `--template`, `--device`, `--dtype` and `--trust-remote-code`; the others are the program's."""
    parser.add_argument("--model")
    parser.add_argument("--template")
    parser.add_argument("--device")
    parser.add_argument("--dtype", choices=DTYPES)
    parser.add_argument("--trust-remote-code", action="store_true")


def answerer_of(verb: str, options: Namespace, rest: Sequence[str]) -> Answerer:
    """Load the model that a command line names.

    Args:
        verb: The verb, for messages.
        options: Those of `add_model_options`.
        rest: The program's options, without `--model`.

    Raises:
        ConfigError: If no model is named, or two, or an option is wrong.
        ModelError: If the model or the checkpoint cannot be loaded, or writes no text.
        DataError: If the data say which template is meant, and cannot be read.
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
    from lightning_neft.generation.sources import chosen_device, module_answerer

    chosen_device(options.device)  # before the weights are read
    program, facts, _ = trained_program(verb, options, rest)
    if facts.task == "sequence_classification":
        raise ConfigError(f"{verb}: the task sequence_classification writes no text")
    assert facts.template is not None
    name = f"{facts.recipe} ({program.config.ckpt_path or 'not trained'})"
    return module_answerer(program.model, facts.template, name=name, device=options.device)


def trained_program(
    verb: str, options: Namespace, rest: Sequence[str], *, without_quantization: bool = False
) -> tuple[Program, ModelFacts, Path | None]:
    """Build the model of a config as training did, with the weights of `--ckpt_path` if that is given.

    Args:
        verb: The verb, for messages.
        options: Those of `add_model_options`, or of them `template`, `dtype` and `trust_remote_code`.
        rest: The program's options.
        without_quantization: Whether a base in 4 bits is loaded in bfloat16 instead.

    Returns:
        The program, how the model was trained, and the checkpoint; None without one.

    Raises:
        ConfigError: If an option is wrong.
        ModelError: If the model or the checkpoint cannot be loaded.
        DataError: If the data say which template is meant, and cannot be read.
    """
    from dataclasses import replace

    from lightning_neft.cli.checkpoint_option import checkpoint_of
    from lightning_neft.cli.program import WITHOUT_TRAINING, Program
    from lightning_neft.data.prepare import template_of
    from lightning_neft.generation.sources import build_module
    from lightning_neft.models.description import ModelFacts
    from lightning_neft.saving.checkpoints import checkpoint_facts

    given = [f"--model.dtype={options.dtype}"] if options.dtype else []
    given += ["--model.trust_remote_code=true"] if options.trust_remote_code else []
    program = Program(verb, [*rest, *given, *WITHOUT_TRAINING])
    if without_quantization and program.model.quantization is not None:
        program.model.quantization, program.model.weights_dtype = None, options.dtype or "bfloat16"
    module, checkpoint = program.model, checkpoint_of(program, any_parts=True)
    facts = None if checkpoint is None else checkpoint_facts(checkpoint)
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
    if facts is None:
        facts = ModelFacts.of(module.description())
    return program, replace(facts, template=template), checkpoint
