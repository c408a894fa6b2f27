"""The main module of a rank of an arm of a study; its argument is the arm."""

from __future__ import annotations

import sys

from lightning_neft.cli.study_arm import run_arm
from lightning_neft.study.arm import ArmTask

if __name__ == "__main__":
    # `start_arm` gives the first rank its connection to the worker; Lightning starts the other ranks, without one.
    run_arm(ArmTask.from_json(sys.argv[1]), globals().get("connection"))
