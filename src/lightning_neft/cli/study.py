"""The verb study: trains one recipe with several alphas and seeds, in pairs that differ only in the noise."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentError, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.config_files import resolve_configs, run_name
from lightning_neft.cli.keys import check_early
from lightning_neft.cli.study_recipe import check_recipe_path, write_recipe
from lightning_neft.common.near_names import did_you_mean
from lightning_neft.common.paths import file_in_the_way
from lightning_neft.common.secrets import mask
from lightning_neft.errors import ConfigError
from lightning_neft.study.plan import PRUNERS, SAMPLERS, Plan, is_study, parse_alphas, parse_search, parse_seeds

if TYPE_CHECKING:
    from lightning_neft.evaluation.study_result import StudyResult
    from lightning_neft.study.arm import Child

__all__ = ["run"]

_RESULT, _REPORT = "study.json", "report.html"
_FAILED = 1
# Run in separate processes: this one never touches the device.
_DESCRIBE, _RUN_ARM = "lightning_neft.cli.study_arm:describe", "lightning_neft.cli.study_arm:start_arm"
# Options of the program that the study sets for each arm, and what to give instead.
_OWN = {
    "--neftune": "--alphas",
    "--neftune.alpha": "--alphas",
    "--neftune.seed": "--seeds",
    "--seed_everything": "--seeds",
    "--name": "--out",
    "--trainer.default_root_dir": "--out",
    "--trainer.logger": "--out",
    "--ckpt_path": "the same command again, which resumes the study",
}
# Keys of the program whose names are similar to options of the verb.
_LIKE_OURS = ("--samples",)


def run(verb: str, args: Sequence[str]) -> int:
    """Run the verb.

    Args:
        verb: study.
        args: The command line after it.

    Returns:
        The exit code: 0, 1 if an arm failed, or 128 plus the number of the signal that stopped it.

    Raises:
        ConfigError: An option is wrong or missing.
    """
    if "--help" in args:
        return _help_of_arms()
    if missing := [name for name in ("optuna", "matplotlib", "jinja2") if find_spec(name) is None]:
        raise ConfigError(f"study needs {' and '.join(missing)}: pip install 'lightning-neft[study]'")
    options, rest = _parse(args)
    check_early(rest)
    if options.memorization:
        from lightning_neft.evaluation.memorization import check_libraries

        check_libraries()
    recipe = check_recipe_path(options)
    plan = _plan(options, rest)
    from lightning_neft.study.worker import Stopped

    # Libraries may print; standard output is for the JSON object.
    with redirect_stdout(sys.stderr if options.json else sys.stdout), _storage_errors():
        try:
            result = _run(plan, options, rest, recipe)
        except Stopped as stopped:
            at = f"; alpha {stopped.arm.alpha:g}, seed {stopped.arm.seed} is saved" if stopped.arm else ""
            line = f"study stopped by {stopped.signal.name}{at}; repeat the command to resume"
            print(f"lightning_neft: {line}", file=sys.stderr)
            return 128 + stopped.signal
    if options.json:
        print((plan.folder / _RESULT).read_text(encoding="utf-8"), end="")
    return _FAILED if result.in_state("failed") else 0


def _run(plan: Plan, options: Namespace, rest: tuple[str, ...], recipe: Path | None) -> StudyResult:
    # The first process takes seconds to start; the other modules are imported in the meantime.
    from lightning_neft.study.arm import Child, Measures

    with TemporaryDirectory() as temporary:
        log = Path(temporary) / "log.txt"
        child = Child(_DESCRIBE, rest, log)
        from lightning_neft.cli.study_display import Display
        from lightning_neft.study.queue import ArmQueue
        from lightning_neft.study.result import write_study
        from lightning_neft.study.worker import Worker

        try:
            description = _description(child, log)
            child.end()
        finally:
            child.kill()
    measures = Measures(options.answers, options.max_new_tokens, options.memorization)
    queue = ArmQueue(
        plan,
        url=options.storage,
        config=description["config"],
        measures=measures,
        pruner=options.pruner,
        grace=options.grace,
    )
    if options.retry:
        queue.retry()
    settings = {
        "args": mask(list(rest)),
        **{name: description[name] for name in ("model", "data", "steps", "data_digest")},
        **{name: getattr(options, name) for name in ("pruner", "answers", "max_new_tokens", "memorization")},
        **({"search": options.search, "trials": options.trials, "sampler": options.sampler} if plan.search else {}),
    }
    path = plan.folder / _RESULT

    def write() -> StudyResult:
        return write_study(path, plan, description["recipe"], queue.states(), description["inputs"], settings)

    display = Display(plan, write)
    display.plan(queue.states(), description, "SQLite in the folder" if options.storage is None else "--storage")
    if (precision := description["precision"]) is not None:
        # Chosen once, for arms that other machines run as well.
        rest = (*rest, f"--trainer.precision={precision}")
    worker = Worker(queue, _RUN_ARM, rest, measures, options.grace, display)
    with display:
        ended_last = worker.run()
    result = write()
    page = plan.folder / _REPORT
    # Only one of several workers writes it.
    if ended_last or not page.exists():
        from lightning_neft.report.page import write_report

        write_report([path], page, overwrite=True)
    display.summary(result, path, page)
    if recipe is not None and (failed := result.in_state("failed")):
        # One that trained failed as no pair, which it would be again.
        what_to_do = "" if any(arm.steps is not None for arm in failed) else "; repeat the command with --retry"
        print(f"recipe: not written, {len(failed)} of {plan.arm_count} arms failed{what_to_do}")
    elif recipe is not None:
        from lightning_neft.evaluation.choice import choose_alpha
        from lightning_neft.evaluation.result import read_result

        choice = choose_alpha(result)
        write_recipe(recipe, description, result, choice, read_result(path)["provenance"], path)
        display.recipe(recipe, choice)
    return result


def _help_of_arms() -> int:
    from lightning_neft.cli.program import Program

    Program("study", ["--help"])
    return 0


def _description(child: Child, log: Path) -> dict[str, Any]:
    """Return what the first process reports about the config."""
    from lightning_neft.study.arm import Failed, describe_exit

    while (code := child.exit_code) is None:
        message = child.message(seconds=1)
        if isinstance(message, Failed):
            raise ConfigError(message.error)
        if message is not None:
            found: dict[str, Any] = message
            return found
    last = (log.read_text(encoding="utf-8").splitlines() or ["it printed nothing"])[-1]
    raise ConfigError(f"the config cannot be read: {describe_exit(code)}; last line of its output: {last}")


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Report a lost database in one line; the results of the arms are in the folder."""
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except StorageInternalError as error:
        raise ConfigError(
            f"the storage does not respond: {error.__cause__ or error}; repeat the command when it does"
        ) from error


