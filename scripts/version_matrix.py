"""The fast tests with the lowest versions that pyproject.toml allows and with the newest, on each Python at hand.

    python scripts/version_matrix.py                        # every Python of the table, both ends
    python scripts/version_matrix.py --python 3.11 --versions lowest -- tests/noise

Each environment is made anew in .matrix/. Run by `make test-matrix`, which brings uv. What uv reads from its own
variables counts here too: UV_TORCH_BACKEND=cpu takes torch without CUDA, where PyTorch's own index can be reached.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".matrix"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
EXTRAS = ("test", "evaluate", "study", "judge", "harness", "docs")
# A version of these without a wheel for the Python at hand would be built for minutes, or not at all.
ONLY_WHEELS = ("numpy", "scipy", "pyarrow", "torch", "matplotlib", "psycopg-binary", "pyyaml")
FAST_TESTS = ["-n", "2", "--dist", "loadgroup", "-m", "not slow"]


def main() -> int:
    """Makes the environments and runs the tests in each of them.

    Returns:
        0 if all of them passed, 1 otherwise. A Python that is not on this machine is said and no failure.
    """
    options = _options()
    if shutil.which("uv") is None:
        raise SystemExit("uv is not on the path: use `make test-matrix`, or install it.")
    outcomes = {}
    for python in options.python:
        if not _found(python):
            outcomes[f"py{python}"] = "no such Python here, not run"
            continue
        for versions in options.versions:
            name = f"py{python}-{versions}"
            print(f"== {name}", flush=True)
            outcomes[name] = _outcome(name, python, RESOLUTIONS[versions], options.pytest)
            print(f"== {name}: {outcomes[name]}", flush=True)
    print("\n".join(f"{name:16} {outcome}" for name, outcome in outcomes.items()))
    return int(any(outcome.startswith("FAILED") for outcome in outcomes.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", nargs="+", default=PYTHONS, help="versions of Python (default: all of the table)")
    parser.add_argument("--versions", nargs="+", choices=RESOLUTIONS, default=tuple(RESOLUTIONS))
    parser.add_argument("pytest", nargs="*", help=f"arguments for pytest, behind -- (default: {' '.join(FAST_TESTS)})")
    return parser.parse_args()


def _found(python: str) -> bool:
    return subprocess.run(["uv", "python", "find", "--no-project", python], capture_output=True).returncode == 0


def _outcome(name: str, python: str, resolution: str, arguments: list[str]) -> str:
    """Makes one environment and runs the tests in it.

    Args:
        name: Its folder below .matrix/.
        python: A version of Python.
        resolution: uv's name of the end of the ranges.
        arguments: For pytest.

    Returns:
        What pytest counted, or the step that failed and where its words are.
    """
    place = FOLDER / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    log = place / "log.txt"
    choice = ["--resolution", resolution]
    for package in ONLY_WHEELS:
        choice += ["--only-binary", package]
    steps = [
        ["uv", "venv", "--quiet", "--no-project", "--python", python, str(place / "venv")],
        ["uv", "pip", "install", "--quiet", *choice, "--editable", f".[{','.join(EXTRAS)}]"],
        ["uv", "pip", "freeze", "--exclude-editable"],
    ]
    environment = os.environ | {"VIRTUAL_ENV": str(place / "venv")}
    environment.pop("PYTHONPATH", None)
    for step in steps:
        done = subprocess.run(step, cwd=ROOT, env=environment, text=True, capture_output=True)
        log.write_text(" ".join(step) + "\n" + done.stdout + done.stderr, encoding="utf-8")
        if done.returncode:
            return f"FAILED at `{' '.join(step[:3])}`, see {log.relative_to(ROOT)}"
    (place / "versions.txt").write_text(done.stdout, encoding="utf-8")
    # Other versions warn of other things: what fails here is behaviour, not a warning.
    tests = [str(place / "venv/bin/python"), "-m", "pytest", "-W", "default", "-q", "-p", "no:cacheprovider"]
    tests += arguments or FAST_TESTS
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as sink:
        code = subprocess.run(tests, cwd=ROOT, env=environment, stdout=sink, stderr=sink).returncode
    # Threads and children may write below it.
    counts = re.findall(r"^\W*(\d+ \w+.* in [\d.]+s)", log.read_text(encoding="utf-8"), re.MULTILINE)
    last = counts[-1] if counts else "no counts of pytest"
    return f"{'FAILED' if code else 'passed'}: {last} ({time.monotonic() - started:.0f} s), see {log.relative_to(ROOT)}"


if __name__ == "__main__":
    sys.exit(main())
