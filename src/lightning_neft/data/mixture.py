"""Several sources as one set of samples: which ones an epoch has, and a view of their stored tokens.

`datasets.interleave_datasets` and `concatenate_datasets` decide, on tables of sample numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import zip_longest
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_neft.data.conversation import Sample
from lightning_neft.data.token_store import TokenStore
from lightning_neft.data.tokenization import EncodedSample
from lightning_neft.errors import ConfigError, DataError

__all__ = ["MixStrategy", "Mixing", "Mixture", "SourceShare", "StoppingStrategy"]

MixStrategy = Literal["interleave", "concatenate"]
# Of `datasets.interleave_datasets`, whose default is the first.
StoppingStrategy = Literal["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"]


@dataclass(frozen=True)
class Mixing:
    """How sources are mixed.

    Attributes:
        names: Name of each source.
        weights: Weight of each; None without weights.
        samples: Maximum number of samples of each; None for all.
        strategy: `interleave` or `concatenate`.
        stopping: When an interleaved epoch ends.
        seed: Seed of the draws.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...] | None
    samples: tuple[int | None, ...]
    strategy: MixStrategy
    stopping: StoppingStrategy
    seed: int

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        weights: Sequence[float | None],
        samples: Sequence[int | None],
        strategy: MixStrategy | None,
        stopping: StoppingStrategy | None,
        seed: int,
    ) -> Mixing:
        """Fill in the defaults: `interleave` if there are weights, otherwise `concatenate`.

        Raises:
            ConfigError: If the options contradict each other.
        """
        given = tuple(weight for weight in weights if weight is not None)
        if given and len(given) < len(weights):
            lacking = names[[*weights].index(None)]
            raise ConfigError(f"data.sources: {lacking} has no weight, but others have; give each a weight, or none")
        chosen = strategy or ("interleave" if given else "concatenate")
        if chosen == "concatenate":
            if given:
                raise ConfigError(
                    "data.mix_strategy=concatenate takes each sample once, so weights have no effect; omit them (give "
                    "samples instead), or set data.mix_strategy interleave"
                )
            if stopping is not None:
                raise ConfigError(
                    f"data.stopping_strategy={stopping} is for data.mix_strategy=interleave, and the sources are "
                    "concatenated; omit it, or set data.mix_strategy interleave"
                )
        return cls(tuple(names), given or None, tuple(samples), chosen, stopping or "first_exhausted", seed)

    def drawn(self, sizes: Sequence[int]) -> NDArray[np.int64]:
        """Return the samples of an epoch, numbered through the sources, in the order of the mixture.

        Each source is shuffled before it is mixed, so that a part of it is not merely its beginning.

        Args:
            sizes: Number of samples of each source.

        Raises:
            DataError: If a source has fewer samples than are wanted.
            ConfigError: If the installed `datasets` lacks the stopping strategy.

        Example:
            >>> Mixing.of(["a", "b"], [3, 1], [None, None], None, None, seed=0).drawn([4, 9]).tolist()
            [2, 0, 1, 3]
        """
        import datasets

        tables, start = [], 0
        for number, (name, size, wanted) in enumerate(zip(self.names, sizes, self.samples, strict=True)):
            if wanted is not None and wanted > size:
                raise DataError(
                    f"data.sources: samples={wanted} of {name} is more than its {size} training samples; give fewer, "
                    "or weights and data.stopping_strategy all_exhausted, which repeats them"
                )
            order = np.random.default_rng([self.seed, number]).permutation(size)[:wanted]
            tables.append(datasets.Dataset.from_dict({"sample": start + order}))
            start += size
        if self.strategy == "concatenate":
            mixed = datasets.concatenate_datasets(tables)
        else:
            shares = None if self.weights is None else (np.array(self.weights) / sum(self.weights)).tolist()
            try:
                mixed = datasets.interleave_datasets(
                    tables, probabilities=shares, seed=self.seed, stopping_strategy=self.stopping
                )
            except ValueError as error:  # a name that a later version has
                raise ConfigError(
                    f"data.stopping_strategy={self.stopping} is not known to datasets {version('datasets')}; install "
                    "a newer one, or choose another strategy"
                ) from error
        return np.asarray(mixed.with_format("numpy")["sample"][:], np.int64)

    def notice(self, mixture: Mixture) -> str:
        """Return a line that reports how many samples of each source an epoch has."""
        found = []
        for name, share in zip(self.names, mixture.shares(), strict=True):
            used = "all" if share.distinct == share.available else f"{share.distinct} of its"
            repeated = f", drawn {share.samples} times" if share.samples > share.distinct else ""
            found.append(f"{name}: {used} {share.available}{repeated}")
        return f"an epoch of the mixture has {len(mixture)} training samples ({'; '.join(found)})"

    def without_seed(self) -> tuple[object, ...]:
        """Return everything but the seed."""
        return self.names, self.weights, self.samples, self.strategy, self.stopping


