"""Rows: models that read images beside text. The image's places in the text are no tokens: no noise, not counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from matrix.rows import (
    IGNORED,
    IMAGE,
    LENGTHS,
    SIZES,
    WIDTH,
    Architecture,
    Batch,
    encoder_tokens,
    from_config,
    mask_of,
    token_ids,
    tokens_by_name,
)

FAMILY = "Vision-language models"
TEXT = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 2}
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4}
# Two images, of four slots each, in the first two rows; the third is text alone, the shortest row.
IMAGES, SLOTS = 2, slice(1, 5)
PROMPT = 7
# Patches at a side of an image; 2 x 2 of them fill a slot.
SIDE = 4
GRID = (1, SIDE, SIDE)
VISION_START, VIDEO, AUDIO = 97, 98, 96
QWEN_VISION = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "in_channels": 3,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
}
QWEN_TOKENS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": VISION_START}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_interleaved": True}


def _image_slots() -> Tensor:
    slots = torch.zeros(len(LENGTHS), WIDTH, dtype=torch.bool)
    slots[:IMAGES, SLOTS] = True
    return slots


def _text_tokens() -> Tensor:
    return encoder_tokens() & ~_image_slots()


def _pixels(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(4))


def _batch(images: Callable[[Tensor], Batch]) -> Batch:
    mask = mask_of(LENGTHS, WIDTH)
    ids = token_ids(LENGTHS, WIDTH, seed=1).masked_fill(_image_slots(), IMAGE)
    labels = torch.where((mask == 1) & (ids != IMAGE), ids, IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, **images(ids)}


def _llava_images(ids: Tensor) -> Batch:
    return {"pixel_values": _pixels(IMAGES, 3, 8, 8)}


def _qwen_images(ids: Tensor) -> Batch:
    patches = IMAGES * GRID[0] * GRID[1] * GRID[2]
    return {
        "pixel_values": _pixels(patches, 3 * 2 * 4 * 4),
        "image_grid_thw": torch.tensor([GRID] * IMAGES),
        "mm_token_type_ids": (ids == IMAGE).int(),
    }


def _idefics_images(ids: Tensor) -> Batch:
    # A row without an image gets one of zeros, which the model drops.
    return {"pixel_values": torch.cat([_pixels(IMAGES, 1, 3, 16, 16), torch.zeros(1, 1, 3, 16, 16)])}


def _gemma4_images(ids: Tensor) -> Batch:
    places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))
    return {
        "pixel_values": _pixels(IMAGES, SIDE * SIDE, 3 * 4 * 4),
        "image_position_ids": places.expand(IMAGES, -1, -1),
        "mm_token_type_ids": (ids == IMAGE).int(),
    }


def _square_images(ids: Tensor) -> Batch:
    return {"pixel_values": _pixels(IMAGES, 3, 16, 16)}


def _mistral_images(ids: Tensor) -> Batch:
    return {**_square_images(ids), "image_sizes": torch.tensor([(16, 16)] * IMAGES)}


def _lfm_images(ids: Tensor) -> Batch:
    return {
        "pixel_values": _pixels(IMAGES, SIDE * SIDE, 3 * 4 * 4),
        "spatial_shapes": torch.tensor([(SIDE, SIDE)] * IMAGES),
        "pixel_attention_mask": torch.ones(IMAGES, SIDE * SIDE, dtype=torch.long),
    }


# Of each token; what else a batch has is of each image.
_OF_ROWS = ("input_ids", "attention_mask", "mm_token_type_ids")


def _prompt(batch: Batch) -> Batch:
    """The rows with an image, cut where none has padding yet."""
    of_rows = {key: batch[key][:IMAGES, :PROMPT] for key in _OF_ROWS if key in batch}
    of_images = {key: batch[key] for key in batch if key not in (*_OF_ROWS, "labels")}
    pixels = batch["pixel_values"]
    return {**of_rows, **of_images, "pixel_values": pixels[:IMAGES] if len(pixels) == len(LENGTHS) else pixels}


def _row(
    name: str, model_type: str, stack: str, sizes: dict[str, Any], images: Callable[[Tensor], Batch]
) -> Architecture:
    embedding = f"{stack}.embed_tokens"
    return Architecture(
        name=name,
        family=FAMILY,
        build=partial(from_config, "AutoModelForImageTextToText", model_type, sizes),
        batch=partial(_batch, images),
        expected=(embedding,),
        tokens=tokens_by_name({embedding: _text_tokens}),
        prompt=_prompt,
        slots=(f"{stack}.layers.0", _image_slots),
    )


ROWS = [
    _row(
        "LLaVA",
        "llava",
        "model.language_model",
        {
            "vision_config": {"model_type": "clip_vision_model", **VISION, "image_size": 8, "projection_dim": 16},
            "text_config": {"model_type": "llama", **TEXT},
            "image_token_index": IMAGE,
            "image_seq_length": 4,
            "vision_feature_layer": -1,
        },
        _llava_images,
    ),
    _row(
        "Qwen2-VL",
        "qwen2_vl",
        "model.language_model",
        {
            "vision_config": {
                "depth": 2,
                "embed_dim": 16,
                "hidden_size": 32,
                "num_heads": 2,
                "mlp_ratio": 2,
                "patch_size": 4,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "in_channels": 3,
            },
            "text_config": {
                **TEXT,
                "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
            },
            "image_token_id": IMAGE,
            "video_token_id": VIDEO,
            "vision_start_token_id": VISION_START,
        },
        _qwen_images,
    ),
    _row(
        "Gemma 3",
        "gemma3",
        "model.language_model",
        {
            "vision_config": {**VISION, "image_size": 16},
            "text_config": {**TEXT, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
            "image_token_index": IMAGE,
            "mm_tokens_per_image": 4,
        },
        _square_images,
    ),
    _row(
        "Gemma 4",
        "gemma4",
        "model.language_model",
        {
            "vision_config": {
                **VISION,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "position_embedding_size": 16,
                "pooling_kernel_size": 2,
            },
            "audio_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "subsampling_conv_channels": [8, 4],
                "output_proj_dims": 16,
            },
            # The second half reuses the keys of the first, as in the E2B.
            "text_config": {
                **TEXT,
                "num_hidden_layers": 4,
                "num_kv_shared_layers": 2,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "head_dim": 8,
                "global_head_dim": 8,
                "vocab_size_per_layer_input": TEXT["vocab_size"],
                "hidden_size_per_layer_input": 8,
            },
            "image_token_id": IMAGE,
            "video_token_id": VIDEO,
            "audio_token_id": AUDIO,
        },
        _gemma4_images,
    ),
    _row(
        "Qwen3-VL",
        "qwen3_vl",
        "model.language_model",
        {
            "vision_config": {**QWEN_VISION, "deepstack_visual_indexes": [0]},
            "text_config": {**TEXT, "head_dim": 8, "rope_parameters": {**MROPE, "mrope_section": [2, 1, 1]}},
            **QWEN_TOKENS,
        },
        _qwen_images,
    ),
    _row(
        "Qwen3.5",
        "qwen3_5",
        "model.language_model",
        {
            "vision_config": QWEN_VISION,
            "text_config": {
                **TEXT,
                "head_dim": 8,
                "layer_types": ["linear_attention", "full_attention"],
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "rope_parameters": {**MROPE, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5},
            },
            **QWEN_TOKENS,
        },
        _qwen_images,
    ),
    _row(
        "Mistral Small 3",
        "mistral3",
        "model.language_model",
        {
            "vision_config": {"model_type": "pixtral", **VISION, "image_size": 16, "head_dim": 8},
            "text_config": {"model_type": "mistral", **TEXT, "head_dim": 8},
            "image_token_index": IMAGE,
            "tie_word_embeddings": False,
        },
        _mistral_images,
    ),
    _row(
        "LFM2-VL",
        "lfm2_vl",
        "model.language_model",
        {
            "vision_config": {"model_type": "siglip2_vision_model", **VISION, "num_patches": SIDE * SIDE},
            "text_config": {
                "model_type": "lfm2",
                **TEXT,
                "layer_types": ["conv", "full_attention"],
                "block_auto_adjust_ff_dim": False,
            },
            "image_token_id": IMAGE,
            "projector_hidden_size": 32,
        },
        _lfm_images,
    ),
    _row(
        "SmolVLM",
        "smolvlm",
        "model.text_model",
        {
            "vision_config": {**VISION, "image_size": 16},
            "text_config": {"model_type": "llama", **TEXT},
            "image_token_id": IMAGE,
            "scale_factor": 2,
            "pad_token_id": 0,
        },
        _idefics_images,
    ),
    _row(
        "Idefics3",
        "idefics3",
        "model.text_model",
        {
            "vision_config": {**VISION, "image_size": 16},
            "text_config": {"model_type": "llama", **TEXT},
            "image_token_id": IMAGE,
            "scale_factor": 2,
            "pad_token_id": 0,
        },
        _idefics_images,
    ),
]