def _parser() -> VerbParser:
    parser = VerbParser("study")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--alphas")
    which.add_argument("--search")
    parser.add_argument("--trials", type=_at_least(1), default=10)
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe")
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--storage")
    parser.add_argument("--pruner", choices=PRUNERS, default="none")
    parser.add_argument("--grace", type=_at_least(1), default=60)
    parser.add_argument("--answers", type=_at_least(0), default=20)
    parser.add_argument("--max-new-tokens", type=_at_least(1), default=256)
    parser.add_argument("--memorization", type=_at_least(0), default=0)
    parser.add_argument("--retry", action="store_true")
    parser.add_argument("--write-recipe")
    parser.add_argument("--json", action="store_true")
    return parser


def _parse(args: Sequence[str]) -> tuple[Namespace, tuple[str, ...]]:
    """Return the options of the verb, and those of the program for the arms.

    Raises:
        ConfigError: If an option is wrong, or is one that the study sets.
    """
    parser = _parser()
    try:
        options, rest = parser.parse_known_args(list(args))
    except ArgumentError as error:
        raise ConfigError(f"study: {error}") from error
    options.seeds = parse_seeds(options.seeds)
    known = [option for action in parser._actions for option in action.option_strings]
    for argument in rest:
        name = argument.partition("=")[0]
        if name in _OWN:
            raise ConfigError(f"study: {name} is set for each arm; give {_OWN[name]} instead")
        # The program would report a misspelt option of the verb as an unknown key.
        if not name.startswith("--") or "." in name or name in _LIKE_OURS:
            continue
        if hint := did_you_mean(name, known, cutoff=0.75):
            raise ConfigError(f"study: unknown option {name}; {hint}")
    return options, tuple(rest)


def _plan(options: Namespace, rest: Sequence[str]) -> Plan:
    _, files = resolve_configs(rest)
    folder = options.out or Path("runs") / f"study-{run_name(files).replace('/', '-')}"
    # Before the first process, which takes seconds to start.
    if file := file_in_the_way(folder):
        raise ConfigError(f"--out {folder}: {file} is a file; give a writable folder")
    if not is_study(folder):
        for name in (_RESULT, _REPORT):
            if os.path.lexists(folder / name):
                raise ConfigError(f"--out {folder} contains {name} but no study; give another folder")
    if options.search is None:
        return Plan(folder, parse_alphas(options.alphas), options.seeds)
    return Plan(folder, (0.0,), options.seeds, parse_search(options.search, options.trials, options.sampler))


def _at_least(minimum: int) -> Callable[[str], int]:
    """Return what reads a whole number of this size or more."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise ArgumentTypeError(f"got {text!r}, give a whole number of {minimum} or more")
        return int(text)

    return read
