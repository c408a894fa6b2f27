"""Code inside a model, data, a config or a task: none of it runs, and the command is refused.

Each payload would make the file `touched` in the working directory, in which nothing may change.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import yaml

from bad_input.refusals import FIT, PREVIEW, RECORDS, Case, Content, put
from bad_input.test_places import Malicious, saved
from lightning_neft.cli.main import main
from lightning_neft.hub.names import resolve_base

TOUCH = "from pathlib import Path\nPath('touched').touch()\n"
GENERATE = "generate --model=m --device=cpu --template=alpaca --prompt=Hi"
TASK = {"task": "mine", "dataset_path": "json", "output_type": "multiple_choice", "test_split": "test"}
YAML_OBJECT = "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [touched]]\n"


def tiny(**changes: Content | None) -> Callable[[Path], None]:
    """The tiny model with other files beside its own; None removes one, and a table is put into what is there."""

    def make(path: Path) -> None:
        copytree(resolve_base("tiny"), path)
        for name, content in changes.items():
            file = path / name.replace("__", ".")
            if content is None:
                file.unlink()
            elif isinstance(content, dict):
                put(file, {**json.loads(file.read_text(encoding="utf-8")), **content})
            else:
                put(file, content)

    return make


OWN_MODEL = {"auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}, "model_type": "mine"}
OWN_TOKENIZER = {"auto_map": {"AutoTokenizer": ["mine.T", None]}, "tokenizer_class": "T"}
ADAPTERS = {"base_model_name_or_path": "tiny", "peft_type": "LORA"}

CASES = [
    Case(
        "pickled weights",
        GENERATE,
        ("'m'",),
        {"m": tiny(model__safetensors=None, pytorch_model__bin=saved({"a": Malicious()}))},
    ),
    Case(
        "doctor: pickled weights",
        "doctor --model=m",
        ("'m'", ".bin"),
        {"m": tiny(model__safetensors=None, pytorch_model__bin=saved({"a": Malicious()}))},
    ),
    Case(
        "fit: pickled weights",
        f"{FIT} --model.base=m",
        ("'m'",),
        {"m": tiny(model__safetensors=None, pytorch_model__bin=saved({"a": Malicious()}))},
    ),
    Case(
        "pickled adapters",
        GENERATE,
        ("adapter_model.safetensors",),
        {
            "m": tiny(
                model__safetensors=None,
                adapter_config__json=json.dumps(ADAPTERS),
                adapter_model__bin=saved({"a": Malicious()}),
            )
        },
    ),
    Case("a model's code", GENERATE, ("m",), {"m": tiny(config__json=OWN_MODEL, mine__py=TOUCH)}),
    Case("doctor: a model's code", "doctor --model=m", ("m",), {"m": tiny(config__json=OWN_MODEL, mine__py=TOUCH)}),
    Case("fit: a model's code", f"{FIT} --model.base=m", ("m",), {"m": tiny(config__json=OWN_MODEL, mine__py=TOUCH)}),
    Case(
        "export: a model's code",
        "export --model=m --output=o",
        ("m",),
        {"m": tiny(config__json=OWN_MODEL, mine__py=TOUCH)},
    ),
    Case("a script for data", f"{PREVIEW} --data.source=d.py", ("d.py, line 1",), {"d.py": TOUCH}),
    Case("a folder with a script", f"{PREVIEW} --data.source=d", ("d",), {"d/d.py": TOUCH}),
    Case("an id that is a folder with a script", f"{PREVIEW} --data.source=me/d", ("me/d",), {"me/d/d.py": TOUCH}),
    Case(
        "saved data with a script and a pickle",
        f"{PREVIEW} --data.source=d",
        ("d",),
        {"d/d.py": TOUCH, "d/state.json": "{}", "d/dataset_info.json": pickle.dumps(Malicious())},
    ),
    Case("data that are a pickle", f"{PREVIEW} --data.source=d.pkl", ("d.pkl",), {"d.pkl": pickle.dumps(Malicious())}),
    Case(
        "a config with an object", "fit -c c.yaml", ("c.yaml", "!!python/object"), {"c.yaml": f"model: {YAML_OBJECT}"}
    ),
    Case(
        "recipes: an object", "recipes show c.yaml", ("c.yaml", "!!python/object"), {"c.yaml": f"model: {YAML_OBJECT}"}
    ),
    Case(
        "a task with a function",
        "evaluate --tasks t.yaml --model=tiny",
        ("--tasks", "t.yaml", "--trust-remote-code"),
        {"t.yaml": yaml.safe_dump(TASK) + "process_docs: !function mine.f\n", "mine.py": TOUCH},
    ),
    Case(
        "a template that leaves its sandbox",
        f"{PREVIEW} --data.source=data.json --data.template=tokenizer --model.base=m",
        ("__init__",),
        {"m": tiny(chat_template__jinja="{{ cycler.__init__.__globals__.os.mknod('touched') }}")},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_runs_and_it_is_refused_in_one_line(case: Case, assert_refused: Callable[[Case], None]) -> None:
    assert_refused(case)


def test_a_tokenizers_code_does_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """transformers takes the general class for it."""
    put(folder / "data.json", RECORDS)
    put(folder / "m", tiny(tokenizer_config__json=OWN_TOKENIZER, mine__py=TOUCH))
    code = main([*f"{PREVIEW} --data.source=data.json --model.base=m".split()])
    assert code in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert not list(folder.rglob("touched"))