@dataclass(frozen=True)
class SourceShare:
    """What a source contributes to an epoch of a mixture.

    Attributes:
        samples: Samples in the epoch, repeated ones as often as they are drawn.
        distinct: Number of different ones.
        available: Training samples that the source has.
        tokens: Tokens of the samples in the epoch.
    """

    samples: int
    distinct: int
    available: int
    tokens: int


class Mixture:
    """A view of several sets of stored samples as one, with the interface of a `TokenStore`.

    Args:
        stores: The tokens of each source.
        index: The samples of the view, numbered through the stores, (samples,); all in turn from each by default.
        classes: For classification, the index in the view of each class of each store.

    Attributes:
        sources: int64 (samples,): the number of each sample's source.
        lengths, trained, truncated, marked, dropped: As of `TokenStore`; the counts are those of the stores.
    """

    def __init__(
        self,
        stores: Sequence[TokenStore],
        index: NDArray[np.int64] | None = None,
        classes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.stores, self._classes = tuple(stores), classes
        sizes = [len(store) for store in stores]
        starts = np.cumsum([0, *sizes])
        if index is None:
            places = np.concatenate([np.arange(size) for size in sizes])
            owners = np.repeat(np.arange(len(sizes)), sizes)
            # The first of each source, then the second, and so on: any beginning has samples of all sources.
            index = np.lexsort((owners, places))
        self.sources = np.searchsorted(starts, index, side="right") - 1
        self._places = index - starts[self.sources]
        self.lengths = np.concatenate([store.lengths for store in stores])[index]
        self.trained = np.concatenate([store.trained for store in stores])[index]
        self.truncated = sum(store.truncated for store in stores)
        self.marked = sum(store.marked for store in stores)
        self.dropped = dict(sum((Counter(store.dropped) for store in stores), Counter()))

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> EncodedSample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        source = int(self.sources[index])
        sample = self.stores[source][int(self._places[index])]
        if self._classes is None:
            return sample
        return EncodedSample(sample.input_ids, np.asarray(self._classes[source], np.int32)[sample.labels])

    @cached_property
    def samples(self) -> list[Sample]:
        """The samples as text."""
        return [
            self.stores[source].samples[place]
            for source, place in zip(self.sources.tolist(), self._places.tolist(), strict=True)
        ]

    def shares(self) -> list[SourceShare]:
        """Return what each source contributes."""
        found = []
        for number, store in enumerate(self.stores):
            mine = self.sources == number
            distinct = len(np.unique(self._places[mine]))
            found.append(SourceShare(int(mine.sum()), distinct, len(store), int(self.lengths[mine].sum())))
        return found

    def in_turn(self, count: int) -> list[int]:
        """Return the first samples of the sources in turn, at most `count`."""
        firsts = [np.flatnonzero(self.sources == number)[:count].tolist() for number in range(len(self.stores))]
        turns = zip_longest(*firsts)
        return [index for turn in turns for index in turn if index is not None][:count]
