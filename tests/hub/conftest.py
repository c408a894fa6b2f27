"""The small random models of `bases`, as fixtures."""

from bases import *  # noqa: F403
