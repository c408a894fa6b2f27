"""What an arm reports: checksums of its batches and weights, and the curves of its logs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.templates.bundled import BundledTemplate
from lightning_neft.models.language_models import CausalLM
from lightning_neft.study.measure import Fingerprint, _answers, read_curves


def digest(*batches: list[list[int]]) -> str | None:
    fingerprint = Fingerprint()
    for ids in batches:
        fingerprint.on_train_batch_start(None, None, {"input_ids": torch.tensor(ids)}, 0)  # type: ignore[arg-type]
    return fingerprint.digests()["data"]


def test_the_checksum_depends_on_order_content_and_number() -> None:
    one, other = [[1, 2, 3]], [[4, 5, 6]]
    different = [(one,), (other,), (one, other), (other, one), (one, one), ([[1, 3, 2]],), ([[1, 2, 3, 0]],), ()]
    assert len({digest(*batches) for batches in different}) == len(different)
    assert digest(one, other) == digest(one, other)


def test_a_resumed_run_has_the_checksums_of_an_unbroken_one() -> None:
    whole, first, second = Fingerprint(), Fingerprint(), Fingerprint()
    model = torch.nn.Linear(3, 2)
    batches = [{"input_ids": torch.tensor([[n, n + 1]]), "labels": torch.tensor([[-100, n]])} for n in range(4)]

    def see(fingerprint: Fingerprint, some: list[Any]) -> None:
        fingerprint.on_train_start(None, model)  # type: ignore[arg-type]
        for batch in some:
            fingerprint.on_train_batch_start(None, model, batch, 0)  # type: ignore[arg-type]

    see(whole, batches)
    see(first, batches[:2])
    second.load_state_dict(first.state_dict())
    torch.nn.init.zeros_(model.weight)  # the training has changed the weights meanwhile
    see(second, batches[2:])
    assert second.digests() == whole.digests()
    assert all(isinstance(value, int) for value in second.state_dict().values())


def test_the_checksum_covers_only_trainable_weights() -> None:
    torch.manual_seed(0)
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    found = []
    for model in (one, other):
        fingerprint = Fingerprint()
        fingerprint.on_train_start(None, model)  # type: ignore[arg-type]
        found.append(fingerprint.digests()["weights"])
    assert found[0] != found[1]
    for model in (one, other):
        model.requires_grad_(False)
        fingerprint = Fingerprint()
        fingerprint.on_train_start(None, model)  # type: ignore[arg-type]
        assert fingerprint.digests()["weights"] == "0" * 16


def test_two_dtypes_of_weights_are_summed() -> None:
    fingerprint = Fingerprint()
    fingerprint.on_train_start(None, torch.nn.Linear(3, 2, dtype=torch.bfloat16))  # type: ignore[arg-type]
    assert fingerprint.digests()["weights"] not in (None, "0" * 16)


def test_a_resumed_run_has_one_curve_without_repeated_steps(tmp_path: Path) -> None:
    # version_10 comes after version_2: by number, not by name.
    for version, rows in (("2", ["1,3.0,", "2,2.5,4.0", "3,2.0,"]), ("10", ["3,1.9,", "4,1.5,3.5"])):
        folder = tmp_path / f"version_{version}"
        folder.mkdir()
        (folder / "metrics.csv").write_text("\n".join(["step,train/loss,val/loss", *rows]) + "\n", encoding="utf-8")
    found = read_curves(tmp_path)
    assert found["train/loss"] == [[1, 3.0], [2, 2.5], [3, 1.9], [4, 1.5]]
    assert found["val/loss"] == [[2, 4.0], [4, 3.5]]
    assert found["neft/noise_to_signal"] == []


def test_a_prompt_without_room_for_an_answer_is_passed_over() -> None:
    """A fit cuts samples that are longer than the model's positions."""
    model = CausalLM("tiny")
    model.configure_model()
    prepared = SimpleNamespace(tokenizer=model.tokenizer(), template=BundledTemplate("alpaca"))
    questions = ["long " * model.model.config.max_position_embeddings, "one", "two", "three"]
    samples = [Conversation.exchange(question, "") for question in questions]
    answers = _answers(model, SimpleNamespace(prepared=prepared), samples, 2, 1)  # type: ignore[arg-type]
    assert [answer["instruction"] for answer in answers] == ["one", "two"]
