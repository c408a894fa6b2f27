"""The verb doctor: where noise is applied on a model, and how strong it is there; nothing is trained."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.common.near_names import nearest
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from lightning_neft.cli.program import Program
    from lightning_neft.doctor.report import DoctorReport
    from lightning_neft.noise.injector import EmbeddingNoise

__all__ = ["run"]

# The length of a sample in the paper's experiments.
_LONG = 512
_APPLIED, _NOT_APPLIED = 0, 1
# Eager attention needs no package and no GPU; nothing after the start of the first block runs anyway.
_EAGER = {"attn_implementation": "eager"}
# Options of both forms; `--config` also takes the options of the program.
_FLAGS = ("--json", "--random-init")


def run(verb: str, args: Sequence[str]) -> int:
    """Run the verb.

    Args:
        verb: doctor.
        args: The command line after it.

    Returns:
        The exit code: 0 if the noise is applied, 1 if not.

    Raises:
        ConfigError: An option is wrong or missing.
        ModelError: The model cannot be examined.
        DataError: The data cannot be read.
    """
    as_json = "--json" in args
    # Libraries may print; the standard output is for the JSON only.
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        is_model = any(argument.partition("=")[0] == "--model" for argument in args)
        report = _examine_model(_parse(args)) if is_model else _examine_config(verb, args)
    if as_json:
        print(json.dumps(report.to_json(), indent=2, allow_nan=False))
    else:
        from lightning_neft.doctor.table import print_report

        print_report(report)
    return _APPLIED if report.lands else _NOT_APPLIED


def _examine_model(options: Namespace) -> DoctorReport:
    # These imports take seconds.
    from lightning_neft.cli.process import quiet
    from lightning_neft.doctor.batch import load_tokenizer_if_any, sample_batch
    from lightning_neft.doctor.examine import examine
    from lightning_neft.doctor.subject import open_subject
    from lightning_neft.hub.base_config import find_base, load_base_config
    from lightning_neft.models.vocabulary import lacking_rows
    from lightning_neft.noise.injector import EmbeddingNoise

    noise = EmbeddingNoise(options.alpha)
    base, trust = options.model, options.trust_remote_code
    with quiet():
        config = load_base_config(base, trust, **_EAGER)
        subject = open_subject(config, base, trust_remote_code=trust, random_init=options.random_init)
        tokenizer = load_tokenizer_if_any(find_base(base), trust)
        batch, source = sample_batch(config, tokenizer, writes=subject.model.can_generate())
        lacking = None if tokenizer is None else lacking_rows(base, tokenizer, trust)
        return examine(
            subject,
            batch,
            noise,
            options=_options(noise),
            off=_off(noise),
            source=source,
            is_of_user=False,
            long=_LONG,
            notes=[] if lacking is None else [f"{lacking}; in your own module call resize_token_embeddings"],
        )


def _examine_config(verb: str, args: Sequence[str]) -> DoctorReport:
    _check_flags(args)
    random_init = "--random-init" in args
    rest = [argument for argument in args if argument not in _FLAGS]
    if not rest:
        raise ConfigError(
            "doctor needs a model to examine: give --config FILE_OR_RECIPE or --model FOLDER_OR_HUB_ID "
            "(lightning_neft doctor --help)"
        )
    # Only a config needs jsonargparse and Lightning.
    from lightning_neft.cli.keys import check_early

    check_early(rest)
    from lightning_neft.cli.process import quiet
    from lightning_neft.cli.program import WITHOUT_TRAINING, Program

    with quiet(), _without_messages():
        return _examine_program(Program(verb, [*rest, *WITHOUT_TRAINING]), random_init)


def _examine_program(program: Program, random_init: bool) -> DoctorReport:
    from lightning_neft.callback import NEFTune, special_ids
    from lightning_neft.doctor.examine import examine
    from lightning_neft.doctor.subject import open_subject
    from lightning_neft.hub.base_config import load_base_config
    from lightning_neft.models.vocabulary import lacking_rows
    from lightning_neft.noise.injector import EmbeddingNoise

    base, trust = program.model.base, bool(_option(program, "model", "trust_remote_code"))
    # A config may also list NEFTune among the callbacks of the Trainer.
    callbacks = [callback for callback in _callbacks(program) if isinstance(callback, NEFTune)]
    noise = callbacks[0].noise if callbacks else EmbeddingNoise()

    def load() -> torch.nn.Module:
        module: torch.nn.Module = program.model
        # In a fit the model gets them from the data of its Trainer; each adds a row to the table.
        program.model.special_tokens = program.datamodule.special_tokens
        program.model.configure_model()
        return module

    # In the order of a fit, because the model may depend on the data.
    program.datamodule.setup("fit")
    batch = next(iter(program.datamodule.train_dataloader()))
    if callbacks and callbacks[0].excludes_special:
        program.model.special_tokens = program.datamodule.special_tokens
        noise.exclude = special_ids(program.model)
    config = load_base_config(base, trust, **_EAGER)
    subject = open_subject(
        config,
        base,
        trust_remote_code=trust,
        random_init=random_init,
        dtype=_dtype(program),
        is_quantised=_option(program, "model", "quantization") is not None,
        mode_in_fit="eval" if _option(program, "model", "keep_eval") else "train",
        load=load,
    )
    notes = []
    if lacking := lacking_rows(base, program.datamodule.prepared.tokenizer, trust):
        notes.append(f"{lacking}: fit adds rows")
    if program.model.lora is not None and subject.weights is not None:
        notes.append("examined without its adapters, which do not change the output of the embedding")
        noise.target = _without_adapters(noise.target)
    options = None
    if callbacks:
        options = {**_options(noise), "schedule": callbacks[0].schedule.shape, "warmup": callbacks[0].schedule.warmup}
    return examine(
        subject,
        batch,
        noise,
        options=options,
        off=_off(noise if callbacks else None, len(callbacks)),
        source=f"the first training batch{_of_source(program)}",
        longest=_option(program, "data", "max_length"),
        notes=notes,
    )


def _option(program: Program, section: str, name: str) -> Any:
    """Return an option of the config, also of a section that names its class; None if there is no such option."""
    options = program.config[section]
    return (options.get("init_args") or options).get(name)


def _of_source(program: Program) -> str:
    options = program.datamodule.options
    return f" of data.source{'s' if options.parts else ''} {options.source}"


def _dtype(program: Program) -> torch.dtype | None:
    """Return the dtype of the weights in a fit; None for the default of from_pretrained."""
    import torch

    given = _option(program, "model", "dtype")
    if given is not None:
        found: torch.dtype | None = None if given == "auto" else getattr(torch, given)
        return found
    with program.trainer.precision_plugin.module_init_context():
        return torch.get_default_dtype()


def _callbacks(program: Program) -> list[Any]:
    return program.trainer.callbacks  # type: ignore[attr-defined, no-any-return]


@contextmanager
def _without_messages() -> Iterator[None]:
    """Suppress the messages of Lightning about seed and devices: there is no run."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # On the CPU Lightning uses bf16-mixed for 16-mixed; the weights are float32 with both.
            warnings.filterwarnings("ignore", message=r"You passed `Trainer\(accelerator='cpu', precision=")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _options(noise: EmbeddingNoise) -> dict[str, Any]:
    options: dict[str, Any] = {
        "alpha": noise.alpha,
        "distribution": noise.distribution,
        "length": noise.length,
        "scope": noise.scope,
        "scale": noise.scale,
    }
    if noise.exclude:
        options["exclude"] = f"{len(noise.exclude)} token ids"
    if noise.scale == "relative":
        options["reference_norm"] = noise.reference_norm
    if noise.antithetic:
        options["antithetic"] = True
    return options


