"""The arms: what each came to, and which did not come to their end."""

from __future__ import annotations

from lightning_neft.report.arms import Arm
from lightning_neft.report.content import Heading, Section, Table
from lightning_neft.report.fields import Fields
from lightning_neft.report.inputs import Inputs
from lightning_neft.report.numbers import MISSING, count, fixed, share
from lightning_neft.report.secrets import mask_text

__all__ = ["arm_table"]

_LEAD = (
    "Arms with one seed are the same run but for the noise: same data order, initialisation and dropout. Losses are of "
    "the model without noise, a mean in which each sample weighs the same, as in the differences; the gap is held-out "
    "loss minus training loss."
)
_COLUMNS = ("arm", "state", "held-out loss", "training loss", "gap", "words", "repeated 2-grams", "ROUGE-L", "seconds")


def arm_table(inputs: Inputs) -> Section | None:
    """Return the section; None without a study."""
    if not inputs.studies:
        return None
    section = Section("arms", "Arms", _LEAD)
    for study in inputs.studies:
        if len(inputs.studies) > 1:
            section.blocks.append(Heading(study.label))
        recipe = f" of {study.recipe}" if study.recipe else ""
        section.blocks.append(_measured(f"Arms{recipe}", [_row(arm) for arm in study.arms]))
        if stopped := study.in_state("failed", "pruned", "waiting"):
            section.blocks.append(_unfinished(stopped))
    return section


def _measured(caption: str, rows: list[list[str]]) -> Table:
    """A table without the columns that nothing was measured for."""
    kept = [index for index in range(len(_COLUMNS)) if any(row[index] != MISSING for row in rows)]
    return Table(
        caption, [_COLUMNS[index] for index in kept], [[row[index] for index in kept] for row in rows], frozenset({1})
    )


def _unfinished(arms: list[Arm]) -> Table:
    rows = [[arm.name, arm.state, mask_text(arm.error) or MISSING, arm.folder or MISSING] for arm in arms]
    return Table("Arms that did not come to their end", ["arm", "state", "why", "folder"], rows, frozenset({1, 2, 3}))


def _row(arm: Arm) -> list[str]:
    gap = None
    if arm.held_out_loss is not None and arm.train_clean_loss is not None:
        gap = arm.held_out_loss - arm.train_clean_loss
    return [
        arm.name,
        arm.state,
        *(fixed(value) for value in (arm.held_out_loss, arm.train_clean_loss, gap)),
        fixed(_of(arm.text_statistics, "mean_words"), decimals=1),
        share(_of(arm.text_statistics, "repetition_2")),
        fixed(_of(arm.memorization, "mean_rouge_l")),
        count(arm.seconds),
    ]


def _of(fields: Fields | None, key: str) -> float | None:
    return None if fields is None else fields.number(key)
