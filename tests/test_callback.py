"""The callback inside Trainer.fit: on in training batches alone, an error if it cannot be, gone afterwards."""

from __future__ import annotations

import math

import lightning as L
import pytest
import torch
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader

from lightning_neft import NEFTune
from lightning_neft.errors import (
    AmbiguousEmbeddingError,
    ConfigError,
    DuplicateNoiseError,
    LengthsError,
    NoNoiseError,
)
from tiny import LoggedRows, Recorder, Tuned, batch, llama, loader, t5, trainer, transformers_hook


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def fitted(callbacks, module=None, data=None, **options):
    module = module or Tuned(llama())
    trainer(callbacks=callbacks, **options).fit(module, data or loader())
    return weights(module)


class AddedNoise(L.Callback):
    """Measures from outside what a batch adds to the embedding: its output less the table's rows."""

    def __init__(self, embedding: nn.Module) -> None:
        self.embedding, self.noise = embedding, []
        self.embedding.register_forward_hook(self.record)

    def record(self, module, args, output):
        self.noise.append((output - nn.functional.embedding(args[0], module.weight)).detach())


def test_noise_is_applied_to_a_model_in_eval_mode(tmp_path):
    """Lightning keeps the eval mode of from_pretrained, in which the transformers hook does nothing."""
    from transformers import LlamaForCausalLM

    llama(hidden_size=1024).save_pretrained(tmp_path)

    def noise_over_a_fit(callbacks, transformers_alpha=None):
        model = LlamaForCausalLM.from_pretrained(tmp_path)
        if transformers_alpha:
            model.model.embed_tokens.neftune_noise_alpha = transformers_alpha
            model.model.embed_tokens.register_forward_hook(transformers_hook())
        measured = AddedNoise(model.model.embed_tokens)
        module = Tuned(model)
        modes = []
        module.on_train_batch_start = lambda *args: modes.append(model.model.embed_tokens.training)
        given = DataLoader([{k: v[0] for k, v in batch([9]).items()}] * 4, batch_size=2)
        trainer(callbacks=callbacks(measured), max_steps=2).fit(module, given)
        assert modes == [False, False]
        return torch.cat(measured.noise)

    theirs = noise_over_a_fit(lambda measured: [], transformers_alpha=5)
    assert theirs.abs().max() == 0.0

    class Later(L.Callback):
        """Registers the recorder behind the noise's own hook."""

        def __init__(self, measured):
            self.measured = measured

        def on_train_start(self, *_):
            embedding = self.measured.embedding
            embedding._forward_hooks.move_to_end(next(iter(embedding._forward_hooks)))

    ours = noise_over_a_fit(lambda measured: [NEFTune(alpha=5), Later(measured)])
    expected = 5 / math.sqrt(3 * 9 * 1024)
    assert ours.square().mean().sqrt().item() == pytest.approx(expected, rel=0.02)


def test_alpha_zero_and_no_callback_train_to_the_same_bits():
    plain = fitted([])
    assert torch.equal(fitted([NEFTune(alpha=0)]), plain)
    assert not torch.equal(fitted([NEFTune(alpha=5)]), plain)
    assert torch.equal(fitted([NEFTune(alpha=5)]), fitted([NEFTune(alpha=5)]))


def test_dropout_and_data_order_do_not_depend_on_the_noise():
    """The noise moves no global random state: what is drawn after it is drawn alike."""
    drawn = {}
    for alpha in (0, 5):
        L.seed_everything(1, verbose=False)
        module = Tuned(llama(attention_dropout=0.5).train())
        draws = drawn[alpha] = []
        module.on_train_batch_end = lambda outputs, given, i, draws=draws: draws.append(
            (torch.rand(()).item(), given["input_ids"].sum().item())
        )
        trainer(callbacks=[NEFTune(alpha=alpha)]).fit(module, DataLoader(loader().dataset, batch_size=4, shuffle=True))
    assert len(drawn[5]) == 4
    assert drawn[0] == drawn[5]


