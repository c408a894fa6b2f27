"""Variables by which launchers number the processes of a run; Lightning reads them, and does not name a wrong one."""

from __future__ import annotations

import os

from lightning_neft.errors import ConfigError

__all__ = ["check_environment"]

# Those that Lightning reads as whole numbers, some while it is imported.
_NUMBERS = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "JSM_NAMESPACE_RANK",
    "JSM_NAMESPACE_LOCAL_RANK",
    "JSM_NAMESPACE_SIZE",
)


def check_environment() -> None:
    """Check the variables that number the processes of a run.

    Raises:
        ConfigError: If one is no whole number; one message lists all.
    """
    wrong = [name for name in _NUMBERS if (value := os.environ.get(name)) is not None and not value.isdecimal()]
    if wrong:
        listed = ", ".join(f"{name}={os.environ[name]!r}" for name in wrong)
        raise ConfigError(f"the environment has {listed}, where a whole number is expected; unset it, or set a number")
