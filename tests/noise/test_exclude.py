"""Token ids without noise."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn
from transformers import AutoTokenizer

from lightning_neft import EmbeddingNoise, NEFTune
from lightning_neft.callback import special_ids
from lightning_neft.cli.main import main
from lightning_neft.errors import ConfigError, NoNoiseError
from lightning_neft.hub.names import resolve_base
from tiny import batch, llama


def noise_on(model: nn.Module, given: dict[str, torch.Tensor], **options: object) -> torch.Tensor:
    """What is added to the embedding, (B, L, d)."""
    table, seen = model.get_input_embeddings(), []
    noise = EmbeddingNoise(5, **options).attach(model)
    with noise.armed(given, 0), table.register_forward_hook(lambda *call: seen.append(call[-1].detach())):
        model(**given)
    noise.detach()
    return seen[0] - table(given["input_ids"]).detach()


@pytest.mark.parametrize("padding", ["right", "left"])
def test_excluded_ids_get_no_noise_and_others_theirs(padding: str) -> None:
    model, given = llama(), batch([12, 7], side=padding)
    ids = given["input_ids"]
    chosen = [int(ids[0, 5]), int(ids[1, 6])]
    every, some = noise_on(model, given), noise_on(model, given, exclude=chosen)
    is_excluded = torch.isin(ids, torch.tensor(chosen))
    assert is_excluded.any()
    assert not some[is_excluded].any()
    # They count in L, so that the noise of the others is the same.
    assert torch.equal(some[~is_excluded], every[~is_excluded])
    assert every[is_excluded & (given["attention_mask"] == 1)].all()


@pytest.mark.parametrize("options", [{"length": "padded"}, {"scale": "relative"}, {"antithetic": True}])
def test_it_goes_with_other_options(options: dict[str, object]) -> None:
    model, given = llama(), {key: torch.cat([value] * 2) for key, value in batch([8, 8]).items()}
    chosen = sorted(set(given["input_ids"][0, :3].tolist()))
    found = noise_on(model, given, exclude=chosen, **options)
    is_excluded = torch.isin(given["input_ids"], torch.tensor(chosen))
    assert not found[is_excluded].any()
    assert found[~is_excluded].any(-1).all()


def test_the_strength_counts_noised_tokens_alone() -> None:
    model, given = llama(), batch([30, 30])
    strengths = []
    for exclude in ((), given["input_ids"][0, :20].tolist()):
        noise = EmbeddingNoise(5, exclude=exclude).attach(model)
        noise.arm(given, 0, measure=True)
        model(**given)
        strengths.append(noise.disarm())
        noise.detach()
    every, some = strengths
    assert some.noise_rms.item() == pytest.approx(every.noise_rms.item(), rel=0.05)


def test_an_embedding_of_something_else_is_an_error() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(4, 8)

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return self.embed(frames)

    model = Projected()
    noise = EmbeddingNoise(5, target="embed", exclude=[0], length=3).attach(model)
    with (
        pytest.raises(NoNoiseError, match=r"exclude=\(0,\) names token ids, but embed was called with torch.float32"),
        noise.armed({"frames": torch.ones(2, 3, 4)}, 0),
    ):
        model(torch.ones(2, 3, 4))


@pytest.mark.parametrize("value", ["eos", [-1], [0.5], 3, [None], [True]])
def test_what_is_no_list_of_ids_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="use a list of token ids"):
        EmbeddingNoise(5, exclude=value)


class WithTokenizer(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(resolve_base("tiny"))
        self.model = llama()


def test_special_takes_added_tokens_too() -> None:
    module = WithTokenizer()
    before = special_ids(module)
    assert set(module.tokenizer.all_special_ids) <= set(before)
    module.tokenizer.add_tokens(["<tool_call>"])
    assert set(special_ids(module)) - set(before) == {module.tokenizer.convert_tokens_to_ids("<tool_call>")}


def test_special_needs_a_tokenizer() -> None:
    module = L.LightningModule()
    trainer = L.Trainer(logger=DummyLogger(), accelerator="cpu", enable_checkpointing=False)
    with pytest.raises(ConfigError, match="tokenizer is none: pass the ids"):
        NEFTune(exclude="special").on_fit_start(trainer, module)


def test_the_program_excludes_special_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []
    attach = EmbeddingNoise.attach

    def noted(noise: EmbeddingNoise, module: nn.Module) -> EmbeddingNoise:
        seen.append((noise.exclude, special_ids(module)))
        return attach(noise, module)

    monkeypatch.setattr(EmbeddingNoise, "attach", noted)
    options = ["--neftune.exclude=special", "--data.template=chatml", "--trainer.max_steps=1", "--samples=0"]
    assert main(["fit", "--config", "quickstart", *options]) == 0
    ((exclude, expected),) = seen
    assert exclude == expected
    tokenizer = AutoTokenizer.from_pretrained(next(tmp_path.glob("runs/**/model")))
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") in exclude