class Busy(Tuned):
    """Generates and runs a reference pass without gradients inside training_step, and validates between batches."""

    def __init__(self, model):
        super().__init__(model)
        self.seen = []

    def keep(self, name, tensor):
        self.seen.append((name, tensor.detach().clone()))

    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            self.keep("reference", self.model(**batch).logits)
            self.keep("generated", self.model.generate(batch["input_ids"][:1, :3], max_new_tokens=4, do_sample=False))
        return self.model(**batch).loss

    def validation_step(self, batch, batch_idx):
        self.keep("validated", self.model(**batch).logits)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)  # the weights stay, so that passes can be compared


def test_everything_but_the_training_pass_is_clean():
    def run(callbacks, **options):
        module = Busy(llama())
        trainer(callbacks=callbacks, num_sanity_val_steps=1, val_check_interval=2, **options).fit(
            module, loader(), loader(4)
        )
        return module.seen

    for inference_mode in (True, False):
        noisy, plain = run([NEFTune(50)], inference_mode=inference_mode), run([], inference_mode=inference_mode)
        assert [name for name, _ in noisy].count("validated") == 3
        assert [name for name, _ in noisy].count("reference") == 4
        assert [name for name, _ in noisy] == [name for name, _ in plain]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(noisy, plain, strict=True))


def test_the_model_is_unchanged_after_fit_and_an_exception():
    def shape_of(module):
        hooks = {n: (len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in module.named_modules()}
        return list(module.state_dict()), hooks, sorted(vars(module.model))

    module = Tuned(llama())
    before = shape_of(module)
    callback = NEFTune()
    during = []
    module.on_train_batch_end = lambda *_: during.append(len(module.model.get_input_embeddings()._forward_hooks))
    for _ in range(2):
        trainer(callbacks=[callback], max_steps=2).fit(module, loader())
        assert shape_of(module) == before
    assert during == [1, 1, 1, 1]

    class Failing(Tuned):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            raise ZeroDivisionError("mine")

    failing = Failing(llama())
    with pytest.raises(ZeroDivisionError, match="mine"):
        trainer(callbacks=[callback]).fit(failing, loader())
    assert shape_of(failing) == before
    given = batch([4, 6])
    assert torch.equal(failing.model(**given).logits, llama()(**given).logits)


class Embeds(Tuned):
    def training_step(self, batch, batch_idx):
        embeds = nn.functional.embedding(batch["input_ids"], self.model.get_input_embeddings().weight)
        return self.model(inputs_embeds=embeds, labels=batch["labels"]).loss


class NoGrad(Tuned):
    def training_step(self, batch, batch_idx):
        with torch.no_grad():
            hidden = self.model.model(**{k: v for k, v in batch.items() if k != "labels"}).last_hidden_state
        return self.model.lm_head(hidden).sum()


class Replaced(Tuned):
    def on_train_start(self):
        self.model.set_input_embeddings(nn.Embedding.from_pretrained(self.model.get_input_embeddings().weight))


class OtherModel(Tuned):
    def on_train_start(self):
        object.__setattr__(self, "other", llama())

    def training_step(self, batch, batch_idx):
        return self.other(**batch).loss


class NoModel(Tuned):
    def training_step(self, batch, batch_idx):
        return self.model.lm_head.weight.sum()


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (lambda: Embeds(llama()), {}),
        (lambda: NoGrad(llama()), {}),
        (lambda: Replaced(llama()), {}),
        (lambda: OtherModel(llama()), {}),
        (lambda: NoModel(llama()), {}),
        (lambda: Tuned(t5()), {"target": lambda root: root.model.shared}),
    ],
    ids=["inputs_embeds", "no_grad", "replaced", "another model", "no forward pass", "shared of an encoder-decoder"],
)
def test_a_batch_without_noise_is_an_error_with_its_reason(module, options, snapshot):
    with pytest.raises(NoNoiseError, match=r"model\.(model\.embed_tokens|shared)") as error:
        fitted([NEFTune(**options)], module())
    assert "\n" not in str(error.value)
    snapshot(str(error.value))


