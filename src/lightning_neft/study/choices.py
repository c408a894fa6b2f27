"""Which of Optuna's pruners and samplers a study can use, by name. Optuna is imported only where one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

__all__ = ["PRUNERS", "SAMPLERS", "Sampler", "make_pruner", "make_sampler"]

Sampler = Literal["tpe", "gp"]
PRUNERS = ("none", "median", "hyperband", "halving")
SAMPLERS = ("tpe", "gp")
# Of a study with few arms the usual ten at random would be all of them.
_RANDOM_AT_FIRST = 5
# With a baseline and two others there is something to compare with.
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
