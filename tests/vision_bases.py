"""Tiny random checkpoints of the vision-language rows of the matrix, in folders as their publishers lay them out."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bases import save_tokenizer
from matrix.vision_language import ROWS

FAMILIES = {row.name: row for row in ROWS}
# What text does not pass through.
TOWERS = {
    "LLaVA": ["model.vision_tower", "model.multi_modal_projector"],
    "Qwen2-VL": ["model.visual"],
    "Gemma 3": ["model.vision_tower", "model.multi_modal_projector"],
    "Gemma 4": ["model.vision_tower", "model.audio_tower", "model.embed_vision", "model.embed_audio"],
    "Qwen3-VL": ["model.visual"],
    "Qwen3.5": ["model.visual"],
    "Mistral Small 3": ["model.vision_tower", "model.multi_modal_projector"],
    "LFM2-VL": ["model.vision_tower", "model.multi_modal_projector"],
    "SmolVLM": ["model.vision_model", "model.connector"],
    "Idefics3": ["model.vision_model", "model.connector"],
}
# Transformers loads none of these; Qwen3.5's checkpoints have them.
NOT_LOADED = "mtp.fc.weight"


def save_base(family: str, folder: Path, **more: Tensor) -> str:
    """Save a base in bfloat16, with a tokenizer of 29 words and a processor; `more` are further tensors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FAMILIES[family].build()
    model.to(torch.bfloat16).save_pretrained(folder)  # type: ignore[attr-defined, operator]
    if more:
        file = folder / "model.safetensors"
        save_file({**load_file(file), **more}, file, metadata={"format": "pt"})
    save_tokenizer(folder, pad_token="<unk>")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "SiglipImageProcessor"}))
    return str(folder)


def tensors(folder: str | Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors."""
    found: dict[str, Tensor] = {}
    for file in sorted(Path(folder).glob("model*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return found


def layout(found: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """What another program needs to load tensors: keys, dtypes and shapes."""
    return {name: (value.dtype, value.shape) for name, value in found.items()}