def test_noise_that_stops_later_is_an_error_too():
    class Stops(Tuned):
        def training_step(self, batch, batch_idx):
            return (Embeds if batch_idx == 2 else Tuned).training_step(self, batch, batch_idx)

    with pytest.raises(NoNoiseError):
        fitted([NEFTune()], Stops(llama()))


def test_a_mask_without_tokens_is_an_error():
    given = [{**{k: v[0] for k, v in batch([5]).items()}, "attention_mask": torch.zeros(5).long()}] * 4
    with pytest.raises(NoNoiseError, match=r"batch 0: attention_mask .*batch_to_mask"):
        fitted([NEFTune()], data=DataLoader(given, batch_size=2))
    earlier = [{k: v[0] for k, v in batch([5]).items()}] * 4
    with pytest.raises(NoNoiseError, match=r"batch 2: attention_mask .*batch_to_mask"):
        fitted([NEFTune()], data=DataLoader(earlier + given, batch_size=2))


class Turns(Tuned):
    """Trains the embedding's model in some batches only, as a GAN's or one of several tasks does."""

    noisy = ()

    def training_step(self, batch, batch_idx):
        return (Tuned if batch_idx in self.noisy else Embeds).training_step(self, batch, batch_idx)


@pytest.mark.parametrize(
    ("required", "noisy", "is_enough"),
    [
        ("always", (0, 2), False),
        ("first", (0, 2), True),
        ("first", (1, 2, 3), False),
        ("epoch", (1, 3), True),
        ("epoch", (), False),
    ],
)
def test_which_batches_have_to_get_noise(required, noisy, is_enough):
    module = Turns(llama())
    module.noisy = noisy
    run = {"callbacks": [NEFTune(required=required)], "module": module, "max_steps": -1, "max_epochs": 2}
    if is_enough:
        fitted(**run)
    else:
        with pytest.raises(NoNoiseError, match=r"embed_tokens was never called.*required='first'"):
            fitted(**run)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_a_resumed_fit_begins_with_any_batch_of_the_run(tmp_path):
    module = Turns(llama())
    module.noisy = (0, 2)
    first = trainer(callbacks=[NEFTune(required="first")], max_steps=1)
    first.fit(module, loader())
    first.save_checkpoint(tmp_path / "one.ckpt")
    # The next batch trains another part.
    resumed = trainer(callbacks=[NEFTune(required="first")])
    resumed.fit(module, loader(), ckpt_path=tmp_path / "one.ckpt")
    assert resumed.global_step == 4


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_only_a_whole_epoch_is_known_to_lack_noise(tmp_path):
    def fit(noisy, steps, **options):
        module = Turns(llama())
        module.noisy = noisy
        run = trainer(callbacks=[NEFTune(required="epoch")], max_steps=steps)
        run.fit(module, loader(), **options)
        return run

    run = fit((3,), 6)  # an epoch of 4 batches, and two more
    assert run.global_step == 6
    run.save_checkpoint(tmp_path / "six.ckpt")
    assert fit((0,), 8, ckpt_path=tmp_path / "six.ckpt").global_step == 8
    with pytest.raises(NoNoiseError, match="embed_tokens was never called"):
        fit((), 12, ckpt_path=tmp_path / "six.ckpt")  # the third epoch is whole
    with pytest.raises(NoNoiseError, match="embed_tokens was never called"):
        fit((), 2)


