"""The estimated memory, against published counts, a step that runs, and what a system says is free."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from transformers import AutoConfig, LlamaConfig
from typing_extensions import override

from lightning_neft.data.module import TextData
from lightning_neft.hub.base_models import find_base_model, size_config
from lightning_neft.models import memory, step_trace
from lightning_neft.models.language_models import CausalLM, Seq2SeqLM
from lightning_neft.models.memory import Estimate, Run, estimate, free_memory, ways_to_fit
from lightning_neft.models.step_trace import Batch
from lightning_neft.models.trainable import LoraOptions

SMALL = Batch(rows=2, length=16, trained=8)
# One that a step of takes about 300 MB.
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 8000,
}


def estimated(name: str, run: Run | None = None, **options: Any) -> Estimate:
    return estimate(CausalLM(name, **options), size_config(name), run or Run(SMALL))


@pytest.mark.parametrize("name", ["smollm2-135m", "llama-2-7b", "gemma-3-1b", "opt-6.7b", "qwen3-0.6b"])
def test_parameters_are_as_many_as_published(name: str) -> None:
    found = estimated(name)
    count = find_base_model(name).parameters
    assert found.parameters == count
    assert (found.weights, found.gradients, found.states) == (4 * count, 4 * count, 8 * count)


def test_pure_bfloat16_takes_half() -> None:
    found = estimated("llama-2-7b", Run(SMALL, precision="bf16-true"))
    assert (found.gradients, found.states) == (2 * 6_738_415_616, 4 * 6_738_415_616)


def test_adapters_are_as_many_as_peft_has() -> None:
    # peft's own count for rank 16 on all linear layers of LLaMA-2-7B.
    found = estimated("llama-2-7b", lora=LoraOptions(r=16))
    assert (found.gradients, found.states) == (4 * 39_976_960, 8 * 39_976_960)


def test_quantised_weights_take_half_a_byte_and_a_little() -> None:
    found = estimated("llama-2-7b", lora=LoraOptions(r=64), quantization="nf4")
    # 6.48 billion weights in 4.127 bits, the two tables of 131 million each and 160 million of adapters in 32.
    assert found.weights == pytest.approx(6.476e9 * 4.127 / 8 + 0.262e9 * 4 + 0.160e9 * 4, rel=1e-3)


def test_shards_divide_weights_gradients_and_states() -> None:
    whole, quarter = estimated("llama-2-7b"), estimated("llama-2-7b", Run(SMALL, shards=4))
    assert (quarter.weights, quarter.gradients, quarter.states) == (
        whole.weights / 4,
        whole.gradients / 4,
        whole.states / 4,
    )


def test_a_module_on_a_device_mesh_is_estimated_whole() -> None:
    module = CausalLM("any")
    module._device_mesh = object()  # Lightning sets it before the model is built
    run = Run(Batch(4, 64, 100), shards=2)
    assert estimate(module, LlamaConfig(**SHAPE), run) == estimate(CausalLM("any"), LlamaConfig(**SHAPE), run)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("checkpointing", [False, "selective", True])
def test_few_blocks_give_the_step_of_all(monkeypatch: pytest.MonkeyPatch, precision: str, checkpointing: Any) -> None:
    config = LlamaConfig(**{**SHAPE, "num_hidden_layers": 9})
    module = CausalLM("any", gradient_checkpointing=checkpointing)
    run = Run(Batch(4, 256, 500), precision=precision)
    few = estimate(module, config, run)
    monkeypatch.setattr(step_trace, "_LONGEST_PERIOD", 0)  # no period is found: all are traced
    assert few.total == pytest.approx(estimate(module, config, run).total, rel=0.01)


@pytest.mark.parametrize("checkpointing", [False, "selective", True])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_device_is_estimated_with_each_checkpointing(checkpointing: Any, device: str) -> None:
    """Attention in float32 is for CPUs alone, in the forward pass and where it is repeated."""
    run = Run(Batch(2, 64, 40), precision="bf16-mixed", device=device)
    module = CausalLM("any", gradient_checkpointing=checkpointing)
    assert estimate(module, LlamaConfig(**SHAPE), run).activations > 0


def test_activations_grow_with_batches_not_with_checkpointing() -> None:
    config, run = LlamaConfig(**SHAPE), Run(Batch(8, 256, 1000))
    found = estimate(CausalLM("any"), config, run).activations
    twice = estimate(CausalLM("any"), config, replace(run, batch=Batch(16, 256, 2000))).activations
    assert twice == pytest.approx(2 * found, rel=0.1)
    whole = estimate(CausalLM("any", gradient_checkpointing=True), config, run).activations
    selective = estimate(CausalLM("any", gradient_checkpointing="selective"), config, run).activations
    assert whole < 0.8 * selective < 0.8 * 0.8 * found


def test_antithetic_pairs_count_twice_and_their_term_on_top() -> None:
    config, run = LlamaConfig(**SHAPE), Run(Batch(8, 256, 1000))
    pairs = replace(run, batch=replace(run.batch, is_doubled=True))
    doubled = estimate(CausalLM("any"), config, pairs).activations
    whole = estimate(CausalLM("any"), config, replace(run, batch=Batch(16, 256, 2000))).activations
    assert doubled == pytest.approx(whole, rel=1e-3)  # the rows before they are doubled
    assert estimate(CausalLM("any", consistency=1.0), config, pairs).activations > doubled


def test_no_random_state_is_moved() -> None:
    before = torch.get_rng_state()
    estimate(CausalLM("any", lora=LoraOptions(dropout=0.1)), LlamaConfig(**SHAPE), Run(SMALL))
    assert torch.equal(torch.get_rng_state(), before)


def test_packed_rows_and_encoder_decoders_are_traced(encoder_decoder: str) -> None:
    packed = Run(Batch(2, 64, 40, is_packed=True))
    assert estimate(CausalLM("any"), LlamaConfig(**SHAPE), packed).activations > 0
    config = AutoConfig.from_pretrained(encoder_decoder)
    assert estimate(Seq2SeqLM(encoder_decoder), config, Run(SMALL)).activations > 0


_STEP = """
import sys
import torch
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.loss import mean_loss

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

