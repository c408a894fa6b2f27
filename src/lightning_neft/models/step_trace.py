"""The memory of a training step's tensors, from a step on fake tensors: shapes and dtypes, but no data.

The model is built from its config alone and runs forwards and backwards as in a fit, so that adapters, autocast,
checkpointing, attention and loss count as they are. Of a deep model only a few blocks are traced.
"""

from __future__ import annotations

import copy
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from lightning_neft.hub.vision_language import loading_class
from lightning_neft.models.batches import double_rows
from lightning_neft.models.consistency import pair_divergence
from lightning_neft.models.loss import mean_loss
from lightning_neft.models.optimizer import set_mode

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from lightning_neft.models.finetuner import FineTuner

__all__ = ["Batch", "StepTrace", "trace_step"]

# Gemma 3 repeats its kinds of blocks every 6.
_LONGEST_PERIOD = 8


@dataclass(frozen=True)
class Batch:
    """The size of a batch.

    Attributes:
        rows: Rows of the batch.
        length: Tokens of each row.
        trained: Tokens with a loss in the whole batch.
        is_packed: Whether a row holds several documents.
        is_doubled: Whether each row is trained twice at once, as antithetic noise does; not counted in the others.
    """

    rows: int
    length: int
    trained: int
    is_packed: bool = False
    is_doubled: bool = False


@dataclass(frozen=True)
class StepTrace:
    """What a model and a step of it hold, in bytes; tied weights count once.

    Attributes:
        weights: Parameters.
        parameters: Number of parameters.
        quantizable: Number of parameters that QLoRA stores in 4 bits.
        gradients: Gradients of the trained parameters.
        largest_gradient: The largest of them.
        states: What the optimiser keeps of them from step to step; None if its step cannot be traced.
        forward: Peak of the other tensors in the forward pass, buffers included.
        backward: Peak of the other tensors and the gradients in each half of the backward pass, by operations.
    """

    weights: float
    parameters: float
    quantizable: float
    gradients: float
    largest_gradient: float
    states: float | None
    forward: float
    backward: tuple[float, float]

    def at(self, depth: int, other: StepTrace, other_depth: int, wanted: int) -> StepTrace:
        """Extrapolate to another number of blocks, from this trace and one of more blocks."""

        def line(first: float, second: float) -> float:
            return first + (second - first) * (wanted - depth) / (other_depth - depth)

        return StepTrace(
            line(self.weights, other.weights),
            line(self.parameters, other.parameters),
            line(self.quantizable, other.quantizable),
            line(self.gradients, other.gradients),
            other.largest_gradient,
            None if self.states is None or other.states is None else line(self.states, other.states),
            line(self.forward, other.forward),
            (line(self.backward[0], other.backward[0]), line(self.backward[1], other.backward[1])),
        )


def trace_step(
    module: FineTuner, config: PretrainedConfig, batch: Batch, *, precision: str, device: str, accumulates: bool = False
) -> StepTrace:
    """Trace a step of a model.

    Args:
        module: Says what is trained and how; its model need not be built, and is not used.
        config: Config of the base model, with the options of the module.
        batch: What the model is called with.
        precision: The Trainer's, such as bf16-mixed.
        device: Type of the device, such as cpu.
        accumulates: Whether the gradients of an earlier micro-batch are there.
    """

    def trace(config: PretrainedConfig) -> StepTrace:
        return _trace(module, config, batch, precision, device, accumulates)

    text = config.get_text_config()
    depth = getattr(text, "num_hidden_layers", 0)
    kinds = getattr(text, "layer_types", None) or [""]
    period = next((n for n in range(1, _LONGEST_PERIOD) if kinds[n:] == kinds[:-n]), depth)
    few, more = max(2, period), max(2, period) + period
    # Blocks that reuse the keys of earlier ones (Gemma 4 E2B) are at the end.
    if config.is_encoder_decoder or depth <= more or getattr(text, "num_kv_shared_layers", 0):
        return trace(config)
    return trace(_cut(config, depth, few)).at(few, trace(_cut(config, depth, more)), more, depth)


