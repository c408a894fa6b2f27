"""Each optimiser: what it is made of, its two modes, its memory, and a resumed run with the weights of the unbroken."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Muon, Rprop
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from transformers import LlamaConfig, Trainer, TrainingArguments
from typing_extensions import override

from lightning_neft.callbacks.step_checkpoint import StepCheckpoint
from lightning_neft.callbacks.step_seed import StepSeed
from lightning_neft.data.module import TextData
from lightning_neft.errors import ConfigError
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.memory import Run, estimate
from lightning_neft.models.muon import MuonWithAdamW
from lightning_neft.models.optimizer import OptimizerName, build_optimizer, parameter_groups
from lightning_neft.models.step_trace import Batch
from lightning_neft.models.trainable import LoraOptions
from tiny import llama

# bitsandbytes 0.50 on a CPU, where nothing is paged.
pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers:UserWarning")
NAMES: tuple[OptimizerName, ...] = get_args(OptimizerName)
PACKAGES = {
    "schedule_free_adamw": "schedulefree",
    **dict.fromkeys(("adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"), "bitsandbytes"),
}


def skip_without_package(name: str) -> None:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])


class Averaged(SGD):
    """A stand-in for schedule-free optimisers: it steps on y, and x is evaluated and saved."""

    mode = "eval"

    def train(self) -> None:
        self._move("train", 0.1)

    def eval(self) -> None:
        self._move("eval", 1 - 1 / 0.9)

    @torch.no_grad()
    def _move(self, mode: str, share: float) -> None:
        if self.mode != mode:
            for parameter, state in self.state.items():
                parameter.lerp_(state["z"], share)
        self.mode = mode

    @override
    def step(self, closure: Any = None) -> Any:
        assert self.mode == "train"
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["z"] = parameter.detach() * 1.01
        return loss


RUNS: dict[str, dict[str, Any]] = {
    **{name: {"optimizer": name} for name in NAMES},
    "schedule_free_adamw": {"optimizer": "schedule_free_adamw", "lr_scheduler": "constant_with_warmup"},
    "two modes": {"optimizer": Averaged, "lr_scheduler": "constant"},
    "Muon on adapters": {"optimizer": Muon, "lora": LoraOptions(r=2)},
    "StepLR": {"lr_scheduler": lambda optimizer: StepLR(optimizer, 2)},
}


def fit(base: str, source: str, folder: Path, ckpt_path: Path | None = None, **options: Any) -> CausalLM:
    L.seed_everything(1)
    model = CausalLM(base, learning_rate=0.01, weight_decay=0.01, **options)
    trainer = L.Trainer(
        callbacks=[StepSeed(), StepCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=2,
        max_steps=5,
    )
    trainer.fit(model, TextData(source, base, batch_size=2, val_size=1), ckpt_path=ckpt_path, weights_only=True)
    return model


def differing(first: dict[str, Tensor], second: dict[str, Tensor]) -> list[str]:
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


@pytest.mark.parametrize("optimizer", ["adamw_torch_fused", partial(AdamW, fused=True)], ids=["name", "class"])
def test_fused_gradients_are_clipped_in_mixed_precision(base: str, source: str, optimizer: Any) -> None:
    weights = []
    for clipped in (1e-3, None):
        L.seed_everything(1)
        model = CausalLM(base, learning_rate=0.01, optimizer=optimizer)
        off = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
        trainer = L.Trainer(
            accelerator="cpu",
            precision="bf16-mixed",
            gradient_clip_val=clipped,
            max_steps=2,
            callbacks=[StepSeed()],
            **off,
        )
        trainer.fit(model, TextData(source, base, batch_size=2, val_size=1))
        assert trainer.optimizers[0].defaults["fused"]
        weights.append(model.state_dict())
    assert differing(*weights)


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_ends_with_the_same_weights(base: str, source: str, tmp_path: Path, name: str) -> None:
    skip_without_package(name)
    unbroken = fit(base, source, tmp_path / "unbroken", **RUNS[name]).state_dict()
    first = torch.load(tmp_path / "unbroken" / "step=1.ckpt", weights_only=True)["state_dict"]
    assert differing(first, unbroken)
    for step in (1, 3):
        path = tmp_path / "unbroken" / f"step={step}.ckpt"
        resumed = fit(base, source, tmp_path / f"from {step}", path, **RUNS[name]).state_dict()
        assert differing(unbroken, resumed) == [], step


def test_the_averaged_weights_are_validated_and_saved(base: str, source: str, tmp_path: Path) -> None:
    modes: dict[str, list[str]] = {"training": [], "validation": [], "checkpoint": []}

    class Watched(CausalLM):
        def _note(self, where: str) -> None:
            modes[where] += [optimizer.mode for optimizer in self.trainer.optimizers]

        @override
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            self._note("training")
            return super().training_step(batch, batch_idx)

        @override
        def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
            self._note("validation")
            super().validation_step(batch, batch_idx)

        @override
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self._note("checkpoint")
            super().on_save_checkpoint(checkpoint)

    L.seed_everything(1)
    model = Watched(base, learning_rate=0.01, optimizer=Averaged, lr_scheduler="constant")
    trainer = L.Trainer(
        callbacks=[StepCheckpoint(tmp_path / "run", every_n_train_steps=1)],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=2,
        # By time, within an optimiser step.
        val_check_interval="00:00:00:00",
        max_steps=2,
    )
    trainer.fit(model, TextData(source, base, batch_size=2, val_size=1))
    assert [set(found) for found in modes.values()] == [{"train"}, {"eval"}, {"eval"}]
    assert len(modes["validation"]) > 2
    assert trainer.optimizers[0].mode == "eval"


@pytest.mark.parametrize("lr_scheduler", ["cosine", "linear"])
def test_two_modes_refuse_a_schedule(base: str, source: str, tmp_path: Path, lr_scheduler: str) -> None:
    with pytest.raises(ConfigError, match=r"Averaged averages weights .* constant_with_warmup, or constant$"):
        fit(base, source, tmp_path / "run", optimizer=Averaged, lr_scheduler=lr_scheduler)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "muon"])
def test_a_name_is_the_optimiser_of_transformers(name: OptimizerName, tmp_path: Path) -> None:
    skip_without_package(name)
    arguments = TrainingArguments(tmp_path, optim=name, learning_rate=0.1, weight_decay=0.2, use_cpu=True)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    linear = nn.Linear(3, 2)
    theirs = kind(parameter_groups(linear.parameters(), 0.2), **options)
    ours = build_optimizer(linear, name, 0.1, 0.2)
    assert type(ours) is type(theirs)
    for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert {**mine, "params": None} == {**other, "params": None}
    if PACKAGES.get(name) == "bitsandbytes":
        assert (vars(ours.args), ours.is_paged) == (vars(theirs.args), theirs.is_paged)


def test_muon_has_the_hidden_matrices_and_adamw_the_rest() -> None:
    model = llama(tie_word_embeddings=False)
    optimizer = build_optimizer(model, "muon", 0.01, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        (group["use_muon"], group["weight_decay"]): sorted(names[id(p)] for p in group["params"])
        for group in optimizer.param_groups
    }
    matrices = sorted(name for name in names.values() if ".layers." in name and "norm" not in name)
    norms = sorted(name for name in names.values() if "norm" in name)
    assert found == {
        (True, 0.1): matrices,
        (False, 0.1): ["lm_head.weight", "model.embed_tokens.weight"],
        (False, 0.0): norms,
    }


def test_muon_steps_as_its_two_parts_do() -> None:
    def trained(make: Any) -> dict[str, Tensor]:
        model = llama()
        optimizers, schedules = make(model)
        for seed in range(3):
            ids = torch.randint(1, 60, (2, 8), generator=torch.Generator().manual_seed(seed))
            model(input_ids=ids, labels=ids).loss.backward()
            for each in (*optimizers, *schedules):
                each.step()
            model.zero_grad()
        return dict(model.state_dict())

    def together(model: nn.Module) -> Any:
        optimizer = build_optimizer(model, "muon", 0.01, 0.1)
        return [optimizer], [StepLR(optimizer, 1)]

    def apart(model: nn.Module) -> Any:
        named = dict(model.named_parameters())
        hidden = [p for name, p in named.items() if p.ndim == 2 and ".layers." in name]
        tables = [p for name, p in named.items() if "embed" in name or "head" in name]
        norms = [{"params": [p for p in named.values() if p.ndim == 1], "weight_decay": 0.0}]
        optimizers = [
            Muon(hidden, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            AdamW([{"params": tables, "weight_decay": 0.1}, *norms], lr=0.01),
        ]
        return optimizers, [StepLR(each, 1) for each in optimizers]

    assert differing(trained(together), trained(apart)) == []


@pytest.mark.parametrize("kind", ["biases alone", "matrices alone"])
def test_muon_with_one_part(kind: str) -> None:
    linear = nn.Linear(3, 2)
    frozen = linear.weight if kind == "biases alone" else linear.bias
    frozen.requires_grad_(False)
    optimizer = MuonWithAdamW(parameter_groups(linear.parameters(), 0.0), lr=0.1)
    linear(torch.ones(3)).sum().backward()
    before = linear.weight.clone(), linear.bias.clone()
    assert optimizer.step(lambda: 3.0) == 3.0
    assert [torch.equal(a, b) for a, b in zip(before, linear.parameters(), strict=True)] == [
        kind == "biases alone",
        kind == "matrices alone",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"optimizer": Muon}, "Muon only supports 2D.*; model.optimizer=muon trains the others with AdamW$"),
        ({"optimizer": Rprop}, r"model.weight_decay=0.01: Rprop has no weight decay; omit it$"),
        ({"optimizer": lambda groups: SGD(groups)}, r"^model.optimizer: .*unexpected keyword argument 'lr'$"),
        ({"lr_scheduler": StepLR}, r"^model.lr_scheduler: .*'step_size'$"),
        ({"lr_scheduler": ReduceLROnPlateau}, "lightning.pytorch.cli.ReduceLROnPlateau"),
    ],
)
def test_what_cannot_be_made_is_one_line(
    base: str, source: str, tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        fit(base, source, tmp_path / "run", **options)


def test_a_missing_package_is_reported_before_the_data_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_neft.models.optimizer.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^model.optimizer=adamw_8bit needs bitsandbytes: pip install bitsandbytes$"):
        CausalLM("nowhere", optimizer="adamw_8bit").setup("fit")
    CausalLM("nowhere", optimizer="adamw_8bit").setup("validate")


CONFIG = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "vocab_size": 200}


@pytest.mark.parametrize("name", [*NAMES, "SGD with momentum"])
@pytest.mark.parametrize("layers", [2, 9])
def test_the_estimate_counts_the_states(name: str, layers: int) -> None:
    skip_without_package(name)
    from transformers import LlamaForCausalLM

    optimizer: Any = name if name in NAMES else lambda groups, lr: SGD(groups, lr=lr, momentum=0.9)
    config = LlamaConfig(num_hidden_layers=layers, **CONFIG)
    module = CausalLM("any", optimizer=optimizer)
    found = estimate(module, config, Run(Batch(2, 16, 8)))
    # The step of the optimiser is no part of the step of the model; AdamW's needs two tensors more unless it is fused.
    plain = estimate(CausalLM("any", optimizer="adamw_torch"), config, Run(Batch(2, 16, 8)))
    assert (
        found.activations < plain.activations
        if name == "adamw_torch_fused"
        else found == replace(plain, states=found.states)
    )
    module.adopt(LlamaForCausalLM(config))
    made = module.make_optimizer()
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    if name == "schedule_free_adamw":
        made.train()
    made.step()
    states = [value for state in made.state.values() for value in state.values() if isinstance(value, Tensor)]
    # Tables of values of 8 bits are shared.
    expected = sum({value.data_ptr(): value.nbytes for value in states if value.ndim}.values())
    assert found.states == pytest.approx(expected, rel=1e-3)
    assert not found.assumes_adamw


def test_an_optimiser_that_cannot_be_traced_counts_as_adamw() -> None:
    class OfItsDevice(SGD):
        @override
        def step(self, closure: Any = None) -> Any:
            raise RuntimeError("needs a device")

    found = estimate(CausalLM("any", optimizer=OfItsDevice), LlamaConfig(**CONFIG), Run(Batch(2, 16, 8)))
    assert found.assumes_adamw
    assert found.states == 2 * found.gradients
