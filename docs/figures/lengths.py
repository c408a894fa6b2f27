"""Draw docs/figures/lengths.svg: how strong the noise is at each token, with true lengths and in the padded form.

    python docs/figures/lengths.py

What is drawn is measured: the RMS, over many draws and the width, of what an embedding of zeros returns.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_neft import EmbeddingNoise

__all__ = ["batches", "draw", "measured_rms"]

FILE = Path(__file__).with_suffix(".svg")
LENGTHS = (4, 8, 16, 32)
PACKED = (4, 12, 16)
ALPHA, DIM, DRAWS = 5.0, 64, 400


def batches() -> dict[str, dict[str, Tensor]]:
    """The two batches: int64 (4, 32) with padding, and (1, 32) with three documents in its row."""
    width = max(LENGTHS)
    mask = (torch.arange(width) < torch.tensor(LENGTHS)[:, None]).long()
    positions = torch.cat([torch.arange(length) for length in PACKED])[None]
    return {
        "padded batch": {"input_ids": mask, "attention_mask": mask},
        "packed row": {"input_ids": torch.ones_like(positions), "position_ids": positions},
    }


def measured_rms(batch: dict[str, Tensor], length: str) -> Tensor:
    """RMS of the noise at each place of the batch, float32 (B, L).

    Args:
        batch: With `input_ids`.
        length: `true` or `padded`.
    """
    table = torch.nn.Embedding(2, DIM)
    torch.nn.init.zeros_(table.weight)
    squares = torch.zeros(batch["input_ids"].shape)
    with EmbeddingNoise(ALPHA, length=length).attach(table) as noise:  # type: ignore[arg-type]
        for step in range(DRAWS):
            with noise.armed(batch, step):
                squares += table(batch["input_ids"]).detach().square().mean(-1)
    return (squares / DRAWS).sqrt()


def draw() -> Figure:
    """The figure: a row for each batch, a column for each form."""
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots(2, 2, height_ratios=(len(LENGTHS), 1), squeeze=False)
    titles = {"true": "true length\n(the paper)", "padded": "padded form\n(transformers)"}
    image = None
    for row, (name, batch) in enumerate(batches().items()):
        for column, length in enumerate(titles):
            place = axes[row, column]
            image = place.imshow(measured_rms(batch, length), vmin=0, vmax=0.2, cmap="Blues", aspect="auto")
            place.set_yticks([])
            if column == 0:
                place.set_ylabel(name)
            if row == 0:
                place.set_title(titles[length])
                place.set_xticks([])
                if column == 0:
                    place.set_yticks(range(len(LENGTHS)), [f"{tokens} tokens" for tokens in LENGTHS])
    figure.supxlabel(f"place in the row; documents of {', '.join(map(str, PACKED))}", fontsize="medium")
    assert image is not None
    figure.colorbar(image, ax=axes, label="RMS of the noise", shrink=0.9)
    return figure


if __name__ == "__main__":
    # The same file from the same code: no random ids, no date.
    with matplotlib.rc_context({"svg.hashsalt": "lightning_neft", "svg.fonttype": "path", "font.size": 9}):
        draw().savefig(FILE, metadata={"Date": None}, transparent=True)
