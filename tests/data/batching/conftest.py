"""Settings of the property tests here."""

from __future__ import annotations

from hypothesis import settings

# The same examples in each run, none kept in a folder, and no limit of time: several test processes may share a core.
settings.register_profile("reproducible", deadline=None, derandomize=True, database=None)
settings.load_profile("reproducible")
