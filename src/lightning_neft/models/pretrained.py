"""`PretrainedModule`: options, building and checkpoints of a LightningModule around a model of transformers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import lightning as L
from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from typing_extensions import override

from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.hub.gguf import expanded_from
from lightning_neft.hub.names import resolve_base
from lightning_neft.hub.tokenizer import load_tokenizer
from lightning_neft.models.checkpoint import DESCRIPTION, check_description, check_weights, keep_trained
from lightning_neft.models.description import AUTO_CLASSES, installed_versions, training_description
from lightning_neft.models.execution import compile_blocks
from lightning_neft.models.finite import check_trained_weights
from lightning_neft.models.optimizer import OptimizerFactory, OptimizerName
from lightning_neft.models.recomputation import Recomputation, recompute_blocks
from lightning_neft.models.schedule import LRSchedulerName
from lightning_neft.models.towers import towers, towers_line
from lightning_neft.models.trainable import LoraOptions, add_lora, check_lora
from lightning_neft.models.trainable import freeze as freeze_parameters
from lightning_neft.models.vocabulary import check_positions, check_trained, grow_embeddings, names_from, rows_line
from lightning_neft.models.weights import DType, Quantization, check_precision, load_weights, shard

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PretrainedModule"]


class PretrainedModule(L.LightningModule):
    """Holds a model of transformers, `model`, which is loaded in `configure_model`.

    A checkpoint has no options in it: they come from the command line. With adapters it holds these alone, and names
    their base.

    Args:
        base: Folder or hub id of the base model, a GGUF file (extra gguf), or `tiny` for the bundled model.
        lora: Train low-rank adapters only; without it all weights are trained.
        learning_rate: The highest learning rate of the schedule.
        weight_decay: Decay of the optimiser, on matrices only: biases and norms are left out.
        warmup_ratio: Share of the optimiser's steps in which the learning rate rises.
        optimizer: A name as in transformers, or a class such as bitsandbytes.optim.Lion8bit with its options but those
            two above.
        lr_scheduler: A name as in transformers, or a class with its options, which moves with each optimiser step.
        attn_implementation: Attention of transformers, such as sdpa or flash_attention_2; its own choice by default.
        trust_remote_code: Whether code that comes with the base model may run.
        dtype: Of the weights: float32, bfloat16, float16, or auto for that of the base; as the Trainer's precision asks
            by default.
        quantization: nf4 for 4-bit weights under the adapters (QLoRA); needs the extra qlora and a CUDA device.
        freeze: Parameters that are not trained: names of them or of modules above them, or regular expressions.
        gradient_checkpointing: Whether the backward pass recomputes the activations of the blocks: less memory, slower
            steps. selective keeps the results of matrix products and attention, so that steps are hardly slower. With
            auto `lightning_neft fit` takes the fastest of false, selective and true that fits into the free memory.
        compile: Whether the blocks of the model are compiled: the first step takes long, the others are faster.
        keep_eval: Whether the model stays in eval mode, as transformers loads it, so that its dropout is off.
        consistency: Weight of the divergence between the predictions of the two noises of an antithetic pair, which is
            added to the loss (R-Drop); needs antithetic noise.

    Raises:
        ConfigError: If an option has a value that it cannot have, or does not go with another one.
    """

    auto_class: ClassVar[str]
    """Name of transformers' automatic class."""
    task_type: ClassVar[str]
    """peft's word for the task."""
    has_new_head: ClassVar[bool] = False
    """Whether it is natural that the base lacks some of the weights."""

    def __init__(
        self,
        base: str = "tiny",
        lora: LoraOptions | None = None,
        learning_rate: float = 5e-5,
        weight_decay: float = 0.0,
        warmup_ratio: float = 0.03,
        optimizer: OptimizerName | OptimizerFactory = "adamw_torch_fused",
        lr_scheduler: LRSchedulerName | LRSchedulerCallable = "cosine",
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        dtype: DType | None = None,
        quantization: Quantization | None = None,
        freeze: list[str] | None = None,
        gradient_checkpointing: Recomputation | Literal["auto"] = "auto",
        compile: bool = False,
        keep_eval: bool = False,
        consistency: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value, highest in (
            ("learning_rate", learning_rate, math.inf),
            ("weight_decay", weight_decay, math.inf),
            ("consistency", consistency, math.inf),
            ("warmup_ratio", warmup_ratio, 1.0),
        ):
            if not (0 <= value <= highest and math.isfinite(value)):
                allowed = "0 or more" if highest == math.inf else f"between 0 and {highest:g}"
                raise ConfigError(f"model.{name} must be {allowed}, got {value!r}")
        if quantization is not None and lora is None:
            raise ConfigError(f"model.quantization={quantization} needs model.lora: 4-bit weights cannot be trained")
        if lora is not None:
            check_lora(lora, quantization)
        if gradient_checkpointing not in (False, "auto") and keep_eval:
            raise ConfigError("model.gradient_checkpointing needs train mode; omit model.keep_eval")
        if gradient_checkpointing == "selective" and compile:
            raise ConfigError("model.gradient_checkpointing=selective does not go with model.compile; set it to true")
        self.base = base
        self.lora = lora
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.attn_implementation = attn_implementation
        self.trust_remote_code = trust_remote_code
        self.weights_dtype = dtype
        self.quantization = quantization
        self.freeze_patterns = freeze or []
        self.gradient_checkpointing: Recomputation | Literal["auto"] = gradient_checkpointing
        self.is_compiled = compile
        self.keep_eval = keep_eval
        self.consistency = consistency
        self.model: Any = None
        self.architecture = ""
        """Name of the model's class."""
        self.towers: list[str] = []
        """Modules of a vision-language base that read no text; they are frozen and get no adapters."""
        self.trained: frozenset[str] = frozenset()
        """Names of the parameters that are trained."""
        self.expanded_from: str | None = None
        """What the weights of a GGUF base were expanded from, such as `4-bit values (Q4_1)`."""
        self.special_tokens: tuple[str, ...] = ()
        """Tokens of the data's template that the base's tokenizer lacks: the data module's, once the model is built."""
        self._tokenizer: tuple[tuple[str, ...], PreTrainedTokenizerBase] | None = None
        self.recipe: str | None = None
        """Name of the recipe or config that the options come from."""
        self.initial_adapters: dict[str, Tensor] = {}
        """With adapters that begin with a part of the base's weights, that part; see `saving.adapters`."""
        self.has_new_tokens = False
        """Whether the embedding table has rows that the base's has not, which a folder of adapters then has to hold."""
        # The frozen weights below adapters are in no checkpoint. What has to be there is checked in on_load_checkpoint.
        self.strict_loading = lora is None

    def config_options(self) -> dict[str, Any]:
        """Return entries of the model's config that are not those of the base."""
        return {}

    @override
    def configure_model(self) -> None:
        datamodule = None if self._trainer is None else self.trainer.datamodule  # type: ignore[attr-defined]
        if (longest := getattr(datamodule, "longest_sample", None)) is not None:
            check_positions(self.base, longest, self.trust_remote_code)
        tokens = self.special_tokens if datamodule is None else tuple(getattr(datamodule, "special_tokens", ()))
        if self.model is not None:  # by an earlier call, perhaps without these data
            if lacking := [token for token in tokens if token not in self.special_tokens]:
                raise ModelError(
                    f"the model was built without rows for {', '.join(lacking)}, which the template of the data adds; "
                    "leave configure_model to the Trainer"
                )
            return
        self.special_tokens = tokens
        model, new = load_weights(
            self.auto_class,
            self.base,
            dtype=self.weights_dtype,
            quantization=self.quantization,
            attn_implementation=self.attn_implementation,
            trust_remote_code=self.trust_remote_code,
            has_new_head=self.has_new_head,
            **self.config_options(),
        )
        check_precision(self._trainer, model, self.weights_dtype)
        if (source := expanded_from(resolve_base(self.base))) is not None:
            rank_zero_info(f"model base {self.base!r}: its weights are expanded from {source}")
            self.expanded_from = source
        self.architecture = type(model).__name__
        if new and not self.has_new_head:
            rank_zero_warn(
                f"model base {self.base!r} lacks weights of a {self.architecture}, which begin at random: {new[0]}"
                f"{f' and {len(new) - 1} more' if len(new) > 1 else ''}"
            )
        self.adopt(model, new, self._grow(model))
        if self.towers:
            rank_zero_info(f"vision-language base, trained on text alone: frozen {towers_line(model, self.towers)}")

    def adopt(self, model: Any, new: Sequence[str] = (), new_ids: Sequence[int] = ()) -> None:
        """Make `model` of a loaded one: with adapters, frozen parameters, checkpointing, shards and compilation.

        Args:
            model: A model of transformers.
            new: Names of its parameters that the base lacks.
            new_ids: Token ids that the base lacks.
        """
        self.towers = towers(model)
        freeze_parameters(model, self.towers)
        if self.lora is not None:
            model = add_lora(
                model,
                self.lora,
                self.task_type,
                new=new,
                new_ids=new_ids,
                excluded=self.towers,
                # FSDP wants one dtype in what it shards together.
                one_dtype=self.device_mesh is not None,
            )
            if self.lora.changes_base:
                self.initial_adapters = {
                    name: value.detach().cpu().clone() for name, value in model.state_dict().items() if "lora_" in name
                }
        freeze_parameters(model, self.freeze_patterns)
        check_trained(model, self.special_tokens)
        if self.gradient_checkpointing == "auto":  # nothing was estimated: there is no fit
            self.gradient_checkpointing = False
        if self.gradient_checkpointing:
            is_selective = self.gradient_checkpointing == "selective"
            recompute_blocks(model, is_selective=is_selective, is_compiled=self.is_compiled)
        # transformers hands out models in eval mode and Lightning keeps that: dropout would stay off in the fit.
        model.train(not self.keep_eval)
        self.model = model
        named = self.named_parameters(remove_duplicate=False)
        self.trained = frozenset(name for name, parameter in named if parameter.requires_grad)
        self.on_model_built()
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh)
        if self.is_compiled:
            compile_blocks(self.model)

    def _grow(self, model: Any) -> list[int]:
        """Add rows for all tokens of the tokenizer, and return the ids that the base knows nothing of."""
        try:
            tokenizer = self.tokenizer()
        except ModelError:
            # Whoever trains on ids of another making has none there.
            if self.special_tokens:
                raise
            return []
        rows = model.get_input_embeddings().weight.shape[0]
        if names := names_from(tokenizer, rows):
            rank_zero_info(f"{rows_line(names, rows)}: rows are added")
        self.has_new_tokens = grow_embeddings(model, tokenizer) > 0
        ids: list[int] = tokenizer.convert_tokens_to_ids(list(dict.fromkeys([*self.special_tokens, *names])))
        return ids

    def on_model_built(self) -> None:
        """Prepare what hangs on the model; called before it is sharded and compiled."""

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_trained_weights(self)
        checkpoint[DESCRIPTION] = self.description()
        if self.lora is not None:
            checkpoint["state_dict"] = keep_trained(checkpoint["state_dict"], self.trained)

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        tokens = tuple((checkpoint.get(DESCRIPTION) or {}).get("special_tokens", self.special_tokens))
        if self._trainer is None and tokens != self.special_tokens:
            # load_from_checkpoint has built the model already, without the data whose template adds them.
            self.special_tokens, self.model = tokens, None
            self.configure_model()
        check_description(checkpoint.get(DESCRIPTION), self.description())
        if "state_dict" not in checkpoint:  # the strategy has loaded it already
            return
        own = self.state_dict()
        check_weights(checkpoint["state_dict"], own, own if self.lora is None else self.trained)
        checkpoint["state_dict"] = {**own, **checkpoint["state_dict"]}

    def description(self) -> dict[str, Any]:
        """Return what a checkpoint says of its model: entries of `ModelDescription`, and whether it holds adapters."""
        return {
            "base": self.base,
            "architecture": self.architecture,
            "adapters": self.lora is not None,
            "special_tokens": list(self.special_tokens),
            "taken_from_base": self.lora.init_lora_weights if self.lora and self.lora.changes_base else None,
            "task": next(task for task, name in AUTO_CLASSES.items() if name == self.auto_class),
            "recipe": self.recipe,
            "expanded_from": self.expanded_from,
            "dtype": self._dtype_of_weights(),
            "precision": None if self._trainer is None else str(self._trainer.precision),
            "versions": installed_versions(),
            **training_description(self._trainer),
        }

    def _dtype_of_weights(self) -> str | None:
        # That of the computation where they are 4-bit: what is kept in float32 beside them says nothing of the base.
        if self.quantization is not None:
            return "bfloat16"
        return None if self.model is None else str(self.model.dtype).removeprefix("torch.")

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the base's tokenizer, with the tokens that the data's template adds; copy it before you change it.

        It is kept: large vocabularies take seconds to load.
        """
        if self._tokenizer is None or self._tokenizer[0] != self.special_tokens:
            loaded = load_tokenizer(self.base, self.trust_remote_code, self.special_tokens)
            self._tokenizer = (self.special_tokens, loaded)
        return self._tokenizer[1]