def _cut(config: PretrainedConfig, depth: int, layers: int) -> PretrainedConfig:
    """Return the config of a model with fewer blocks."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    for name, value in list(vars(text).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return config


def _trace(
    module: FineTuner, config: PretrainedConfig, batch: Batch, precision: str, device: str, accumulates: bool
) -> StepTrace:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        twin = _twin(module, config, precision)
    # Checkpointing keeps the random state for its second pass.
    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        _give_fake_weights(twin.model)
        if (output_head := getattr(twin, "output_head", None)) is not None:
            output_head.assume()
        parameters = list(twin.model.parameters())
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if accumulates:
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter)
        known = [*parameters, *twin.model.buffers(), *(p.grad for p in trained if p.grad is not None)]
        tensors = _Live(known, first_scalar=not batch.is_packed)
        with tensors:
            with _autocast(precision):
                # Attention in float32 is for CPUs alone.
                step = twin._predictions if device == "cpu" else twin.predictions
                rows = _batch(batch, twin)
                if batch.is_doubled:
                    double_rows(rows)
                predictions = step(rows)
                loss = mean_loss(predictions)
                if batch.is_doubled and twin.consistency:
                    loss = loss + twin.consistency * pair_divergence(predictions)
                del predictions
            forward, tensors.curve = tensors.peak, []
            loss.backward()  # type: ignore[no-untyped-call]
        curve = [*tensors.curve]
        half, buffers = len(curve) // 2, _bytes([*twin.model.buffers()])
        return StepTrace(
            weights=_bytes(parameters),
            parameters=sum(parameter.numel() for parameter in parameters),
            quantizable=_quantizable(twin.model),
            gradients=_bytes(trained),
            largest_gradient=max(parameter.nbytes for parameter in trained),
            states=_states(twin, tensors),
            forward=forward + buffers,
            backward=(max(curve[:half]) + buffers, max(curve[half:]) + buffers),
        )


def _states(twin: FineTuner, tensors: _Live) -> float | None:
    """Return the bytes of the optimiser's states after a step on fake gradients."""
    # AdamW divides by a function of the number of steps.
    tensors.scalar = 1
    try:
        with tensors:
            optimizer = twin.make_optimizer()
            set_mode([optimizer], "train")
            optimizer.step()
    except Exception:  # those of other packages may need their device, or real numbers
        return None
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    # Those without a dimension count steps.
    return _bytes([state for state in states if state.ndim])


def _twin(module: FineTuner, config: PretrainedConfig, precision: str) -> FineTuner:
    """Return a module with the same options whose model has no data."""
    import transformers

    twin = copy.copy(module)
    # A shallow copy would share these with the module.
    twin.__dict__ |= {"_modules": {}, "_parameters": {}, "_buffers": {}, "_trainer": None, "model": None}
    # Not sharded: an estimate divides the sizes of the whole.
    twin.__dict__["_device_mesh"] = None
    # Those of other packages need their device, and keep no attention scores either.
    attention = "eager" if module.attn_implementation == "eager" else None
    model = getattr(transformers, loading_class(module.auto_class, config)).from_config(
        config,
        dtype=_dtype(module, config, precision),
        attn_implementation=attention,
        trust_remote_code=module.trust_remote_code,
    )
    twin.is_compiled = False
    if twin.lora is not None:
        # A decomposition of the weights changes none of the sizes.
        twin.lora = replace(twin.lora, init_lora_weights=True)
    twin.adopt(model)
    return twin


def _give_fake_weights(model: Any) -> None:
    """Replace all tensors of a model on the meta device, which has no autocast, by fake ones on the CPU."""
    made: dict[int, Tensor] = {}  # tied weights stay tied
    for part in model.modules():
        for tensors in (part._parameters, part._buffers):
            for name, old in tensors.items():
                if old is not None and id(old) not in made:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    made[id(old)] = torch.nn.Parameter(new, old.requires_grad) if tensors is part._parameters else new
                if old is not None:
                    tensors[name] = made[id(old)]


def _dtype(module: FineTuner, config: PretrainedConfig, precision: str) -> torch.dtype:
    if module.quantization is not None:
        return torch.float32
    if module.weights_dtype == "auto":
        return config.dtype or torch.float32
    if module.weights_dtype is not None:
        given: torch.dtype = getattr(torch, module.weights_dtype)
        return given
    return {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}.get(
        precision, torch.float32
    )


def _autocast(precision: str) -> torch.autocast:
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast("cpu", dtype, enabled=precision.endswith("-mixed"))


def _batch(batch: Batch, module: FineTuner) -> dict[str, Tensor]:
    ids = torch.zeros(batch.rows, batch.length, dtype=torch.long)
    if module.task_type == "SEQ_CLS":
        return {"input_ids": ids, "attention_mask": ids, "labels": ids[:, 0]}
    if module.task_type == "SEQ_2_SEQ_LM":
        labels = torch.zeros(batch.rows, -(-batch.trained // batch.rows), dtype=torch.long)
        return {"input_ids": ids, "attention_mask": ids, "labels": labels}
    places = torch.zeros(batch.trained, dtype=torch.long)
    found = {"input_ids": ids, "loss_index": places, "loss_targets": places}
    return {**found, "position_ids": ids} if batch.is_packed else {**found, "attention_mask": ids}


def _bytes(tensors: list[Any]) -> int:
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in tensors}.values())


def _quantizable(model: Any) -> int:
    """Count the weights of linear layers below the head, adapters excluded."""
    head = model.get_output_embeddings()
    return sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and "lora_" not in name
    )


class _Live(TorchDispatchMode):
    """Follows how many bytes the storages hold that operations within it make.

    Args:
        known: Tensors that are there before, and are not counted.
        first_scalar: The value assumed where the model asks for a number; fake tensors have none. Models of
            transformers ask whether the positions are those of one document a row.
    """

    def __init__(self, known: list[Tensor], first_scalar: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sizes: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in known}
        self.scalar: int = first_scalar
        """The value assumed where a number is asked for."""
        self._live = 0
        self.peak = 0
        self.curve: list[int] = []
        """Bytes after each operation."""

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return self.scalar
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        self.peak = max(self.peak, self._live)
        self.curve.append(self._live)
        return output

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._live += storage.nbytes()
            weakref.finalize(storage, self._forget, key).atexit = False

    def _forget(self, key: int) -> None:
        self._live -= self._sizes.pop(key)
