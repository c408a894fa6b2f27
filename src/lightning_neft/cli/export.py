"""The verb export: a fine-tuned model as a plain folder for from_pretrained, or to the hub."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.config_files import resolve_configs
from lightning_neft.cli.keys import check_early
from lightning_neft.cli.model_options import DTYPES, trained_program
from lightning_neft.common.files import check_replaceable
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lightning_neft.models.description import ModelDescription

__all__ = ["run"]


class _Source(NamedTuple):
    """A model on the CPU, its tokenizer, and what is known of its training; config and run as in `export_model`."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    facts: ModelDescription
    config: Mapping[str, Any]
    run: Path | None


def run(verb: str, args: Sequence[str]) -> None:
    """Run the verb.

    Args:
        verb: export.
        args: The command line after it.

    Raises:
        ConfigError: An option is wrong or missing, or the folder exists.
        ModelError: The model or the checkpoint cannot be loaded, or the hub rejects the upload.
    """
    parser = VerbParser(verb)
    parser.add_argument("--output", type=Path)
    for name in ("--model", "--push", "--template"):
        parser.add_argument(name)
    parser.add_argument("--dtype", choices=DTYPES)
    for name in ("--overwrite", "--private", "--trust-remote-code"):
        parser.add_argument(name, action="store_true")
    options, rest = parser.parse_known(args)
    _check(options, rest)
    check_early(rest)
    from lightning_neft.cli.process import quiet
    from lightning_neft.evaluation.result import results_in
    from lightning_neft.saving.folder import export_model

    with quiet(), TemporaryDirectory() as temporary:
        folder = options.output or Path(temporary) / "model"
        source = _load_folder(verb, options) if options.model else _load_checkpoint(verb, options, rest)
        has_template = export_model(
            **source._asdict(),
            folder=folder,
            name=options.push or folder.resolve().name,
            results={} if source.run is None else results_in(source.run),
            dtype=options.dtype,
        )
        if source.facts.template is not None and not has_template:
            print(
                f"no chat template gives the token ids of the template {source.facts.template}; to render prompts, use "
                "lightning_neft generate",
                file=sys.stderr,
            )
        if options.output:
            print(f"exported: {folder}", file=sys.stderr)
        if options.push:
            print(f"pushed: {_push(folder, options.push, options.private)}", file=sys.stderr)


def _check(options: Namespace, rest: Sequence[str]) -> None:
    if options.model is not None and rest:
        raise ConfigError(f"export: {rest[0]} cannot be combined with --model; omit it, or give --config instead")
    if options.model is None and not any(argument.partition("=")[0] == "--ckpt_path" for argument in rest):
        raise ConfigError(
            "export needs a trained model: --model FOLDER, or --config FILE_OR_RECIPE with --ckpt_path last "
            "(lightning_neft export --help)"
        )
    if options.output is None and options.push is None:
        raise ConfigError("export needs --output FOLDER, --push OWNER/NAME, or both")
    if options.push is not None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        try:
            validate_repo_id(options.push)
        except HFValidationError as error:
            raise ConfigError(f"export: --push {options.push!r} is not the name of a repository: {error}") from error
    if options.output is None:
        return
    folder: Path = options.output
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"export: --output {folder} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not options.overwrite:
        raise ConfigError(f"export: the folder {folder} is not empty; give another --output, or --overwrite")
    # Its contents would be lost.
    _check_outside(folder, Path.cwd(), "the working folder")
    if options.model is not None and (given := user_path(options.model, "--model")).exists():
        for path in (given, given / "model", given / "checkpoints"):
            _check_outside(folder, path, "the model that is exported")
    for config in resolve_configs(rest)[1]:
        _check_outside(folder, config, "the config of the run")
    if folder.is_dir() and any(folder.iterdir()):
        # Takes seconds to import.
        from lightning_neft.models.description import DESCRIPTION_FILE

        check_replaceable(folder, DESCRIPTION_FILE)


def _check_outside(folder: Path, path: Path, what: str) -> None:
    target, inside = folder.resolve(), path.resolve()
    if target in (inside, *inside.parents):
        raise ConfigError(f"export: --output {folder} holds {what}; give another one")


def _load_folder(verb: str, options: Namespace) -> _Source:
    from dataclasses import replace

    from lightning_neft.generation.sources import load_model
    from lightning_neft.hub.gguf import expanded_from
    from lightning_neft.hub.names import resolve_base
    from lightning_neft.models.description import ModelDescription

    given = user_path(options.model, "--model")
    # In the folder of a run, the folder `model` has its best checkpoint.
    is_run = (given / "config.yaml").is_file() and any((given / name).is_dir() for name in ("checkpoints", "model"))
    if is_run and not (given / "model").is_dir():
        last = given / "checkpoints" / "last.ckpt"
        if not last.exists():
            raise ModelError(f"the run {given} has neither a folder model nor checkpoints/last.ckpt; train it first")
        return _load_checkpoint(verb, options, [f"--config={given / 'config.yaml'}", f"--ckpt_path={last}"])
    folder = given / "model" if is_run else given
    loaded = load_model(str(folder) if given.exists() else options.model, trust_remote_code=options.trust_remote_code)
    if options.output is not None and loaded.base is not None:
        _check_outside(options.output, Path(resolve_base(loaded.base)), "the base of the model that is exported")
    run = folder.resolve().parent
    config = _read_config(run / "config.yaml")
    facts = loaded.facts or ModelDescription(
        loaded.base or options.model,
        type(loaded.model).__name__,
        "seq2seq_lm" if loaded.model.config.is_encoder_decoder else "causal_lm",
        expanded_from=expanded_from(resolve_base(loaded.base or options.model)),
    )
    facts = replace(facts, template=options.template or facts.template)
    return _Source(loaded.model, loaded.tokenizer, facts, config, run if config else None)


def _load_checkpoint(verb: str, options: Namespace, rest: Sequence[str]) -> _Source:
    from lightning_neft.hub.names import resolve_base

    # Adapters cannot be merged into 4-bit weights.
    program, facts, checkpoint = trained_program(verb, options, rest, without_quantization=True)
    assert checkpoint is not None
    if options.output is not None:
        _check_outside(options.output, checkpoint, "the checkpoint that is exported")
        _check_outside(options.output, Path(resolve_base(program.model.base)), "the base of the model that is exported")
        for path in program.input_paths:
            _check_outside(options.output, path, "the data of the run")
    run = checkpoint.resolve().parents[1]
    # The config of the run; that of this command if the checkpoint is not in the folder of a run.
    config = _read_config(run / "config.yaml") if checkpoint.parent.name == "checkpoints" else {}
    module = program.model
    return _Source(module.model, module.tokenizer(), facts, config or program.config.as_dict(), run if config else None)


def _read_config(path: Path) -> dict[str, Any]:
    from lightning_neft.common.config_text import load_config

    if not path.is_file():
        return {}
    try:
        found = load_config(path)
    except ConfigError:
        return {}  # not the config of a run
    return found if isinstance(found, dict) else {}


def _push(folder: Path, repository: str, private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    # It reads the token from the environment or the login.
    api = HfApi()
    try:
        url = api.create_repo(repository, exist_ok=True, private=private or None)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Upload of a fine-tuned model")
    except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"--push {repository}: the upload failed: {reason}; log in with hf auth login") from None
    return str(url)
