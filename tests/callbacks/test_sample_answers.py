"""Answers at each validation: where they go, and a training that does not notice them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import SingleDeviceStrategy

from lightning_neft import NEFTune
from lightning_neft.callbacks.sample_answers import SampleAnswers, SamplePrompt
from lightning_neft.errors import ConfigError
from lightning_neft.models.language_models import CausalLM
from models.words import fit
from models.words import loader as words
from tiny import LoggedRows, Tuned, llama, loader, trainer

VALIDATED = {"limit_val_batches": 1, "val_check_interval": 2, "num_sanity_val_steps": 1}


class Prompted(L.LightningDataModule):
    """Data with prompts: one as text, one as ids."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def sample_prompts(self, count: int) -> list[SamplePrompt]:
        self.asked.append(count)
        return [SamplePrompt("a b", None, "[c]"), SamplePrompt("<s> q r", [0, 19, 20])]

    def train_dataloader(self) -> Any:
        return words(4)

    def val_dataloader(self) -> Any:
        return words(1)


def test_each_validation_shows_answers_in_terminal_and_file(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, module = Prompted(), CausalLM(base, learning_rate=0.05)
    expected: dict[int, list[str]] = {}

    class Expected(L.Callback):
        def on_validation_end(self, fitted: L.Trainer, _: Any) -> None:
            if not fitted.sanity_checking:
                answers = [module.generate([text], max_new_tokens=5)[0].strip() for text in ("a b", "q r")]
                expected[fitted.global_step] = answers

    callbacks = [Expected(), SampleAnswers(count=2, max_new_tokens=5)]
    fitted = trainer(callbacks=callbacks, logger=CSVLogger(tmp_path), max_steps=4, **VALIDATED)
    fitted.fit(module, data)
    path = Path(fitted.log_dir) / "samples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(expected) == [2, 4]
    assert lines == [
        {"step": step, "prompt": prompt, "answer": answer, "reference": reference}
        for step, answers in expected.items()
        for (prompt, reference), answer in zip((("a b", "[c]"), ("<s> q r", "")), answers, strict=True)
    ]
    assert data.asked == [2, 2]
    shown = capsys.readouterr().out
    assert "answers after step 2" in shown
    assert "answers after step 4" in shown
    assert "[c]" in shown
    trainer(callbacks=callbacks).validate(module, data, verbose=False)
    assert "answers" not in capsys.readouterr().out


def test_prompts_can_be_given(base: str, tmp_path: Path) -> None:
    fitted = fit(CausalLM(base), 2, callbacks=[SampleAnswers(["x y", "z"])], logger=CSVLogger(tmp_path), **VALIDATED)
    lines = (Path(fitted.log_dir) / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == ["x y", "z"]


def test_answers_end_at_the_stop_tokens_of_the_data(base: str, tmp_path: Path) -> None:
    module = CausalLM(base, learning_rate=0.0)
    (answer,) = module.generate(["a b"], max_new_tokens=5)
    first, second, *_ = answer.split()
    assert first != second
    data = Prompted()
    data.stop_ids = module.tokenizer()(second, add_special_tokens=False)["input_ids"]
    fitted = trainer(callbacks=[SampleAnswers(max_new_tokens=5)], logger=CSVLogger(tmp_path), max_steps=2, **VALIDATED)
    fitted.fit(module, data)
    lines = (Path(fitted.log_dir) / "samples.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["answer"] == first


def test_tensorboard_gets_a_text_and_weights_and_biases_a_table(base: str, tmp_path: Path) -> None:
    texts: list[tuple[Any, ...]] = []
    tables: list[dict[str, Any]] = []

    class InMemory(LoggedRows):
        log_dir = save_dir = root_dir = None

        def __init__(self) -> None:
            self.rows = []

        def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

        def log_graph(self, *_: Any) -> None: ...

        def finalize(self, status: str) -> None: ...

    class Board(InMemory, TensorBoardLogger):
        @property
        def experiment(self) -> Any:
            return self

        def add_text(self, *args: Any) -> None:
            texts.append(args)

    class Table(InMemory, WandbLogger):
        def log_table(self, key: str, **options: Any) -> None:
            tables.append({"key": key, **options})

    fit(
        CausalLM(base),
        2,
        callbacks=[SampleAnswers(["*x* y"], max_new_tokens=3)],
        logger=[Board(), Table()],
        **VALIDATED,
    )
    ((tag, text, step),) = texts
    assert (tag, step) == ("samples", 2)
    assert "**prompt**\n\n    *x* y\n\n**answer**\n\n    " in text
    (table,) = tables
    assert (table["key"], table["columns"]) == ("samples", ["step", "prompt", "answer", "reference"])
    assert table["data"][0][:2] == [2, "*x* y"]


def test_the_training_does_not_notice_it(base: str) -> None:
    weights, states = [], []
    for callbacks in ([], [SampleAnswers(["a b", "c"], max_new_tokens=4)]):
        torch.manual_seed(0)
        module = CausalLM(base, learning_rate=0.01, warmup_ratio=0.0)  # with dropout
        fit(module, 4, callbacks=[NEFTune(alpha=5), *callbacks], **VALIDATED)
        weights.append(module.state_dict())
        states.append(torch.get_rng_state())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert torch.equal(*states)


def test_sharded_weights_are_left_out_with_one_notice(
    base: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Callable[[str], None],
) -> None:
    # As with a strategy that is neither of those that keep whole weights.
    monkeypatch.setattr("lightning_neft.callbacks.sample_answers.SingleDeviceStrategy", type("Other", (), {}))
    monkeypatch.setattr(CausalLM, "generate", lambda *_, **__: pytest.fail("generates"))
    with caplog.at_level("INFO"):
        fit(CausalLM(base), 4, callbacks=[SampleAnswers(["a"])], **VALIDATED)
    (notice,) = [record.message for record in caplog.records if SingleDeviceStrategy.__name__ in record.message]
    snapshot(notice)


def test_what_it_cannot_work_with_is_refused(base: str, snapshot: Callable[[str], None]) -> None:
    with pytest.raises(ConfigError, match="count=0"):
        SampleAnswers(count=0)
    with pytest.raises(ConfigError, match="max_new_tokens=0"):
        SampleAnswers(max_new_tokens=0)
    with pytest.raises(ConfigError, match=r"generate\(.* Tuned") as foreign:
        trainer(callbacks=[SampleAnswers(["a"])]).fit(Tuned(llama()), loader())
    with pytest.raises(ConfigError, match=r"sample_prompts\(count\)") as without:
        fit(CausalLM(base), 1, callbacks=[SampleAnswers()])
    snapshot(f"{foreign.value}\n{without.value}")
