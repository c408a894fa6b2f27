"""What only a GPU can show: precisions, 4-bit weights, sharding engines that refuse a CPU, and that nothing waits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_neft import EmbeddingNoise, NEFTune
from lightning_neft.models.blocked_loss import Adjustment, HeadInput, blocked_loss
from lightning_neft.models.recomputation import recompute_blocks
from lightning_neft.noise.uniform import fused
from lightning_neft.noise.uniform import paths as uniform
from tiny import LoggedRows, Tuned, batch, llama, loader, trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, torch finds none"),
]


def on_gpu(**options):
    return trainer(**{"accelerator": "gpu", "devices": 1, "logger": LoggedRows(), "log_every_n_steps": 1, **options})


def logged(fit, name):
    return [row[name] for row in fit.logger.rows if name in row]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "16-mixed"])
def test_strength_follows_the_formula_in_each_precision(precision):
    class OneLength(Tuned):
        def training_step(self, given, batch_idx):
            loss = super().training_step(given, batch_idx)
            assert torch.isfinite(loss)
            return loss

    data = [batch([12] * 4, 12, seed=step) for step in range(4)]
    fit = on_gpu(precision=precision, callbacks=[NEFTune(alpha=5)])
    fit.fit(OneLength(llama(1024)), torch.utils.data.DataLoader(data, batch_size=None))
    assert logged(fit, "neft/noise_rms") == pytest.approx([5 / math.sqrt(3 * 12 * 1024)] * 4, rel=0.02)


def test_no_step_waits_for_the_device():
    """In a loop without Lightning, whose own calls may wait."""
    model = llama(256).cuda()
    noise = EmbeddingNoise(5).attach(model)
    given = {key: value.cuda() for key, value in batch([40, 25, 9]).items()}
    embedding = model.get_input_embeddings()

    def step(number):
        noise.arm(given, number, measure=number % 5 == 0)
        embedding(given["input_ids"]).square().mean().backward()
        return noise.disarm()

    step(0)  # the first use allocates
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        strengths = [step(number) for number in range(1, 21)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    measured = [strength.noise_rms.item() for strength in strengths if strength is not None]
    assert len(measured) == 4
    assert min(measured) > 0


def test_twenty_steps_have_no_synchronisation():
    model = llama(256).cuda()
    noise = EmbeddingNoise(5).attach(model)
    given = {key: value.cuda() for key, value in batch([40, 25, 9]).items()}
    embedding = model.get_input_embeddings()

    def waits(alpha):
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as trace:
            for number in range(20):
                noise.arm(given, number, alpha=alpha)
                embedding(given["input_ids"]).square().mean().backward()
                noise.disarm()
        return sum(event.count for event in trace.key_averages() if "Synchronize" in event.key or "DtoH" in event.key)

    waits(5.0)
    assert waits(5.0) <= waits(0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(4, 33, 256), (2, 7, 1030), (3, 5, 10)], ids=str)
def test_the_kernel_adds_what_the_plain_path_adds_to_the_bit(shape, dtype, monkeypatch):
    clean = torch.randn(shape, device="cuda").to(dtype)
    scale = torch.rand(shape[:-1], device="cuda")
    scale[:, 0] = 0
    assert fused.is_fused(clean)
    by_kernel = uniform.add_uniform_noise(clean, scale, 0x7EDCBA9812345678)
    monkeypatch.setattr(uniform, "is_fused", lambda activation: False)
    assert torch.equal(uniform.add_uniform_noise(clean, scale, 0x7EDCBA9812345678), by_kernel)
    assert torch.equal(by_kernel[:, 0], clean[:, 0])


def test_the_noise_takes_a_hundredth_of_the_memory():
    clean = torch.randn(8, 512, 4096, device="cuda", dtype=torch.bfloat16)
    scale = torch.full((8, 512), 0.01, device="cuda")
    uniform.add_uniform_noise(clean, scale, 1)  # the first use builds the kernel
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    noisy = uniform.add_uniform_noise(clean, scale, 2)
    extra = torch.cuda.max_memory_allocated() - before - noisy.nbytes
    assert extra < 0.01 * clean.nbytes


def test_the_noise_of_a_device_is_reproducible():
    table = nn.Embedding(60, 64).cuda()
    given = {key: value.cuda() for key, value in batch([12, 5]).items()}
    drawn = []
    for step in (3, 3, 4):
        with EmbeddingNoise(5).attach(table) as noise, noise.armed(given, step):
            drawn.append(table(given["input_ids"]).detach())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_cuda_graphs_have_fresh_noise_at_each_step():
    model = llama(64).cuda()
    compiled = torch.compile(model, mode="reduce-overhead")
    noise = EmbeddingNoise(5).attach(compiled)
    given = {key: value.cuda() for key, value in batch([12, 12]).items()}
    losses = []
    for step in range(6):
        torch.compiler.cudagraph_mark_step_begin()
        with noise.armed(given, step):
            loss = compiled(**given).loss
            loss.backward()
            losses.append(loss.item())
    assert len(set(losses)) == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_in_blocks_is_that_of_all_logits(dtype):
    torch.manual_seed(0)
    states = torch.randn(3000, 64, device="cuda", dtype=dtype, requires_grad=True)
    head = nn.Linear(64, 50_000, bias=False, device="cuda", dtype=dtype)
    targets = torch.randint(50_000, (3000,), device="cuda")
    plain = nn.functional.cross_entropy(head(states).float(), targets, reduction="sum")
    expected = torch.autograd.grad(plain, [states, head.weight])
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = blocked_loss(HeadInput(states, head, Adjustment(), True), targets, None)
    gradients = torch.autograd.grad(found, [states, head.weight])
    # Half of the logits in float32, which take 600 MB.
    assert torch.cuda.max_memory_allocated() - before < 300e6
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert found.item() == pytest.approx(plain.item(), rel=tolerance)
    for one, other in zip(gradients, expected, strict=True):
        assert (one.double() - other.double()).norm() <= tolerance * other.double().norm()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_selective_checkpointing_changes_no_gradient(dropout):
    found = []
    for kind in (False, "selective", True):
        model = llama(64, attn_implementation="sdpa", attention_dropout=dropout).cuda().train()
        if kind:
            recompute_blocks(model, is_selective=kind == "selective", is_compiled=False)
        torch.manual_seed(1)
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(**{key: value.cuda() for key, value in batch([12, 9]).items()}).loss
        loss.backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for gradients in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(gradients, found[0], strict=True))


@pytest.mark.slow
def test_four_bit_weights_with_lora_get_the_noise(tmp_path):
    pytest.importorskip("bitsandbytes", reason="needs the extra qlora")
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    llama(256).save_pretrained(tmp_path)
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="bfloat16"
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=config, device_map={"": 0})
    model = get_peft_model(prepare_model_for_kbit_training(model), LoraConfig(target_modules="all-linear"))
    fit = on_gpu(precision="bf16-mixed", callbacks=[NEFTune(alpha=5)])
    fit.fit(Tuned(model), loader())
    assert all(value > 0 for value in logged(fit, "neft/noise_rms"))


@pytest.mark.slow
def test_fsdp2_gets_the_noise():
    from lightning.pytorch.strategies import ModelParallelStrategy
    from torch.distributed.fsdp import fully_shard

    class Sharded(Tuned):
        def configure_model(self):
            mesh = self.device_mesh["data_parallel"]
            for layer in self.model.model.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(self.model, mesh=mesh)

    fit = on_gpu(strategy=ModelParallelStrategy(1, 1), precision="bf16-true", callbacks=[NEFTune(alpha=5)])
    fit.fit(Sharded(llama(256)), loader())
    assert all(value > 0 for value in logged(fit, "neft/noise_rms"))


@pytest.mark.slow
def test_fsdp1_gets_the_noise():
    fit = on_gpu(strategy="fsdp", precision="bf16-mixed", callbacks=[NEFTune(alpha=5)])
    fit.fit(Tuned(llama(256)), loader())
    assert all(value > 0 for value in logged(fit, "neft/noise_rms"))


@pytest.mark.slow
def test_deepspeed_gets_the_noise():
    pytest.importorskip("deepspeed", reason="needs deepspeed")
    fit = on_gpu(strategy="deepspeed_stage_3", precision="bf16-mixed", callbacks=[NEFTune(alpha=5)])
    fit.fit(Tuned(llama(256)), loader())
    assert all(value > 0 for value in logged(fit, "neft/noise_rms"))