def test_an_epoch_of_an_earlier_fit_is_not_that_of_the_next():
    module = Turns(llama())
    module.noisy = (0,)

    class Fails(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            raise RuntimeError("after the first batch")

    noise = NEFTune(required="epoch")
    with pytest.raises(RuntimeError):
        fitted([noise, Fails()], module)
    module.noisy = ()
    with pytest.raises(NoNoiseError, match="embed_tokens was never called"):
        fitted([noise], module)


def test_required_of_another_kind_is_an_error():
    with pytest.raises(ConfigError, match=r"required='never'.*always, first, epoch"):
        NEFTune(required="never")


@pytest.mark.parametrize("finder", ["lr_find", "scale_batch_size"])
def test_a_search_without_the_callbacks_warns(finder, tmp_path, snapshot):
    class Searched(Tuned):
        lr, batch_size = 1e-3, 2

        def train_dataloader(self):
            return DataLoader(loader(8).dataset, batch_size=self.batch_size)

    run = trainer(callbacks=[NEFTune()], default_root_dir=tmp_path)
    options = {"num_training": 2} if finder == "lr_find" else {"max_trials": 1, "steps_per_trial": 1}
    with pytest.warns(UserWarning, match="NEFTune: .*Finder") as caught:
        getattr(Tuner(run), finder)(Searched(llama()), **options)
    snapshot("\n".join({str(warning.message) for warning in caught if "NEFTune" in str(warning.message)}))


def test_a_skipped_batch_is_no_error():
    class Skips(Tuned):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    with pytest.warns(UserWarning, match="returned `None`"):
        fitted([NEFTune()], Skips(llama()))


def test_an_epoch_that_ends_by_minus_one_leaves_nothing_armed():
    class Ends(Tuned):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 1 else None

        def on_train_epoch_end(self):
            given = globals()["batch"]([4, 6])
            self.clean = torch.equal(self.model(**given).logits, llama()(**given).logits)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    module = Ends(llama())
    trainer(callbacks=[NEFTune(50)], max_steps=-1, max_epochs=1).fit(module, loader())
    assert module.clean


def test_two_callbacks_are_an_error(snapshot):
    with pytest.raises(DuplicateNoiseError, match="NEFTune callback") as error:
        fitted([NEFTune(), NEFTune()])
    snapshot(str(error.value))


def test_two_models_are_an_error_until_a_target_says_which():
    class Pair(Tuned):
        def __init__(self):
            super().__init__(llama())
            self.second = llama()

    with pytest.raises(AmbiguousEmbeddingError, match="model, second"):
        fitted([NEFTune()], Pair())
    fitted([NEFTune(target="model")], Pair())


class Configured(Tuned):
    """Builds its model late, and as often as Lightning asks."""

    def __init__(self, compiled=False):
        super().__init__(nn.Identity())
        self.compiled = compiled

    def configure_model(self):
        if isinstance(self.model, nn.Identity):
            self.model = llama()
            if self.compiled:
                self.model.compile()


def test_a_model_built_in_configure_model_gets_the_noise():
    assert torch.equal(fitted([NEFTune()], Configured()), fitted([NEFTune()]))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in configure_model", "before fit", "before fit and already run"])
def test_a_compiled_model_gets_the_same_noise(when):
    module = Configured(compiled=True) if when == "in configure_model" else Tuned(llama())
    if when != "in configure_model":
        module.model.compile()
    if when == "before fit and already run":
        module.model(**batch([4, 6]))
    torch.testing.assert_close(
        fitted([NEFTune()], module, max_steps=2), fitted([NEFTune()], max_steps=2), rtol=1e-3, atol=1e-4
    )
    assert not torch.allclose(weights(module), fitted([], max_steps=2), rtol=1e-2, atol=1e-3)


def test_logged_values_follow_the_formula():
    module = Tuned(llama(hidden_size=512))
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    given = DataLoader([{k: v[0] for k, v in batch([9]).items()}] * 16, batch_size=2)
    logger = LoggedRows()
    callback = NEFTune(alpha=10)
    trainer(callbacks=[callback], logger=logger, log_every_n_steps=2, max_steps=4).fit(module, given)
    logged = [row for row in logger.rows if "neft/alpha" in row]
    assert [row["step"] for row in logged] == [1, 3]
    for row in logged:
        assert row["neft/alpha"] == 10
        assert row["neft/noise_rms"] == pytest.approx(10 / math.sqrt(3 * 9 * 512), rel=0.03)
        assert row["neft/embedding_rms"] == pytest.approx(0.02, rel=0.05)  # as LlamaConfig initialises
        assert row["neft/noise_to_signal"] == pytest.approx(row["neft/noise_rms"] / row["neft/embedding_rms"], rel=1e-4)
        assert row["neft/unchanged"] == 0
    ratios = [row["neft/noise_to_signal"] for row in logged]
    assert callback.mean_noise_to_signal == (pytest.approx(sum(ratios) / 2, rel=1e-6), 2)


def test_nothing_is_measured_between_logging_steps(monkeypatch):
    """The strength costs a pass over the embedding: the first batch and the logging steps pay it, no other."""
    from lightning_neft.noise import injector

    measured = []
    arm = injector.EmbeddingNoise.arm
    monkeypatch.setattr(
        injector.EmbeddingNoise,
        "arm",
        lambda self, *a, measure, **k: (measured.append(measure), arm(self, *a, measure=measure, **k)),
    )
    fitted([NEFTune()], max_steps=8, log_every_n_steps=4)
    assert measured == [True, False, False, True, False, False, False, True]
    measured.clear()
    fitted([NEFTune()], max_steps=2, log_every_n_steps=1, accumulate_grad_batches=4, data=loader(32))
    assert measured == [True, False, False, True, False, False, False, True]


def test_schedule_follows_the_optimiser_steps():
    logger = LoggedRows()
    fitted(
        [NEFTune(alpha=10, schedule="linear", warmup=0.5)],
        logger=logger,
        log_every_n_steps=1,
        max_steps=4,
        accumulate_grad_batches=2,
        data=loader(32),
    )
    by_step = {row["step"]: row["neft/alpha"] for row in logger.rows if "neft/alpha" in row}
    assert list(by_step.values()) == [0, 5, 10, 5]


@pytest.mark.parametrize(
    ("steps_of_a_batch", "limits"), [(2, {"max_steps": -1, "max_epochs": 2}), (1, {"max_steps": 4})]
)
def test_a_schedule_ends_with_the_run_in_manual_optimisation_too(steps_of_a_batch, limits):
    class Manual(Tuned):
        def __init__(self, model):
            super().__init__(model)
            self.automatic_optimization = False
            self.alphas = []

        def training_step(self, batch, batch_idx):
            self.alphas.append(noise._alpha_now)
            self.manual_backward(super().training_step(batch, batch_idx))
            for _ in range(steps_of_a_batch):
                self.optimizers().step()

    noise = NEFTune(alpha=10, schedule="linear")
    module = Manual(llama())
    fitted([noise], module, loader(8), **limits)
    assert module.alphas == [10, 7.5, 5, 2.5]


def test_a_schedule_without_an_end_is_an_error(snapshot):
    with pytest.raises(ConfigError, match=r"schedule='linear'.*max_steps") as error:
        fitted([NEFTune(schedule="linear")], max_steps=-1, max_epochs=-1)
    snapshot(str(error.value))


def test_micro_batches_of_one_step_have_their_own_noise():
    model = llama()
    given = DataLoader([{k: v[0] for k, v in batch([6]).items()}] * 8, batch_size=2)
    module = Tuned(model)
    callback = NEFTune()
    recorder = []
    module.on_train_batch_start = lambda *_: recorder.append(Recorder(model.get_input_embeddings()))
    module.on_train_batch_end = lambda *_: recorder[-1].handle.remove()
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    trainer(callbacks=[callback], accumulate_grad_batches=2, max_steps=2).fit(module, given)
    outputs = [r.outputs[0] for r in recorder]
    assert len(outputs) == 4
    assert all(not torch.equal(outputs[i], outputs[j]) for i in range(4) for j in range(i))


def test_the_batches_of_the_next_epoch_have_other_noise():
    module = Tuned(llama())
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    outputs = []
    module.on_train_start = lambda: setattr(module, "recorder", Recorder(module.model.get_input_embeddings()))
    module.on_train_end = lambda: outputs.extend(module.recorder.outputs)
    trainer(callbacks=[NEFTune()], max_steps=-1, max_epochs=2).fit(module, loader(8))
    assert len(outputs) == 4
    assert not torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[1], outputs[3])


