"""Every option of every verb that takes a path: `~` is the home folder, and a home that there is not is one line."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest

from bad_input.refusals import ANNOTATIONS, OUTPUTS, RECORDS, RESULT
from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.config_files import _ENDINGS, _READ_HERE, expand_paths
from lightning_neft.cli.main import main
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import WITHOUT_TRAINING, Program
from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError

NOBODY = "~nobody-here/x.json"
_JUDGE = "evaluate --judge=j --outputs=outputs.json --baseline=outputs.json"
_ABLATION = "evaluate --ablation --model=tiny --template=alpaca"
_ANSWERS = "generate --model=tiny --template=alpaca --device=cpu"
_EXPORT = "export --config=quickstart --data.source=data.json"
_OF_DATA = ("--data.source", "--data.val_source", "--data.cache_dir")
_OF_PROGRAM = ("--config", "--ckpt_path", *_OF_DATA, "--model.base", "--checkpoint.dirpath")
_PROGRAM = (*_OF_PROGRAM, "--trainer.default_root_dir")
# A command line that reads or writes everything but the option, and the option.
CASES = [
    *((f"{verb} --data.val_size=2", option) for verb in ("fit", "validate", "test", "predict") for option in _PROGRAM),
    *(("preview", option) for option in _OF_PROGRAM),
    *(("doctor", option) for option in _OF_PROGRAM),
    ("doctor", "--model"),
    ("generate --prompt=a", "--model"),
    ("generate --prompt=a", "--config"),
    ("generate --prompt=a --config=quickstart", "--ckpt_path"),
    (f"{_ANSWERS} --output=o.json", "--input"),
    (f"{_ANSWERS} --input=data.json", "--output"),
    ("export --model=tiny", "--output"),
    ("export --output=o", "--model"),
    ("export --output=o --ckpt_path=last", "--config"),
    (f"{_EXPORT} --output=o", "--ckpt_path"),
    ("study --alphas=0,5", "--config"),
    ("study --alphas=0,5 --data.source=data.json", "--out"),
    ("report outputs.json", "--out"),
    ("report", ""),
    ("recipes show", ""),
    ("recipes copy quickstart", ""),
    ("evaluate --outputs=outputs.json", "--out"),
    ("evaluate --outputs=outputs.json", "--tokenizer"),
    ("evaluate", "--outputs"),
    ("evaluate", "--annotations"),
    ("evaluate --memorization", "--outputs"),
    ("evaluate --memorization --config=quickstart", "--model"),
    ("evaluate --memorization", "--config"),
    ("evaluate --clean-loss", "--config"),
    ("evaluate --clean-loss --config=quickstart", "--ckpt_path"),
    (_JUDGE, "--verdicts"),
    (_JUDGE, "--baseline"),
    (_JUDGE, "--outputs"),
    ("evaluate --judge=local:~nobody-here/x.json --outputs=outputs.json --baseline=outputs.json", "--seed=0"),
    (_ABLATION, "--prompts"),
    ("evaluate --model=tiny --trust-remote-code", "--tasks"),
]


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, with one of each kind of file, beside the folder that the program runs in."""
    home, here = folder / "home", folder / "here"
    files = {"data.json": RECORDS, "outputs.json": OUTPUTS, "annotations.json": ANNOTATIONS, "result.json": RESULT}
    for place in (home, here):
        place.mkdir()
        for name, content in files.items():
            (place / name).write_text(json.dumps(content))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    return home


@pytest.fixture
def parsers(monkeypatch: pytest.MonkeyPatch) -> list[VerbParser]:
    """The parsers of the verbs that run."""
    made: list[VerbParser] = []
    original = VerbParser.parse_known

    def parse_known(parser: VerbParser, args: Sequence[str]) -> tuple[Namespace, list[str]]:
        made.append(parser)
        return original(parser, args)

    monkeypatch.setattr(VerbParser, "parse_known", parse_known)
    return made


def _ids(case: tuple[str, str]) -> str:
    return " ".join(case)


