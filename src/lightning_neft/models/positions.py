"""Whether a model has positions for the samples that it is to be trained on, asked before its weights are loaded."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from lightning_neft.errors import ModelError
from lightning_neft.models.base import loading, resolve_base
from lightning_neft.models.base_config import check_base_config

__all__ = ["check_positions"]

# Model types whose positions are counted from behind the padding token's id.
_BEHIND_PADDING = frozenset(
    {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"}
)


def check_positions(base: str, longest: int, trust_remote_code: bool = False) -> None:
    """Check that the longest sample has a position for each of its tokens.

    A table of learnt positions ends there: the first longer sample would end the run with an index error, hours later
    perhaps. Rotary positions go on, beyond what the model has ever seen, which is worth a warning.

    Args:
        base: Folder or hub id of the base model, or `tiny`.
        longest: Tokens of the longest sample.
        trust_remote_code: Whether code that comes with the base model may run.

    Raises:
        ModelError: If there are fewer positions than tokens.
    """
    from transformers import AutoConfig

    check_base_config(base)
    with loading("config", base):
        config = AutoConfig.from_pretrained(resolve_base(base), trust_remote_code=trust_remote_code).get_text_config()
    positions = _positions(config)
    if positions is None or longest <= positions:
        return
    found = f"the longest sample has {longest} tokens, model base {base!r} has {positions} positions"
    if getattr(config, "rope_parameters", None):
        rank_zero_warn(f"{found}: what lies behind them it has never seen; set data.max_length={positions}")
        return
    raise ModelError(f"{found}; set data.max_length={positions}")


def _positions(config: Any) -> int | None:
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or config.model_type not in _BEHIND_PADDING:
        return positions
    return int(positions - config.pad_token_id - 1)
