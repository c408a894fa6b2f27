"""What a user gets wrong: one line that names the place and the way out, exit code 2, nothing written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lightning_neft.cli.main import main

# (command line, text of the line); {file} is a file with the content given.
COMMAND_LINES = [
    (["fti"], "unknown verb 'fti'; did you mean fit?"),
    (["fit", "--config", "quikstart"], "'quikstart' is neither a file"),
    (["fit", "--config"], "--config needs a value"),
    (["fit", "--config=quickstart", "--neftune.alhpa=3"], "unknown key neftune.alhpa; did you mean neftune.alpha?"),
    (["fit", "--config=quickstart", "--alpha=3"], "unknown key alpha; did you mean neftune.alpha or model.lora.alpha?"),
    (["fit", "--config=quickstart", "--trainer.max_epoch=1"], "did you mean trainer.max_epochs?"),
    (["fit", "--config=quickstart", "--data.sorce=x"], "did you mean data.source?"),
    (["fit", "--config=quickstart", "--neftune.alpha=-1"], "alpha=-1.0: use a finite number >= 0"),
    (["fit", "--config=quickstart", "--neftune.alpha=.nan"], "alpha=nan: use a finite number >= 0"),
    (["fit", "--config=quickstart", "--neftune.alpha=.inf"], "alpha=inf: use a finite number >= 0"),
    (["fit", "--config=quickstart", "--neftune.alpha=strong"], "strong"),
    (["fit", "--config=quickstart", "--neftune.warmup=2"], "warmup=2.0: use a share of the run"),
    (["fit", "--config=quickstart", "--neftune.length=0"], "length=0: use 'true', 'padded' or a number"),
    (["fit", "--config=quickstart", "--neftune.distribution=normal"], "neftune.distribution"),
    (["fit", "--config=quickstart", "--neftune.target=embed"], "target='embed'"),
    (["fit", "--config=quickstart", "--data.source=missing.json"], "missing.json"),
    (["fit", "--config=quickstart", "--data.batch_size=0"], "data.batch_size must be 1 or more, got 0"),
    (["fit", "--config=quickstart", "--data.val_size=2.5"], "data.val_size"),
    (["fit", "--config=quickstart", "--model.base=no/such-folder/here"], "no/such-folder/here"),
    (["fit", "--config=quickstart", "--ckpt_path=missing.ckpt"], "--ckpt_path missing.ckpt: no such file"),
    (["fit", "--config=quickstart", "--ckpt_path=last"], "--ckpt_path last: there is no"),
    (["fit", "--config=quickstart", "--data.tokenizer=tiny"], "data.tokenizer is taken from model.base"),
]

CONFIGS = [
    ("neftune:\n  alhpa: 3\n", "line 2: unknown key neftune.alhpa; did you mean neftune.alpha?"),
    ("trainer:\n  max_epoch: 1\n", "line 2: unknown key trainer.max_epoch; did you mean trainer.max_epochs?"),
    ("data:\n  sorce: x\nneftun: null\n", "line 3: unknown key neftun; did you mean neftune?"),
    ("", "holds no keys"),
    ("- fit\n", "expected a mapping of sections"),
    ("trainer:\n\tmax_epochs: 1\n", "line 2: not valid YAML"),
    ("data:\n  batch_size: 2\n  batch_size: 3\n", "line 3: data.batch_size is given twice"),
    ("data:\n  batch_size: many\n", "data.batch_size"),
    ("data: 3\n", "data is a section with keys of its own"),
]

DATA = [
    ("", "empty"),
    ("[]", ""),
    ("[{}]", "instruction"),
    ('[{"instruction": "a", "output": 3}]', "output"),
    ('{"instruction": "a", "output": "b"}\n{"instruction": ', "line 2"),
    ('[{"instruction": "a", "output": "b"}]', "data.val_size"),
]


def failure(args, capsys):
    """Exit code 2 and one line on the error stream, which is returned."""
    assert main(args) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    ours = [line for line in lines if line.startswith("lightning_neft: ")]
    assert len(ours) == 1
    assert "Traceback" not in "\n".join(lines)
    return ours[0]


@pytest.mark.parametrize(
    ("args", "text"), COMMAND_LINES, ids=lambda value: " ".join(value[-1:]) if isinstance(value, list) else ""
)
def test_command_lines(args, text, in_folder, capsys):
    assert text in failure(args, capsys)
    assert not list(in_folder.rglob("*.ckpt"))


@pytest.mark.parametrize(("content", "text"), CONFIGS)
def test_config_files(content, text, in_folder, capsys):
    (in_folder / "mine.yaml").write_text(content, encoding="utf-8")
    line = failure(["fit", "--config=quickstart", "--config=mine.yaml"], capsys)
    assert text in line
    assert list(in_folder.iterdir()) == [in_folder / "mine.yaml"]


@pytest.mark.parametrize(("content", "text"), DATA)
def test_data_files(content, text, in_folder, capsys):
    (in_folder / "mine.json").write_text(content, encoding="utf-8")
    line = failure(["fit", "--config=quickstart", "--data.source=mine.json"], capsys)
    assert text in line
    assert "mine.json" in line


def test_all_problems_are_told_at_once(in_folder, capsys):
    (in_folder / "mine.yaml").write_text("neftune:\n  alhpa: 3\ndata:\n  sorce: x\n", encoding="utf-8")
    line = failure(["fit", "--config=mine.yaml", "--trainer.max_epoch=2"], capsys)
    assert all(text in line for text in ("neftune.alhpa", "data.sorce", "trainer.max_epoch"))


def test_a_checkpoint_that_is_no_archive_or_holds_a_pickle_is_refused(in_folder, capsys):
    import torch

    (in_folder / "text.ckpt").write_text("no checkpoint", encoding="utf-8")
    assert "text.ckpt" in failure(["fit", "--config=quickstart", "--ckpt_path=text.ckpt"], capsys)

    class Payload:
        def __reduce__(self):
            return print, ("code ran",)

    torch.save({"state_dict": Payload()}, in_folder / "payload.ckpt")
    code = main(["fit", "--config=quickstart", "--ckpt_path=payload.ckpt"])
    shown = capsys.readouterr()
    assert code == 2
    assert "code ran" not in shown.out + shown.err


@pytest.mark.slow
def test_the_console_script_exits_with_two():
    done = subprocess.run([sys.executable, "-m", "lightning_neft", "fti"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "lightning_neft: unknown verb 'fti'; did you mean fit?\n"