def _off(noise: EmbeddingNoise | None, callbacks: int = 1) -> str | None:
    """Return why the noise is off; None if it is on."""
    if callbacks > 1:
        return "the config has several NEFTune callbacks, which a fit refuses: keep only the neftune section"
    if noise is None:
        return "it is off (neftune: null in the config); give --neftune.alpha 5"
    if noise.alpha == 0:
        return "it is off (alpha is 0); the paper uses 5, 10 and 15"
    return None


def _without_adapters(target: Any) -> Any:
    """Return the name of a module of a peft model as it is without peft."""
    if isinstance(target, list):
        return [_without_adapters(one) for one in target]
    return target.replace("base_model.model.", "", 1) if isinstance(target, str) else target


def _parse(args: Sequence[str]) -> Namespace:
    if any(argument.partition("=")[0] in ("--config", "-c") for argument in args):
        raise ConfigError("doctor examines --config or --model, not both; with a config the model is model.base")
    parser = VerbParser("doctor")
    parser.add_argument("--model", required=True)
    parser.add_argument("--alpha", type=float, default=5.0)
    for flag in (*_FLAGS, "--trust-remote-code"):
        parser.add_argument(flag, action="store_true")
    return parser.parse(args)


def _check_flags(args: Sequence[str]) -> None:
    """Reject misspelt flags of the verb, which the program would report as unknown keys of a config."""
    for argument in args:
        near = nearest(argument, _FLAGS, cutoff=0.75)
        if near is not None and argument != near:
            raise ConfigError(f"doctor: unknown option {argument}; did you mean {near}?")
