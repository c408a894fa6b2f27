"""`CausalLM`: weights, losses, optimiser, adapters, checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_neft.data.module import TextData
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.models.blocked_loss import HeadInput
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.loss import mean_loss
from lightning_neft.models.trainable import LoraOptions


def quiet_trainer(**options: Any) -> L.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**{**defaults, **options})


def built(base: str, **options: Any) -> CausalLM:
    model = CausalLM(base, **options)
    model.configure_model()
    return model


def test_weights_have_the_precision_of_the_trainer(base: str) -> None:
    assert {parameter.dtype for parameter in built(base).parameters()} == {torch.float32}


def test_bf16_true_builds_in_bfloat16(base: str, source: str) -> None:
    model = CausalLM(base)
    dtypes: list[torch.dtype] = []
    model.on_fit_start = lambda: dtypes.extend(parameter.dtype for parameter in model.parameters())
    quiet_trainer(precision="bf16-true", max_steps=1).fit(model, TextData(source, base, batch_size=2))
    assert set(dtypes) == {torch.bfloat16}


def test_a_second_configure_model_keeps_the_model(base: str) -> None:
    model = built(base)
    first = model.model
    model.configure_model()
    assert model.model is first


def test_every_module_trains_in_a_fit_and_validates_in_eval_mode(base: str, source: str) -> None:
    seen: dict[str, set[bool]] = {"train": set(), "val": set()}

    class Watched(CausalLM):
        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            seen["train"] |= {module.training for module in self.model.modules()}
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            seen["val"] |= {module.training for module in self.model.modules()}
            super().validation_step(batch, batch_idx)

    quiet_trainer(val_check_interval=2).fit(Watched(base), TextData(source, base, batch_size=2))
    assert seen == {"train": {True}, "val": {False}}


def test_dropout_is_on_in_a_training_step(base: str) -> None:
    model = built(base)
    batch = {"input_ids": torch.arange(3, 9)[None], "labels": torch.arange(3, 9)[None]}
    losses = {mean_loss(model.predictions(batch)).item() for _ in range(4)}
    assert len(losses) > 1
    model.eval()
    assert len({mean_loss(model.predictions(batch)).item() for _ in range(4)}) == 1


def held_out_by_hand(model: CausalLM, data: TextData) -> tuple[float, float]:
    """Loss and accuracy over all labelled tokens, one sample at a time without padding, by the model's own loss."""
    model.eval()
    total = tokens = hits = 0.0
    for sample in data.prepared.held_out:
        wanted = sample.labels.tolist()
        ids, labels = torch.tensor([sample.input_ids.tolist()]), torch.tensor([wanted])
        count = sum(label != -100 for label in wanted)
        with torch.no_grad():
            output = model.model(input_ids=ids, labels=labels)
        total += output.loss.item() * count
        guesses = output.logits[0].argmax(-1).tolist()
        hits += sum(guesses[place - 1] == label for place, label in enumerate(wanted) if label != -100)
        tokens += count
    return total / tokens, hits / tokens


