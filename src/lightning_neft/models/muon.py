"""`MuonWithAdamW`: Muon for the matrices of hidden layers and AdamW for the other parameters, as one optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import AdamW, Muon, Optimizer
from typing_extensions import override

__all__ = ["MuonWithAdamW"]


class MuonWithAdamW(Optimizer):
    """Trains hidden matrices with `torch.optim.Muon` and everything else with `torch.optim.AdamW`.

    As PyTorch recommends: embeddings, output layer, biases and norms are AdamW's, and so is everything with another
    number of dimensions than two, such as convolutions and stacked experts. Muon's updates are scaled to the size of
    AdamW's (`match_rms_adamw`, arXiv 2502.16982, sec. 2.2), so that one learning rate and one decay serve both.

    Lightning steps one optimiser by itself. Both parts share its groups and its state, so that schedules, clipping and
    checkpoints are those of any other optimiser.

    Args:
        params: Groups of parameters, each with its `weight_decay`.
        lr: Learning rate of groups without one.
        tables: Parameters with two dimensions that are AdamW's: embeddings and output layers.

    Example:
        >>> linear = torch.nn.Linear(3, 2)
        >>> optimizer = MuonWithAdamW([{"params": [linear.weight]}, {"params": [linear.bias]}], lr=1e-3)
        >>> [(group["use_muon"], len(group["params"])) for group in optimizer.param_groups]
        [(True, 1), (False, 1)]
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float = 1e-3, *, tables: Sequence[Parameter] = ()) -> None:
        others = {id(table) for table in tables}
        groups: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for group in params:
            for use_muon, found in groups.items():
                own = [p for p in group["params"] if (p.ndim == 2 and id(p) not in others) is use_muon]
                if own:
                    found.append({**group, "params": own, "use_muon": use_muon})
        self._parts: dict[bool, Optimizer] = {}
        if groups[True]:
            self._parts[True] = Muon(groups[True], lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        if groups[False]:
            self._parts[False] = AdamW(groups[False], lr=lr, weight_decay=0.0)
        # The very groups of the parts, with the defaults that these have filled in.
        made = [group for part in self._parts.values() for group in part.param_groups]
        super().__init__(made, {"lr": lr, "weight_decay": 0.0})

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step both parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for use_muon, part in self._parts.items():
            # Loading a checkpoint replaces groups and state by others.
            part.param_groups = [group for group in self.param_groups if group["use_muon"] is use_muon]
            part.state = self.state
            part.step()
        return loss
