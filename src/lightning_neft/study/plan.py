"""The plan of a study: its alphas, seeds, pruner and sampler."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

__all__ = [
    "ARMS",
    "PRUNERS",
    "SAMPLERS",
    "Arm",
    "Plan",
    "Sampler",
    "Search",
    "make_pruner",
    "make_sampler",
    "parse_alphas",
    "parse_search",
    "parse_seeds",
]


STUDY_ID = "study-id"
"""The file in the folder of a study that contains its name in the storage."""
ARMS = "arms"
"""Folder of the runs, inside the folder of the study."""
Sampler = Literal["tpe", "gp"]
PRUNERS = ("none", "median", "hyperband", "halving")
SAMPLERS = ("tpe", "gp")
# Optuna's default of ten random trials would use up a small study.
_RANDOM_AT_FIRST = 5
# A baseline and two others are enough to compare with.
_ENDED_BEFORE_PRUNING = 3


def make_pruner(name: str) -> BasePruner:
    """Return the pruner of a name of `PRUNERS`."""
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=_ENDED_BEFORE_PRUNING)
    makers = {
        "none": pruners.NopPruner,
        "hyperband": pruners.HyperbandPruner,
        "halving": pruners.SuccessiveHalvingPruner,
    }
    pruner: BasePruner = makers[name]()
    return pruner


def make_sampler(name: Sampler, seed: int) -> BaseSampler:
    """Return the sampler of a name of `SAMPLERS`."""
    from optuna import samplers

    maker = samplers.GPSampler if name == "gp" else samplers.TPESampler
    return maker(seed=seed, n_startup_trials=_RANDOM_AT_FIRST)


@dataclass(frozen=True, order=True)
class Arm:
    """One run of the recipe.

    Attributes:
        alpha: Strength of its noise; 0 is the baseline.
        seed: Of its data order, initialisation and dropout, and of its noise.

    Example:
        >>> Arm(2.5, 1).name
        'alpha-2.5-seed-1'
    """

    alpha: float
    seed: int

    @property
    def name(self) -> str:
        """Folder of the arm."""
        return f"alpha-{self.alpha:.9g}-seed-{self.seed}"


@dataclass(frozen=True)
class Search:
    """A search for the best alpha instead of a list.

    Attributes:
        low: The minimum alpha to try.
        high: The maximum alpha to try.
        trials: Number of alphas, not counting the baseline.
        sampler: How the next one is chosen: Optuna's tree-structured Parzen estimator, or its Gaussian process.
    """

    low: float
    high: float
    trials: int
    sampler: Sampler = "tpe"


@dataclass(frozen=True)
class Plan:
    """The planned arms.

    Attributes:
        folder: Folder of the study.
        alphas: In increasing order, starting with the baseline's 0; only the 0 in a search.
        seeds: In increasing order.
        search: The search for alpha, if there is one.
    """

    folder: Path
    alphas: tuple[float, ...]
    seeds: tuple[int, ...]
    search: Search | None = None

    @property
    def arm_count(self) -> int:
        """The number of planned arms."""
        return (len(self.alphas) + (self.search.trials if self.search else 0)) * len(self.seeds)

    def folder_of(self, arm: Arm) -> Path:
        """Return the folder of an arm's run."""
        return self.folder / ARMS / arm.name


def is_study(folder: Path) -> bool:
    """Return whether a folder is that of a study."""
    return (folder / STUDY_ID).is_file()


def parse_alphas(text: str) -> tuple[float, ...]:
    """Return the alphas of a comma-separated list, in increasing order.

    Raises:
        ConfigError: If one is not a number of 0 or more or is repeated, or if 0 is missing.

    Example:
        >>> parse_alphas("5,0,2.5")
        (0.0, 2.5, 5.0)
    """
    alphas = _numbers("--alphas", text)
    if len(set(alphas)) < len(alphas):
        raise ConfigError(f"--alphas {text!r}: a value is repeated; give each one once")
    if 0 not in alphas:
        raise ConfigError(f"--alphas {text!r}: 0 is missing, the baseline of all comparisons; give 0,{text}")
    return tuple(sorted(alphas))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of a number of seeds, or of a comma-separated list, in increasing order.

    Raises:
        ConfigError: If one is not a whole number of 0 or more or is repeated, or if there are none.

    Example:
        >>> parse_seeds("3"), parse_seeds("4,3"), parse_seeds("3,")
        ((0, 1, 2), (3, 4), (3,))
    """
    seeds = text.removesuffix(",").split(",")
    if not all(one.strip().isdecimal() for one in seeds) or ("," not in text and int(text) == 0):
        raise ConfigError(f"--seeds {text!r}: give the number of seeds, such as 3, or a list with a comma, such as 3,4")
    numbers = tuple(sorted(int(one) for one in seeds))
    if "," not in text:
        return tuple(range(numbers[0]))
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"--seeds {text!r}: a seed is repeated; give each one once")
    return numbers


def parse_search(text: str, trials: int, sampler: Sampler) -> Search:
    """Return the search of `LOW,HIGH`.

    Raises:
        ConfigError: If these are not two increasing numbers of 0 or more.

    Example:
        >>> parse_search("1,20", 8, "tpe")
        Search(low=1.0, high=20.0, trials=8, sampler='tpe')
    """
    ends = _numbers("--search", text)
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise ConfigError(f"--search {text!r}: give the smallest and the largest alpha, such as 1,20")
    low, high = ends
    return Search(low, high, trials, sampler)


def _numbers(option: str, text: str) -> list[float]:
    numbers = []
    for part in text.split(","):
        with suppress(ValueError):
            if math.isfinite(number := float(part)) and number >= 0:
                numbers.append(number)
                continue
        raise ConfigError(f"{option} {text!r}: {part.strip()!r} is not a number of 0 or more; use the form 0,5,10,15")
    return numbers
