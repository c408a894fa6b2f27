"""The database that the workers of a study share: SQLite in its folder, or a server by URL."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lightning_neft.common.paths import user_path
from lightning_neft.common.secrets import mask_addresses
from lightning_neft.errors import ConfigError
from lightning_neft.study.plan import STUDY_ID

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

__all__ = ["HEARTBEATS", "open_storage", "study_id"]

HEARTBEATS = 6
"""Missed heartbeats after which the other workers consider a worker dead."""
_SECONDS_TO_WAIT = 60
_TIMES_TO_MAKE_TABLES = 10
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


def open_storage(
    folder: Path, url: str | None, grace: int, when_stale: Callable[[Study, FrozenTrial], None]
) -> RDBStorage:
    """Open the storage, and create its tables if they are missing.

    Args:
        folder: Folder of the study; without a URL the storage is the file `storage.sqlite` there.
        url: URL of a database, such as `postgresql://user@host/name`.
        grace: Seconds without a heartbeat after which a worker counts as dead.
        when_stale: Called once for each trial of a dead worker.

    Raises:
        ConfigError: It cannot be reached, its driver is not installed, or the folder cannot be created.
    """
    import sqlalchemy
    from optuna.storages import RDBStorage

    is_file = url is None
    if is_file:
        _make(folder)
    options: dict[str, Any] = {"connect_args": {"timeout": _SECONDS_TO_WAIT}} if is_file else {"pool_pre_ping": True}

    def connect() -> RDBStorage:
        return RDBStorage(
            f"sqlite:///{folder.absolute() / 'storage.sqlite'}" if url is None else _with_driver(url),
            options,
            heartbeat_interval=max(1, grace // HEARTBEATS),
            grace_period=grace,
            heartbeat_stale_trial_callback=when_stale,
        )

    try:
        storage = _after_others(connect)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        # The message of a driver may contain the password of the URL; its first line names the problem.
        raise ConfigError(f"--storage {_without_password(url)}: cannot be opened: {_reason(error, url)}") from None
    if storage.engine.dialect.name == "sqlite":
        _lock_before_reading(storage)
    return storage


def _after_others(connect: Callable[[], RDBStorage]) -> RDBStorage:
    """Connect; retry if another worker was creating the same tables at that moment."""
    import sqlalchemy
    from optuna.exceptions import ExperimentalWarning

    for _ in range(_TIMES_TO_MAKE_TABLES):
        with warnings.catch_warnings():
            # The heartbeat is experimental; the tests cover what this package needs of it.
            warnings.simplefilter("ignore", ExperimentalWarning)
            try:
                return connect()
            except sqlalchemy.exc.SQLAlchemyError as error:
                if not isinstance(error, sqlalchemy.exc.IntegrityError) and "already exists" not in str(error):
                    raise
        time.sleep(0.5)
    return connect()


def _lock_before_reading(storage: RDBStorage) -> None:
    """Make each SQLite transaction lock the file at its start.

    Optuna reads that a trial waits, then writes that it runs, and relies on the row being locked in between; SQLite has
    no such locks, so two workers could get the same arm. The recipe is SQLAlchemy's (its page on the dialect,
    "Serializable isolation / Savepoints / Transactional DDL").
    """
    import sqlalchemy

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def no_implicit_begin(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    # Connections that are already open.
    storage.engine.dispose()


def study_id(folder: Path) -> str:
    """Return the name of the study in the storage, saved in its folder; the first worker draws it.

    Workers that share the storage must share the folder too: a worker with another folder cannot join the study.

    Raises:
        ConfigError: The folder cannot be created.
    """
    path = folder / STUDY_ID
    _make(folder)
    with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
        file.write(f"{folder.name}-{uuid4().hex[:8]}\n")
    for _ in range(50):
        if name := path.read_text(encoding="utf-8").strip():
            return name
        time.sleep(0.1)  # another worker is about to write it
    raise ConfigError(f"{path} is empty; delete the folder of the study and start it again")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: {error.strerror}; give a writable folder") from error


def _with_driver(url: str) -> str:
    """Add the driver that the package installs if the URL names none."""
    scheme, separator, rest = url.partition("://")
    # The path of SQLite's file follows a third slash.
    if scheme.partition("+")[0] == "sqlite" and rest.startswith("/~"):
        rest = f"/{user_path(rest[1:], '--storage')}"
    return f"{_DRIVERS.get(scheme, scheme)}{separator}{rest}"


def _without_password(url: str | None) -> str:
    import sqlalchemy

    if url is None:
        return "(SQLite in the folder of the study)"
    try:
        return mask_addresses(sqlalchemy.make_url(url).render_as_string(hide_password=True))
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return "URL"


def _reason(error: Exception, url: str | None) -> str:
    import sqlalchemy

    first = (str(error).splitlines() or [type(error).__name__])[0]
    try:
        password = sqlalchemy.make_url(url).password if url else None
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return "it is not a database URL; use the form postgresql://user@host/name"
    return mask_addresses(first.replace(str(password), "***") if password else first)
