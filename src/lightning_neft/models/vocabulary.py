"""Rows of the embedding for all tokens, and positions for all lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.hub.base_config import load_base_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_positions", "check_trained", "grow_embeddings", "lacking_rows", "names_from", "rows_line"]


# Model types whose positions are counted from behind the padding token's id.
_BEHIND_PADDING = frozenset(
    {"camembert", "data2vec-text", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"}
)


def check_positions(base: str, longest: int, trust_remote_code: bool = False) -> None:
    """Check that the longest sample has a position for each of its tokens.

    A table of learnt positions ends there: the first longer sample would end the run with an index error, perhaps after
    hours. Rotary positions continue beyond what the model has seen, which is worth a warning.

    Args:
        base: Folder or hub id of the base model, or `tiny`.
        longest: Tokens of the longest sample.
        trust_remote_code: Whether the base model's own code may run.

    Raises:
        ModelError: If there are fewer positions than tokens.
    """
    config = load_base_config(base, trust_remote_code).get_text_config()
    positions = _positions(config)
    if positions is None or longest <= positions:
        return
    found = f"the longest sample has {longest} tokens, model base {base!r} has {positions} positions"
    if getattr(config, "rope_parameters", None):
        # `doctor` looks at models without Lightning.
        from lightning.pytorch.utilities import rank_zero_warn

        rank_zero_warn(f"{found}: the model has not been trained on later positions; set data.max_length={positions}")
        return
    raise ModelError(f"{found}; set data.max_length={positions}")


def _positions(config: Any) -> int | None:
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or config.model_type not in _BEHIND_PADDING:
        return positions
    return int(positions - config.pad_token_id - 1)


# Names shown in a message.
_SHOWN = 3


def names_from(tokenizer: PreTrainedTokenizerBase, rows: int) -> list[str]:
    """Return the tokens whose ids a table of so many rows does not have, in the order of their ids."""
    beyond = {number: name for name, number in tokenizer.get_vocab().items() if number >= rows}
    return [beyond[number] for number in sorted(beyond)]


def rows_line(names: Sequence[str], rows: int) -> str:
    """Return a line for a person on tokens that a table of so many rows does not have.

    Example:
        >>> rows_line(["[PAD]"], 32000)
        'the tokenizer has 1 token for which the embedding table of 32000 rows has no row ([PAD])'
    """
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    tokens = "token" if len(names) == 1 else "tokens"
    return f"the tokenizer has {len(names)} {tokens} for which the embedding table of {rows} rows has no row ({shown})"


def _table_rows(base: str, trust_remote_code: bool = False) -> int | None:
    """Return how many rows the embedding table of a base has by its config; None without one, or if it does not say.

    Args:
        base: Folder or hub id of the base model, or `tiny`.
        trust_remote_code: Whether the base model's own code may run.
    """
    try:
        config = load_base_config(base, trust_remote_code)
    except ModelError:  # of what is looked at the tokenizer alone may be there
        return None
    rows = getattr(config.get_text_config(), "vocab_size", None)
    return rows if isinstance(rows, int) else None


def lacking_rows(base: str, tokenizer: PreTrainedTokenizerBase, trust_remote_code: bool = False) -> str | None:
    """Return a line for a person if the tokenizer has tokens without a row, as far as the base's config says.

    Args:
        base: Folder or hub id of the base model, or `tiny`.
        tokenizer: Its tokenizer.
        trust_remote_code: Whether the base model's own code may run.
    """
    rows = _table_rows(base, trust_remote_code)
    names = [] if rows is None else names_from(tokenizer, rows)
    return None if rows is None or not names else rows_line(names, rows)


def check_trained(model: Any, tokens: Sequence[str]) -> None:
    """Check that the rows of a template's new tokens are trained, where they begin as one and the same.

    Args:
        model: A model of transformers, bare or inside peft, after parameters are frozen.
        tokens: The tokens that the base does not have.

    Raises:
        ConfigError: If a table with their rows is frozen as a whole.
    """
    names = {id(module): name for name, module in model.named_modules()}
    for table in (model.get_input_embeddings(), model.get_output_embeddings()):
        if tokens and table is not None and not any(parameter.requires_grad for parameter in table.parameters()):
            raise ConfigError(
                f"model.freeze covers {names[id(table)]}, whose rows for {' and '.join(tokens)} are new and would "
                "never differ; omit it, or choose a data.template whose tokens the base has, such as alpaca"
            )


def grow_embeddings(model: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Add rows to a model's embedding table for the ids of the tokenizer that lie beyond it.

    Many tables are longer than the vocabulary, so that added tokens find their rows there: nothing is done then. New
    rows are the mean of the old ones, in the input and in the output embeddings, so that a new token begins with the
    mean of all logits and not above the others (a bias of the output grows likewise).

    Args:
        model: A model of transformers, before adapters are put into it.
        tokenizer: Its tokenizer, with what was added.

    Returns:
        How many rows were added.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    # Not len(tokenizer): some vocabularies have gaps.
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed <= rows:
        return 0
    # Without mean_resizing, which would draw the new rows from a normal distribution around the mean.
    model.resize_token_embeddings(needed, mean_resizing=False)
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    weights = {id(table.weight): table.weight for table in tables if table is not None}
    biases = {id(bias): bias for table in tables if (bias := getattr(table, "bias", None)) is not None}
    with torch.no_grad():
        for table in (*weights.values(), *biases.values()):
            _fill(table, rows)
    return int(needed - rows)


def _fill(table: Tensor, rows: int) -> None:
    """Set all rows from `rows` on to the mean of those before, taken in float64 and rounded once."""
    total = torch.zeros(table.shape[1:], dtype=torch.float64, device=table.device)
    for start in range(0, rows, 4096):  # in blocks: PyTorch would copy the whole table to float64 first
        total += table[start : min(start + 4096, rows)].sum(dim=0, dtype=torch.float64)
    table[rows:] = (total / rows).to(table.dtype)