def test_the_seed_is_that_of_seed_everything_unless_given():
    L.seed_everything(7, verbose=False)
    from_environment = fitted([NEFTune()])
    assert torch.equal(fitted([NEFTune(seed=7)]), from_environment)
    assert not torch.equal(fitted([NEFTune(seed=8)]), from_environment)


def test_pure_bf16_that_loses_its_noise_warns_once():
    model = llama(hidden_size=256)
    model.get_input_embeddings().weight.data.normal_(0, 1)
    module = Tuned(model.bfloat16())
    with pytest.warns(UserWarning, match=r"\d\d% .*unchanged.*bf16-mixed") as caught:
        fitted([NEFTune(alpha=0.1)], module, precision="bf16-true", log_every_n_steps=1)
    assert sum("unchanged" in str(warning.message) for warning in caught) == 1


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "bf16-mixed"])
def test_strength_in_each_precision(precision):
    logger = LoggedRows()
    given = DataLoader([{k: v[0] for k, v in batch([24]).items()}] * 8, batch_size=2)
    fitted([NEFTune(5)], Tuned(llama(hidden_size=512)), given, precision=precision, logger=logger, log_every_n_steps=1)
    values = [row["neft/noise_rms"] for row in logger.rows if "neft/noise_rms" in row]
    assert len(values) == 4
    assert sum(values) / 4 == pytest.approx(5 / math.sqrt(3 * 24 * 512), rel=0.02)


