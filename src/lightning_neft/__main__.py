"""`python -m lightning_neft`: the program."""

from __future__ import annotations

import sys

from lightning_neft.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
