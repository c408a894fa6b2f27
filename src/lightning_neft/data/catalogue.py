"""The datasets that have a name here, with what is known about them: source, size, licence, format, template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["CatalogueEntry", "catalogue", "find_entry"]


@dataclass(frozen=True)
class CatalogueEntry:
    """A dataset with a name.

    Attributes:
        name: What to write as a source.
        source: Id on the hub, or the beginning of a web address that the files' paths complete.
        samples: Number of records in `split`; None where it was not to be found out.
        licence: What the publisher says; empty where that was not to be found out.
        format: Name of the data format.
        template: Name of the prompt template that goes with it.
        notes: What else a person should know before training on it, and what could not be checked.
        split: The split that is trained on by default.
        subset: Configuration on the hub, where there are several.
        files: The file of each split, for sources that the datasets library cannot open by their id alone.
        gated: Whether the licence must be accepted on the hub, and a token be set.
        columns: The data's column for some of the format's own.
        cut_conversations: Whether conversations are to be cut to pieces of at most `max_length` tokens.
    """

    name: str
    source: str
    samples: int | None
    licence: str
    format: str
    template: str
    notes: str = ""
    split: str = "train"
    subset: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    gated: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    cut_conversations: bool = False


# Sizes and licences were read off the publishers' pages, cards and data in 2026; where two of them disagree, the notes
# say so.
_ENTRIES = (
    CatalogueEntry(
        name="alpaca",
        source="tatsu-lab/alpaca",
        samples=52_002,
        licence="CC BY-NC 4.0",
        format="alpaca",
        template="alpaca",
        notes="Written by text-davinci-003. One of the four datasets of the paper.",
    ),
    CatalogueEntry(
        name="alpaca-cleaned",
        source="yahma/alpaca-cleaned",
        samples=51_760,
        licence="CC BY 4.0 by its card; the data that it corrects are CC BY-NC 4.0",
        format="alpaca",
        template="alpaca",
        notes="Alpaca with wrong, merged and empty samples repaired or left out.",
    ),
    CatalogueEntry(
        name="alpaca-gpt4",
        source="vicgalle/alpaca-gpt4",
        samples=52_002,
        licence="CC BY-NC 4.0",
        format="alpaca",
        template="alpaca",
        notes="Alpaca's instructions, answered by GPT-4.",
    ),
    CatalogueEntry(
        name="alpaca-1k-longest",
        source=(
            "https://raw.githubusercontent.com/tml-epfl/long-is-more-for-alignment/"
            "5466f17fefef8c41252f92338bd5717af857ae34"
        ),
        files={"train": "data/alpaca/filtered_alpaca_1k_longest.json"},
        samples=1_000,
        licence="none stated; the Alpaca data are CC BY-NC 4.0",
        format="sharegpt",
        template="vicuna",
        notes=(
            "Long Is More for Alignment (arXiv 2402.04833), from its authors' repository: no id on the hub was to be "
            "found. As the authors trained it: Alpaca's prompt, its line breaks lost, stands inside the turn of the "
            "user, and the template is Vicuna's."
        ),
    ),
    CatalogueEntry(
        name="evol-instruct-70k",
        source="WizardLMTeam/WizardLM_evol_instruct_70k",
        samples=70_000,
        licence="MIT",
        format="alpaca",
        template="alpaca",
        notes="Written by gpt-3.5-turbo. One of the four datasets of the paper.",
    ),
    CatalogueEntry(
        name="sharegpt",
        source="anon8231489123/ShareGPT_Vicuna_unfiltered",
        files={"train": "ShareGPT_V3_unfiltered_cleaned_split.json"},
        samples=94_145,
        licence="Apache-2.0 by its card, which says nothing about the rights of those who wrote the conversations",
        format="sharegpt",
        template="vicuna",
        cut_conversations=True,
        notes=(
            "One of the four datasets of the paper, which had 70,000 conversations of ShareGPT and names no source; "
            "this is the usual public copy: some 50,000 conversations that its publisher has already split at 2,048 "
            "tokens, so many begin in the middle."
        ),
    ),
    CatalogueEntry(
        name="open-platypus",
        source="garage-bAInd/Open-Platypus",
        samples=24_926,
        licence="mixed, by source; parts are non-commercial (ScienceQA: CC BY-NC-SA 4.0, ReClor)",
        format="alpaca",
        template="alpaca",
        notes=(
            "One of the four datasets of the paper. Holds 564 questions of TheoremQA, all of whose public questions "
            "are a test set, and 1,317 of ScienceQA: do not measure on those two afterwards."
        ),
    ),
    CatalogueEntry(
        name="openassistant-guanaco",
        source="timdettmers/openassistant-guanaco",
        samples=9_846,
        licence="Apache-2.0",
        format="guanaco",
        template="guanaco",
        notes="Many languages. Some conversations end with a question; the split test has 518 more.",
    ),
    CatalogueEntry(
        name="dolly-15k",
        source="databricks/databricks-dolly-15k",
        samples=15_011,
        licence="CC BY-SA 3.0",
        format="alpaca",
        template="alpaca",
        notes="Written by people. Its columns are instruction, context and response.",
    ),
    CatalogueEntry(
        name="lima",
        source="GAIR/lima",
        files={"train": "train.jsonl", "test": "test.jsonl"},
        samples=1_030,
        licence="CC BY-NC-SA, or stricter where a source of it is",
        format="sharegpt",
        template="vicuna",
        gated=True,
        notes=(
            "Chosen and written by people; 30 of the conversations have several turns. The split test has questions "
            "only. The template is a choice of this package: the data prescribe none."
        ),
    ),
    CatalogueEntry(
        name="imdb",
        source="stanfordnlp/imdb",
        samples=25_000,
        licence="'other' by its card: none is named",
        format="text_label",
        template="plain",
        notes="Film reviews, 0 bad and 1 good. The split test has 25,000 more, unsupervised 50,000 without label.",
    ),
)


def catalogue() -> dict[str, CatalogueEntry]:
    """Return all entries by their names.

    Example:
        >>> catalogue()["alpaca"].samples
        52002
    """
    return {entry.name: entry for entry in _ENTRIES}


def find_entry(name: str) -> CatalogueEntry | None:
    """Return the entry of this name, or None."""
    return catalogue().get(name)
