"""Feed the readers of data files what a coverage-guided fuzzer makes of the corpus; run by `make fuzz`.

    PYTHONPATH=tests python -m fuzz.readers json FOLDER... [-max_total_time=300 and other options of libFuzzer]

The first word says which reader gets the bytes; new inputs go into the first FOLDER, what went wrong into `crash-*` of
the working directory. It needs the package atheris.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Runs until the time is over, or until an input is neither read nor refused."""
    import atheris

    with atheris.instrument_imports(include=["lightning_neft.data", "json", "csv", "gzip"]):
        from fuzz.reading import CORPUS, READERS, read

    program, reader, *options = sys.argv
    if reader not in READERS:
        raise SystemExit(f"no reader {reader!r}; choose one of {', '.join(READERS)}")
    path = Path(f"data.{reader}")
    # What the first input imports takes longer than any input may.
    read(CORPUS / "json" / "alpaca_array")

    def one_input(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    atheris.Setup([program, *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
