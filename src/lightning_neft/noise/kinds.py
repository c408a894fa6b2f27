"""What was seen of the batches so far, by kind: values are read in the first batch of a kind alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from lightning_neft.errors import LengthsError
from lightning_neft.noise.contents import Contents
from lightning_neft.noise.lengths import GIVEN, Length, TokenRows
from lightning_neft.noise.tracing import BatchIds
from lightning_neft.noise.unread import check_unread

__all__ = ["BatchKinds"]

# Kinds that are remembered. Batches of further kinds are not checked: each batch may have new keys.
_MOST_KINDS = 64


class BatchKinds:
    """The kinds of batches of one attached noise. The keys of a batch and the dimensions of its tensors are its kind.

    Args:
        length: The length rule.
        sequence_first: Name and class of a module that takes (L, B), if there is one.
        has_padding: Whether a padding id is known.
    """

    def __init__(self, length: Length, sequence_first: str | None, has_padding: bool) -> None:
        self._length = length
        self._sequence_first = sequence_first
        self._has_padding = has_padding
        self._seen: dict[frozenset[tuple[str, int]], set[object]] = {}
        self._known: set[object] = set()
        self._undescribed: list[Tensor] = []
        self._unread: Callable[[], None] | None = None
        self.is_new = True
        """Whether the last batch was the first of its kind."""

    def check(self, contents: Contents, rows: Sequence[TokenRows]) -> None:
        """Refuse a batch whose padding may be described by something that its rows do not use.

        Args:
            contents: The batch.
            rows: The rows of tokens that were found in it.

        Raises:
            LengthsError: The lengths are unknown; says what to type.
        """
        kind = frozenset(
            (part.place, part.value.dim() if isinstance(part.value, Tensor) else -1) for part in contents.leaves
        )
        self.is_new = kind not in self._seen and len(self._seen) < _MOST_KINDS
        self._known = self._seen.setdefault(kind if self.is_new or kind in self._seen else frozenset(), set())
        self._undescribed = [row.ids for row in rows if not row.is_described and row.ids is not None]
        self._unread = None
        if self.is_new and (self._undescribed or not rows):
            self._unread = partial(check_unread, contents, self._undescribed, self._has_padding)
            if len(self._seen) == 1:
                self.settle()
        if self._sequence_first and not self._is_certain(rows):
            raise LengthsError(
                f"{self._sequence_first} has batch_first=False, so the tokens may be (B, L) or (L, B): return the "
                "mask, always (B, L), from batch_to_mask, or use a number of tokens, length=512."
            )

    def ids(self, contents: Contents) -> BatchIds:
        """The ids of the batch that was checked last."""
        return BatchIds([part.value for part in contents.tensors], self._undescribed, self.is_new, self._known)

    def settle(self) -> None:
        """Refuse the batch if something in it that nothing reads may say which tokens are padding.

        Of the second kind of batches and later ones, asked once the batch got noise: it may train another part of the
        model.

        Raises:
            LengthsError: There is such a thing.
        """
        unread, self._unread = self._unread, None
        if unread is not None:
            unread()

    def _is_certain(self, rows: Sequence[TokenRows]) -> bool:
        if isinstance(self._length, int):
            return True
        return bool(rows) and all(row.source == GIVEN or row.documents.dim() == 1 for row in rows)
