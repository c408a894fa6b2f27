"""Vision-language bases: which configs are theirs, and the class that loads them whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["is_vision_language", "loading_class"]


def is_vision_language(config: PretrainedConfig) -> bool:
    """Return whether a config is of a decoder that reads images beside text.

    >>> from lightning_neft.hub.base_config import load_base_config
    >>> is_vision_language(load_base_config("tiny"))
    False
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as READING_IMAGES

    has_parts = config.get_text_config() is not config
    return has_parts and config.model_type in READING_IMAGES and not getattr(config, "is_encoder_decoder", False)


def loading_class(auto_class: str, config: PretrainedConfig) -> str:
    """Return the name of the automatic class of transformers that loads a base whole.

    `AutoModelForCausalLM` loads some vision-language checkpoints as their text model alone and refuses others. The
    whole model costs the memory of its towers, but adapters and weights keep the names that other programs expect.

    Args:
        auto_class: Name of the automatic class for the task.
        config: Config of the base.
    """
    is_whole = auto_class != "AutoModelForCausalLM" or not is_vision_language(config)
    return auto_class if is_whole else "AutoModelForImageTextToText"
