"""The base models of the recipes, with what is known about them: hub id, licence, size, shape, architecture."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from lightning_neft.errors import ConfigError

__all__ = ["BaseModel", "base_models", "find_base_model"]


@dataclass(frozen=True)
class BaseModel:
    """A base model with a name.

    Attributes:
        name: What a recipe's card calls it.
        hub_id: Id on the hub, or a name of the package's own.
        licence: What the publisher says.
        gated: Whether the licence must be accepted on the hub, and a token be set.
        parameters: Number of weights, the tied ones once, without a new head.
        layers: Number of blocks; of an encoder-decoder those of both.
        width: Size of the hidden states.
        heads: Attention heads of a block.
        kv_heads: Those of keys and values.
        feed_forward: Width inside the feed-forward part.
        vocabulary: Rows of the embedding table.
        context: The most tokens that it was made for.
        model_type: transformers' word for the architecture.
        architecture: transformers' class for what the recipes do with it.
        head_width: Width of an attention head where it is not width / heads.
        is_tied: Whether the output layer is the embedding table.
        notes: What else a person should know, and what could not be checked.
    """

    name: str
    hub_id: str
    licence: str
    gated: bool
    parameters: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int
    model_type: str
    architecture: str
    head_width: int | None = None
    is_tied: bool = False
    notes: str = ""


_LLAMA_1 = "LLaMA licence of Meta, for research that is not commercial"
_LLAMA_2 = "Llama 2 Community License"
_UNOFFICIAL = (
    "Not Meta's own repository, which gave the weights on request: the usual conversion for transformers. Meta's terms "
    "hold all the same."
)

# Ids, licences and gating are those of the publishers' cards as far as they are known: the hub itself was not asked.
# Shapes are those of their config.json; the tests count each model's parameters with transformers.
_ENTRIES = (
    BaseModel(
        name="tiny",
        hub_id="tiny",
        licence="Apache-2.0",
        gated=False,
        parameters=984_192,
        layers=4,
        width=128,
        heads=4,
        kv_heads=4,
        feed_forward=384,
        vocabulary=1024,
        context=1024,
        model_type="llama",
        architecture="LlamaForCausalLM",
        is_tied=True,
        notes="Comes with the package; trained on its toy data alone, by scripts/pretrain_tiny.py.",
    ),
    BaseModel(
        name="tiny-t5",
        hub_id="tiny-t5",
        licence="Apache-2.0",
        gated=False,
        parameters=82_688,
        layers=4,
        width=32,
        heads=4,
        kv_heads=4,
        feed_forward=64,
        vocabulary=1028,
        context=512,
        model_type="t5",
        architecture="T5ForConditionalGeneration",
        is_tied=True,
        notes="Random weights, made on first use: not pretrained.",
    ),
    BaseModel(
        name="llama-2-7b",
        hub_id="meta-llama/Llama-2-7b-hf",
        licence=_LLAMA_2,
        gated=True,
        parameters=6_738_415_616,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=32,
        feed_forward=11008,
        vocabulary=32000,
        context=4096,
        model_type="llama",
        architecture="LlamaForCausalLM",
    ),
    BaseModel(
        name="llama-2-7b-chat",
        hub_id="meta-llama/Llama-2-7b-chat-hf",
        licence=_LLAMA_2,
        gated=True,
        parameters=6_738_415_616,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=32,
        feed_forward=11008,
        vocabulary=32000,
        context=4096,
        model_type="llama",
        architecture="LlamaForCausalLM",
        notes="Already tuned for chat by its publisher.",
    ),
    BaseModel(
        name="llama-2-13b",
        hub_id="meta-llama/Llama-2-13b-hf",
        licence=_LLAMA_2,
        gated=True,
        parameters=13_015_864_320,
        layers=40,
        width=5120,
        heads=40,
        kv_heads=40,
        feed_forward=13824,
        vocabulary=32000,
        context=4096,
        model_type="llama",
        architecture="LlamaForCausalLM",
    ),
    BaseModel(
        name="llama-2-70b",
        hub_id="meta-llama/Llama-2-70b-hf",
        licence=_LLAMA_2,
        gated=True,
        parameters=68_976_648_192,
        layers=80,
        width=8192,
        heads=64,
        kv_heads=8,
        feed_forward=28672,
        vocabulary=32000,
        context=4096,
        model_type="llama",
        architecture="LlamaForCausalLM",
    ),
    BaseModel(
        name="llama-1-7b",
        hub_id="huggyllama/llama-7b",
        licence=_LLAMA_1,
        gated=False,
        parameters=6_738_415_616,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=32,
        feed_forward=11008,
        vocabulary=32000,
        context=2048,
        model_type="llama",
        architecture="LlamaForCausalLM",
        notes=_UNOFFICIAL,
    ),
    BaseModel(
        name="llama-1-30b",
        hub_id="huggyllama/llama-30b",
        licence=_LLAMA_1,
        gated=False,
        parameters=32_528_943_616,
        layers=60,
        width=6656,
        heads=52,
        kv_heads=52,
        feed_forward=17920,
        vocabulary=32000,
        context=2048,
        model_type="llama",
        architecture="LlamaForCausalLM",
        notes=_UNOFFICIAL,
    ),
    BaseModel(
        name="opt-350m",
        hub_id="facebook/opt-350m",
        licence="OPT-175B licence of Meta, for research that is not commercial",
        gated=False,
        parameters=331_196_416,
        layers=24,
        width=1024,
        heads=16,
        kv_heads=16,
        feed_forward=4096,
        vocabulary=50272,
        context=2048,
        model_type="opt",
        architecture="OPTForCausalLM",
        is_tied=True,
        notes="The embedding is 512 wide and projected to 1024: the noise is on the 512.",
    ),
    BaseModel(
        name="opt-6.7b",
        hub_id="facebook/opt-6.7b",
        licence="OPT-175B licence of Meta, for research that is not commercial",
        gated=False,
        parameters=6_658_473_984,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=32,
        feed_forward=16384,
        vocabulary=50272,
        context=2048,
        model_type="opt",
        architecture="OPTForCausalLM",
        is_tied=True,
    ),
    BaseModel(
        name="mistral-7b",
        hub_id="mistralai/Mistral-7B-v0.1",
        licence="Apache-2.0",
        gated=True,
        parameters=7_241_732_096,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=8,
        feed_forward=14336,
        vocabulary=32000,
        context=32768,
        model_type="mistral",
        architecture="MistralForCausalLM",
        notes="The hub asks for contact details since April 2024 (neuralmagic/sparseml#2249); may have changed since.",
    ),
    BaseModel(
        name="smollm2-135m",
        hub_id="HuggingFaceTB/SmolLM2-135M",
        licence="Apache-2.0",
        gated=False,
        parameters=134_515_008,
        layers=30,
        width=576,
        heads=9,
        kv_heads=3,
        feed_forward=1536,
        vocabulary=49152,
        context=8192,
        model_type="llama",
        architecture="LlamaForCausalLM",
        is_tied=True,
    ),
    BaseModel(
        name="smollm2-360m",
        hub_id="HuggingFaceTB/SmolLM2-360M",
        licence="Apache-2.0",
        gated=False,
        parameters=361_821_120,
        layers=32,
        width=960,
        heads=15,
        kv_heads=5,
        feed_forward=2560,
        vocabulary=49152,
        context=8192,
        model_type="llama",
        architecture="LlamaForCausalLM",
        is_tied=True,
    ),
    BaseModel(
        name="qwen3-0.6b",
        hub_id="Qwen/Qwen3-0.6B-Base",
        licence="Apache-2.0",
        gated=False,
        parameters=596_049_920,
        layers=28,
        width=1024,
        heads=16,
        kv_heads=8,
        feed_forward=3072,
        vocabulary=151936,
        context=32768,
        model_type="qwen3",
        architecture="Qwen3ForCausalLM",
        head_width=128,
        is_tied=True,
        notes="The pretrained one: Qwen/Qwen3-0.6B is its publisher's own chat model.",
    ),
    BaseModel(
        name="qwen3-8b",
        hub_id="Qwen/Qwen3-8B-Base",
        licence="Apache-2.0",
        gated=False,
        parameters=8_190_735_360,
        layers=36,
        width=4096,
        heads=32,
        kv_heads=8,
        feed_forward=12288,
        vocabulary=151936,
        context=32768,
        model_type="qwen3",
        architecture="Qwen3ForCausalLM",
        head_width=128,
        notes="The pretrained one: Qwen/Qwen3-8B is its publisher's own chat model.",
    ),
    BaseModel(
        name="llama-3.2-1b",
        hub_id="meta-llama/Llama-3.2-1B",
        licence="Llama 3.2 Community License",
        gated=True,
        parameters=1_235_814_400,
        layers=16,
        width=2048,
        heads=32,
        kv_heads=8,
        feed_forward=8192,
        vocabulary=128256,
        context=131072,
        model_type="llama",
        architecture="LlamaForCausalLM",
        is_tied=True,
    ),
    BaseModel(
        name="llama-3.1-8b",
        hub_id="meta-llama/Llama-3.1-8B",
        licence="Llama 3.1 Community License",
        gated=True,
        parameters=8_030_261_248,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=8,
        feed_forward=14336,
        vocabulary=128256,
        context=131072,
        model_type="llama",
        architecture="LlamaForCausalLM",
    ),
    BaseModel(
        name="gemma-3-1b",
        hub_id="google/gemma-3-1b-pt",
        licence="Gemma Terms of Use",
        gated=True,
        parameters=999_885_952,
        layers=26,
        width=1152,
        heads=4,
        kv_heads=1,
        feed_forward=6912,
        vocabulary=262144,
        context=32768,
        model_type="gemma3_text",
        architecture="Gemma3ForCausalLM",
        head_width=256,
        is_tied=True,
        notes="Multiplies its embeddings by sqrt(1152) inside the embedding module: the same alpha is weaker here.",
    ),
    BaseModel(
        name="granite-3.3-2b",
        hub_id="ibm-granite/granite-3.3-2b-base",
        licence="Apache-2.0",
        gated=False,
        parameters=2_533_525_504,
        layers=40,
        width=2048,
        heads=32,
        kv_heads=8,
        feed_forward=8192,
        vocabulary=49152,
        context=131072,
        model_type="granite",
        architecture="GraniteForCausalLM",
        is_tied=True,
        notes=(
            "Multiplies by 12 what the embedding returns, noise included. Its vocabulary's size could not be checked."
        ),
    ),
    BaseModel(
        name="phi-4-mini",
        hub_id="microsoft/Phi-4-mini-instruct",
        licence="MIT",
        gated=False,
        parameters=3_836_021_760,
        layers=32,
        width=3072,
        heads=24,
        kv_heads=8,
        feed_forward=8192,
        vocabulary=200064,
        context=131072,
        model_type="phi3",
        architecture="Phi3ForCausalLM",
        is_tied=True,
        notes="Already tuned for instructions by its publisher, who gives no pretrained one.",
    ),
    BaseModel(
        name="flan-t5-base",
        hub_id="google/flan-t5-base",
        licence="Apache-2.0",
        gated=False,
        parameters=247_577_856,
        layers=24,
        width=768,
        heads=12,
        kv_heads=12,
        feed_forward=2048,
        vocabulary=32128,
        context=512,
        model_type="t5",
        architecture="T5ForConditionalGeneration",
    ),
    BaseModel(
        name="modernbert-base",
        hub_id="answerdotai/ModernBERT-base",
        licence="Apache-2.0",
        gated=False,
        parameters=149_014_272,
        layers=22,
        width=768,
        heads=12,
        kv_heads=12,
        feed_forward=1152,
        vocabulary=50368,
        context=8192,
        model_type="modernbert",
        architecture="ModernBertForSequenceClassification",
        is_tied=True,
        notes="A LayerNorm follows right after the embedding: the same alpha is stronger here.",
    ),
)


def base_models() -> dict[str, BaseModel]:
    """Return all entries by their names.

    Example:
        >>> base_models()["llama-2-7b"].layers
        32
    """
    return {entry.name: entry for entry in _ENTRIES}


def find_base_model(name: str) -> BaseModel:
    """Return the entry of this name.

    Raises:
        ConfigError: If there is none; the message has the nearest names.
    """
    known = base_models()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    raise ConfigError(f"no base model {name!r}; {f'did you mean {near[0]}?' if near else 'one of ' + ', '.join(known)}")