@pytest.mark.filterwarnings("ignore:Found `dataloader_iter` argument")
@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter` step flavor")
def test_a_step_that_takes_the_iterator_needs_a_length(snapshot):
    class Iterates(Tuned):
        def training_step(self, dataloader_iter):
            given, _, _ = next(dataloader_iter)
            return self.model(**given).loss

    with pytest.raises(LengthsError, match=r"dataloader_iter.*length='padded'") as error:
        fitted([NEFTune()], Iterates(llama()))
    snapshot(str(error.value))
    fitted([NEFTune(length="padded")], Iterates(llama()), max_steps=2)


def test_manual_optimisation_is_checked_as_well():
    class Manual(Tuned):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            self.manual_backward(self.model(**batch).loss)
            self.optimizers().step()

    class ManualEmbeds(Embeds):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            self.manual_backward(super().training_step(batch, batch_idx))

    fitted([NEFTune()], Manual(llama()), max_steps=-1, max_epochs=1)
    with pytest.raises(NoNoiseError):
        fitted([NEFTune()], ManualEmbeds(llama()), max_steps=-1, max_epochs=1)


def test_validate_test_and_predict_need_no_embedding():
    class Evaluated(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 1)

        def validation_step(self, batch, batch_idx):
            return self.linear(batch)

    assert trainer(callbacks=[NEFTune()]).validate(Evaluated(), DataLoader(torch.ones(2, 1)), verbose=False) == [{}]


def test_each_batch_of_a_development_run_is_logged():
    run = trainer(callbacks=[NEFTune()], fast_dev_run=True, log_every_n_steps=50)
    run.fit(Tuned(llama()), loader())
    assert run.callback_metrics["neft/alpha"] == 5


def mask_without_annotations(batch):
    return batch["attention_mask"]


def test_a_lightning_cli_takes_a_function_without_annotations():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--callback", type=L.Callback)
    path = f"{__name__}.mask_without_annotations"
    given = parser.parse_args(["--callback=lightning_neft.NEFTune", f"--callback.batch_to_mask={path}"])
    callback = parser.instantiate(given).callback
    assert callback.noise.batch_to_mask is mask_without_annotations
    assert torch.equal(fitted([callback]), fitted([NEFTune()]))


def test_two_modules_that_share_their_table_have_one_noise():
    """A second hook on one table would make the noise stronger by the root of two."""

    class Pair(Tuned):
        def __init__(self):
            super().__init__(llama())
            self.second = llama()
            self.second.set_input_embeddings(self.model.get_input_embeddings())

    def noise(target):
        module = Pair()
        measured = []
        module.on_train_start = lambda: measured.append(AddedNoise(module.model.get_input_embeddings()))
        module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
        trainer(callbacks=[NEFTune(target=target)], max_steps=1).fit(module, loader())
        return measured[0].noise[0]

    torch.testing.assert_close(noise(["model", "second"]), noise("model"), rtol=0, atol=0)
