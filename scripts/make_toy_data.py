"""Write the toy data that the package ships: src/lightning_neft/data/toy.jsonl.gz.

    python scripts/make_toy_data.py

Run it after a change of scripts/toy_data/, then scripts/pretrain_tiny.py: the tiny base model is trained on its prose.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from toy_data.instructions import instructions

FILE = Path(__file__).resolve().parent.parent / "src" / "lightning_neft" / "data" / "toy.jsonl.gz"


def lines() -> str:
    """The file's text: a record a line, first those of the split train."""
    records = [{"split": split, **record} for split in ("train", "held_out") for record in instructions(split)]
    return "".join(json.dumps(record) + "\n" for record in records)


def main() -> None:
    """Write the file."""
    FILE.write_bytes(gzip.compress(lines().encode(), 9, mtime=0))
    print(f"{FILE}: {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