module = CausalLM("any")
before = status("VmRSS")
module.adopt(LlamaForCausalLM(LlamaConfig(**%r)))
optimizer = torch.optim.AdamW(module.parameters())
places = torch.arange(2000)
batch = {"input_ids": torch.zeros(8, 512, dtype=torch.long), "loss_index": places, "loss_targets": places}
for _ in range(2):
    mean_loss(module._predictions(batch)).backward()
    optimizer.step()
    optimizer.zero_grad()
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_the_estimate_is_near_the_peak_of_a_process() -> None:
    done = subprocess.run([sys.executable, "-c", _STEP % SHAPE], capture_output=True, text=True, check=True)
    found = estimate(CausalLM("any"), LlamaConfig(**SHAPE), Run(Batch(8, 512, 2000))).total
    # Coarse: what the allocator adds differs between machines.
    assert 0.8 * found < int(done.stdout.split()[-1]) < 1.5 * found


class NotesGradients(L.Callback):
    def __init__(self) -> None:
        self.kept: list[int] = []

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        self.kept.append(sum(parameter.grad is not None for parameter in pl_module.parameters()))


def test_no_gradients_are_kept_after_a_step(base: str, source: str) -> None:
    notes = NotesGradients()
    options: Any = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = L.Trainer(
        accelerator="cpu", max_steps=2, accumulate_grad_batches=2, limit_val_batches=0, callbacks=[notes], **options
    )
    trainer.fit(CausalLM(base), TextData(source, base, batch_size=1, val_size=2))
    # Between the micro-batches of a step they are there.
    assert [count > 0 for count in notes.kept] == [True, False, True, False]


def test_limits_of_control_groups_count(tmp_path: Path) -> None:
    group = tmp_path / "fs/jobs/mine"
    group.mkdir(parents=True)
    for folder, limit, used in ((group, "max", 100), (group.parent, "1000", 400)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 300\ninactive_file 50\n")
    own = tmp_path / "cgroup"
    own.write_text("0::/jobs/mine\n")
    assert memory._left_in_groups(tmp_path / "fs", own) == 650
    own.write_text("0::/elsewhere\n")
    assert memory._left_in_groups(tmp_path / "fs", own) is None


def test_available_memory_is_read_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8 kB\nMemAvailable:    4 kB\n")
    assert memory._available(tmp_path / "meminfo") == 4096
    assert memory._available(tmp_path / "missing") is None


def test_processes_share_the_memory_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_available", lambda: 1000.0)
    monkeypatch.setattr(memory, "_left_in_groups", lambda: 600.0)
    assert free_memory(torch.device("cpu"), processes=3) == 200


@pytest.mark.parametrize(
    ("found", "kind", "expected"),
    [
        (
            Estimate(1, 1, 2, 16),
            False,
            ["gradient_checkpointing auto", "--data.batch_size 2 with the rows of a step", "--data.max_length"],
        ),
        (Estimate(1, 1, 2, 16), True, ["--data.batch_size 2", "--data.max_length"]),
        (Estimate(9, 9, 18, 2), False, ["gradient_checkpointing auto", "--model.lora.r 16", "--data.max_length"]),
    ],
)
def test_what_to_change_where_it_does_not_fit(found: Estimate, kind: bool, expected: list[str]) -> None:
    ways = ways_to_fit(found, Run(Batch(8, 8, 8)), CausalLM("any", gradient_checkpointing=kind), 10.0).split(" or ")
    assert len(ways) == len(expected)
    assert all(part in way for part, way in zip(expected, ways, strict=True))