@pytest.mark.parametrize("verb", ["validate", "test"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_held_out_metrics_are_means_over_tokens(base: str, source: str, batch_size: int, verb: str) -> None:
    model = built(base)
    data = TextData(source, base, batch_size=batch_size, val_size=8)
    (metrics,) = getattr(quiet_trainer(), verb)(model, data, verbose=False)
    stage = "val" if verb == "validate" else "test"
    loss, accuracy = held_out_by_hand(model, data)
    assert 0 < accuracy < 1
    assert metrics == {
        f"{stage}/loss": pytest.approx(loss, rel=1e-5),
        f"{stage}/perplexity": pytest.approx(math.exp(loss), rel=1e-5),
        f"{stage}/token_accuracy": pytest.approx(accuracy, rel=1e-5),
    }


def test_held_out_metrics_follow_the_weights_of_the_data(base: str) -> None:
    model = built(base)
    ids = torch.arange(3, 15)[None]
    logits = model.model.eval()(input_ids=ids).logits[0].detach()
    guesses, index = logits.argmax(-1), torch.tensor([2, 5, 8])
    targets = torch.stack([guesses[2], (guesses[5] + 1) % 29, guesses[8]])
    weights = torch.tensor([0.25, 1.0, 0.5])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    batch |= {"loss_index": index, "loss_targets": targets, "loss_token_weights": weights}
    data = torch.utils.data.DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    (metrics,) = quiet_trainer().validate(model, data, verbose=False)
    losses = torch.nn.functional.cross_entropy(logits[index], targets, reduction="none")
    assert metrics["val/loss"] == pytest.approx(((losses * weights).sum() / 1.75).item(), rel=1e-5)
    assert metrics["val/token_accuracy"] == pytest.approx(0.75 / 1.75)


def test_the_loss_of_the_base_and_the_last_validation_are_kept(base: str, source: str) -> None:
    model, data = CausalLM(base, learning_rate=0.0), TextData(source, base, batch_size=2, val_size=3)
    quiet_trainer(num_sanity_val_steps=-1).fit(model, data)
    assert model.loss_before_fit == pytest.approx(held_out_by_hand(model, data)[0], rel=1e-5)
    assert model.last_validation == (4, pytest.approx(model.loss_before_fit))
    shortened = CausalLM(base)
    quiet_trainer(num_sanity_val_steps=1).fit(shortened, data)
    assert shortened.loss_before_fit is None


def test_the_learning_rate_warms_up_and_falls_as_a_cosine(base: str, source: str) -> None:
    rates: list[float] = []
    model = CausalLM(base, learning_rate=0.4, warmup_ratio=0.2)
    model.on_before_zero_grad = lambda optimizer: rates.append(optimizer.param_groups[0]["lr"])
    quiet_trainer(max_epochs=5, limit_val_batches=0).fit(model, TextData(source, base, batch_size=2, val_size=1))
    # 5 batches in each of 5 epochs; warm-up of 5 steps.
    warmup = [0.4 * step / 5 for step in range(5)]
    cosine = [0.2 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    assert rates == pytest.approx(warmup + cosine)


def test_only_matrices_decay(base: str, source: str) -> None:
    model = built(base, weight_decay=0.1)
    model.trainer = quiet_trainer(max_steps=3)
    optimizer = model.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.AdamW)
    decays = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert set(decays) == set(model.parameters())
    assert all(decay == (0.1 if parameter.ndim > 1 else 0.0) for parameter, decay in decays.items())


def test_a_run_without_an_end_has_no_schedule(base: str, source: str) -> None:
    with pytest.raises(ConfigError, match=r"set trainer.max_epochs or trainer.max_steps"):
        quiet_trainer(max_epochs=-1).fit(CausalLM(base), TextData(source, base, batch_size=2))


def test_lora_trains_adapters_only(base: str, source: str) -> None:
    model = built(base, lora=LoraOptions(r=4, alpha=8), learning_rate=0.1)
    assert model.model.peft_config["default"].lora_alpha == 8
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quiet_trainer().fit(model, TextData(source, base, batch_size=2))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed == trained
    assert trained
    assert all(".lora_" in name for name in trained)
    # All linear layers of both blocks, but not the head.
    assert len(trained) == 2 * 2 * 7


def test_lora_options_that_do_not_fit_are_named(base: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.lora: Target modules .*foo.* not found"):
        built(base, lora=LoraOptions(target_modules=["foo"]))


def test_a_checkpoint_loads_with_the_options_of_the_caller(base: str, source: str, tmp_path: Path) -> None:
    model, trainer = CausalLM(base, learning_rate=0.1), quiet_trainer(max_steps=2)
    trainer.fit(model, TextData(source, base, batch_size=2))
    path = tmp_path / "c.ckpt"
    trainer.save_checkpoint(path)
    assert "hyper_parameters" not in torch.load(path, weights_only=True)
    loaded = CausalLM.load_from_checkpoint(path, base=base, learning_rate=0.5)
    assert loaded.learning_rate == 0.5
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -1.0}, r"model.learning_rate must be 0 or more, got -1.0"),
        ({"weight_decay": -0.1}, r"model.weight_decay must be 0 or more, got -0.1"),
        ({"warmup_ratio": 1.5}, r"model.warmup_ratio must be between 0 and 1, got 1.5"),
        ({"learning_rate": float("nan")}, r"model.learning_rate must be 0 or more, got nan"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CausalLM(**options)


def test_a_base_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model base '\./nowhere': no such folder"):
        built("./nowhere")
    with pytest.raises(ModelError, match=r"the weights of model base '.*' cannot be loaded: ") as caught:
        built(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Llama", "Gemma 2", "OPT", "BLOOM", "GPT-2", "Falcon", "Mistral", "Mamba-2"])
def test_right_padded_batches_need_no_mask(name: str, base: str) -> None:
    from lightning_neft.data.batching.collate import Collator
    from lightning_neft.data.batching.plan import PlannedBatch
    from lightning_neft.data.tokenization import EncodedSample
    from matrix.checks import case_of

    module = CausalLM(base)
    module.model = case_of(name).model.eval()
    module.on_model_built()
    seen: list[bool] = []
    module.model.register_forward_pre_hook(
        lambda model, args, kwargs: seen.append("attention_mask" in kwargs), with_kwargs=True
    )
    rows = tuple((EncodedSample(list(range(5, 5 + n)), [-100] * 2 + list(range(7, 5 + n))),) for n in (9, 4, 6))
    batch = Collator(0)(PlannedBatch(rows))
    plain = {key: value for key, value in batch.items() if not key.startswith("loss_")}
    torch.testing.assert_close(mean_loss(module.predictions(batch)), mean_loss(module.predictions(plain)))
    # Two passes find out at the first batch how the loss can be computed.
    assert seen == [False] * 3 + [True]
    assert isinstance(module.output_head.plan, HeadInput)
