"""One rank of an arm of a study, run as the main module of its process with the arm as its argument."""

from __future__ import annotations

import sys

from lightning_neft.cli.study_arm import run_arm
from lightning_neft.study.arm import ArmTask

if __name__ == "__main__":
    # The first rank gets its connection to the worker from `start_arm`; the others, which Lightning starts, have none.
    run_arm(ArmTask.from_json(sys.argv[1]), globals().get("connection"))
