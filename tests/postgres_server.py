"""A PostgreSQL server of its own for a test, on a socket in a temporary folder; nothing of the system's is touched."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = 0


def missing() -> str | None:
    """Return why no server can be started here, or None if one can."""
    if _programs() is None:
        return "PostgreSQL is not installed (no /usr/lib/postgresql/*/bin/initdb)"
    if os.getuid() == _ROOT and (_user() is None or shutil.which("runuser") is None):
        return "PostgreSQL does not run as root, and there is no other user to run it as"
    return None


@contextmanager
def server() -> Iterator[str]:
    """Start a server, and stop it afterwards; gives its URL."""
    programs = _programs()
    assert programs is not None
    # Not in the test's own folder, which other users cannot enter.
    with tempfile.TemporaryDirectory(prefix="neft-pg-") as name:
        folder = Path(name)
        before: list[str] = []
        if os.getuid() == _ROOT:
            user = _user()
            assert user is not None
            os.chown(folder, user.pw_uid, user.pw_gid)
            before = ["runuser", "-u", user.pw_name, "--"]

        def call(program: str, *options: str) -> None:
            command = [*before, str(programs / program), "-D", str(folder / "data"), *options]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

        call("initdb", "--auth=trust", "--username=study", "--no-sync", "--encoding=UTF8", "--no-locale")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "--wait", "--silent", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://study@/postgres?host={folder}"
        finally:
            call("pg_ctl", "--wait", "--silent", "-m", "immediate", "stop")


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def _user() -> pwd.struct_passwd | None:
    found = {user.pw_name: user for user in pwd.getpwall()}
    return found.get("postgres", found.get("nobody"))