@pytest.mark.parametrize("case", CASES, ids=_ids)
def test_a_home_folder_that_there_is_not_is_one_line(
    case: tuple[str, str], home: Path, parsers: list[VerbParser], capsys: pytest.CaptureFixture[str]
) -> None:
    command, option = case
    given = f"{option}={NOBODY}" if option and "=" not in option else option or NOBODY
    before = sorted(home.parent.rglob("*"))
    assert main([*shlex.split(command), given]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("lightning_neft: ")
    assert "~nobody-here has no home folder here; write the folder out" in line
    assert sorted(home.parent.rglob("*")) == before
    verb = command.split()[0]
    tried = {other for line, other in CASES if line.split()[0] == verb}
    paths = {name for parser in parsers for action in parser._actions if action.type is Path
             for name in action.option_strings}  # fmt: skip
    assert paths <= tried


def test_every_path_of_a_config_is_tried(short: list[str]) -> None:
    with quiet():
        program = Program("fit", [*short, *WITHOUT_TRAINING])
    keys = [key for key in program.parser.get_defaults().keys() if key.endswith(_ENDINGS) and "class_path" not in key]  # noqa: SIM118
    assert {f"--{key}" for key in (*keys, *_READ_HERE)} == set(_PROGRAM) - {"--config"}


def test_the_paths_of_loggers_and_callbacks_are_expanded(home: Path) -> None:
    from jsonargparse import Namespace as Config

    logger = Config(class_path="x.Log", init_args=Config(save_dir="~/logs", name="~/name"))
    callback = {"class_path": "x.Call", "init_args": {"dirpath": "~/c", "inner": {"root": "~"}, "count": 1}}
    config = Config(trainer=Config(logger=[logger], callbacks=[callback], default_root_dir="a"), checkpoint=Config())
    expand_paths(config)
    assert (logger.init_args.save_dir, logger.init_args.name) == (f"{home}/logs", "~/name")
    assert callback["init_args"] == {"dirpath": f"{home}/c", "inner": {"root": str(home)}, "count": 1}
    callback["init_args"]["dirpath"] = "~nobody-here/c"  # type: ignore[index]
    with pytest.raises(ConfigError, match=r"trainer\.callbacks\.0\.init_args\.dirpath ~nobody-here/c"):
        expand_paths(config)


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("evaluate --outputs ~/outputs.json --out ~/a.json", "a.json"),
        ("evaluate --outputs ~/outputs.json --out ~/b", "b/mine-text_statistics.json"),
        ("evaluate --memorization --outputs ~/outputs.json --out ~/c.json", "c.json"),
        ("evaluate --annotations ~/annotations.json --out ~/d.json", "d.json"),
        ("report ~/result.json ~/outputs.json --out ~/page.html", "page.html"),
        ("recipes copy quickstart ~/mine.yaml", "mine.yaml"),
        ("export --model ~/model --template=alpaca --output ~/exported", "exported/config.json"),
        (f"{_ANSWERS} --max-new-tokens=1 --input ~/outputs.json --output ~/answers.json", "answers.json"),
    ],
)
def test_the_home_folder_is_read_and_written(command: str, written: str, home: Path) -> None:
    if "~/model" in command:
        assert main(["export", "--model=tiny", "--template=alpaca", "--output", str(home / "model")]) == 0
    before = sorted(Path().rglob("*"))
    assert main(command.split()) == 0
    assert (home / written).is_file()
    assert sorted(Path().rglob("*")) == before


def test_a_run_has_one_folder(short: list[str], home: Path) -> None:
    (home / "run.yaml").write_text("trainer: {default_root_dir: ~/runs}\ndata: {cache_dir: ~/cache}\n")
    before = sorted(Path().rglob("*"))
    arguments = [*short, "--data.source=~/data.json", "--samples=0", "--config=~/run.yaml"]
    assert main(["fit", *arguments]) == 0
    assert main(["validate", *arguments, "--ckpt_path=~/runs/run/version_0/checkpoints/last.ckpt"]) == 0
    assert sorted(Path().rglob("*")) == before
    run = home / "runs/run/version_0"
    assert {"checkpoints", "model", "metrics.csv", "config.yaml"} <= {path.name for path in run.iterdir()}
    assert list((home / "cache").iterdir())


def test_the_path_of_a_database_of_sqlite_is_expanded(home: Path) -> None:
    from lightning_neft.study.storage import _with_driver

    assert _with_driver("sqlite:///~/a.sqlite") == f"sqlite:///{home}/a.sqlite"
    assert _with_driver("sqlite:///a.sqlite") == "sqlite:///a.sqlite"
    with pytest.raises(ConfigError, match="--storage ~nobody-here"):
        _with_driver("sqlite:///~nobody-here/a.sqlite")
    assert user_path("~") == home
