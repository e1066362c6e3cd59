"""The tables of a review's file, and what SQLite's refusals mean."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from labelmend.errors import DamagedError, RunError, StorageError
from labelmend.runs.atomic import keeping

APPLICATION = int.from_bytes(b"Lbmd")
"""Marks the file as ours."""
VERSION = 1
PATIENCE = 60.0
"""Seconds to wait for other writers."""

_TABLES = """
CREATE TABLE cases (
    label TEXT PRIMARY KEY,
    file_sha256 TEXT NOT NULL,
    label_sha256 TEXT NOT NULL,
    time TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL REFERENCES cases (label),
    version INTEGER NOT NULL CHECK (version >= 1),
    kind TEXT NOT NULL,
    person TEXT NOT NULL,
    time TEXT NOT NULL,
    after TEXT NOT NULL,
    verdict TEXT NOT NULL,
    quality TEXT,
    comment TEXT NOT NULL,
    edited INTEGER NOT NULL CHECK (edited IN (0, 1)),
    op TEXT NOT NULL,
    blob BLOB,
    UNIQUE (label, version)
) STRICT;
"""
_FIXED = """
CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, 'the review is append-only: nothing in {table} is ever changed'); END;
"""

EVENT_COLUMNS_WITHOUT_BLOB = (
    "number, id, label, version, kind, op, person, time, after, verdict, quality, comment, edited, "
    "NULL"
)
EVENT_COLUMNS = EVENT_COLUMNS_WITHOUT_BLOB.removesuffix("NULL") + "blob"
ADD_CASE = "INSERT INTO cases VALUES (CAST(? AS TEXT), ?, ?, ?) ON CONFLICT (label) DO NOTHING"
ADD_EVENT = (
    "INSERT INTO events (id, label, version, kind, op, person, time, after, verdict, quality, "
    "comment, edited, blob) VALUES (?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def connect(path: Path, reading: bool) -> sqlite3.Connection:
    """An open file that waits for others, and on commit for the disk; transactions by hand."""
    connection = _open(path, "ro" if reading else "rwc")
    if not reading:
        return connection
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{path.name}-wal").exists():  # with changes that must not be passed over
            raise
        return _open(path, "ro&immutable=1")  # a disk on which even a reader may not lock
    return connection


def _open(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
    return connection


def make_tables(connection: sqlite3.Connection, path: Path, reading: bool) -> None:
    """See that the file is ours and of this version; make the tables in an empty one.

    Raises:
        RunError: for any other file, before anything in it is touched.
    """
    version = _check_file(connection, path)
    if reading:
        if version == 0:
            raise RunError(f"there is no review in {path}; open one with `labelmend review`")
        return
    _wait_for_log(connection, path)
    for setting in ("synchronous = FULL", "foreign_keys = ON", "recursive_triggers = ON"):
        connection.execute(f"PRAGMA {setting}")
    if version == VERSION:
        return
    with _alone(connection):
        if _check_file(connection, path) == 0:  # nobody else made them meanwhile
            fixed = [
                _FIXED.format(table=t, verb=v)
                for t in ("cases", "events")
                for v in ("UPDATE", "DELETE")
            ]
            for statement in (*_TABLES.split(";\n")[:-1], *fixed):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def translated(path: Path, what: str = "", needed: int = 0) -> Iterator[None]:
    """Turn SQLite's errors into ours; ``what`` was to be kept, nothing for reading.

    Raises:
        StorageError: when the disk refuses.
        DamagedError: for a file that cannot be read as a database.
        RunError: when another program keeps the file to itself.
    """
    try:
        with keeping(what, path.parent, needed) if what else nullcontext():
            try:
                yield
            except sqlite3.Error as error:
                raise _meaning(error, path) from error
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}; check the disk") from error


def _meaning(error: sqlite3.Error, path: Path) -> Exception:
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
        return error  # a mistake of ours
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RunError(
            f"{path} is in use by another program, for longer than {PATIENCE:g} s; close that and "
            "try again"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DamagedError(
            f"{path} is no review that can be read ({error}); restore it from a copy, together "
            f"with {path.name}-wal if there is one"
        )
    numbers = {
        sqlite3.SQLITE_FULL: errno.ENOSPC,
        sqlite3.SQLITE_READONLY: errno.EROFS,
        sqlite3.SQLITE_CANTOPEN: errno.EACCES,
        sqlite3.SQLITE_PERM: errno.EACCES,
        sqlite3.SQLITE_TOOBIG: errno.EFBIG,
    }
    return OSError(numbers.get(code, errno.EIO), f"SQLite says '{error}'")


def _check_file(connection: sqlite3.Connection, path: Path) -> int:
    """The version of our tables in a file, 0 for an empty one."""
    application, version, tables = _at_once(connection)
    if (application, version, tables) == (0, 0, 0):
        return 0
    if application != APPLICATION:
        raise RunError(
            f"{path} is a database of another program, not a review; move it away or name another "
            "run"
        )
    if version != VERSION:
        raise RunError(
            f"{path} was made by another version of labelmend (its tables have version {version}, "
            f"these are {VERSION}); open it with that version"
        )
    return version


def _at_once(connection: sqlite3.Connection) -> tuple[int, ...]:
    """Whose file it is, its version and number of tables, as they are at one moment.

    Asked for one by one, another process may make the tables in between.
    """
    asked = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    ours = not connection.in_transaction
    if ours:
        connection.execute("BEGIN")
    try:
        return tuple(int(connection.execute(sql).fetchone()[0]) for sql in asked)
    finally:
        if ours and connection.in_transaction:  # some errors end it
            connection.execute("ROLLBACK")


def _wait_for_log(connection: sqlite3.Connection, path: Path) -> None:
    """Have changes go to a log first; while another process sets that, SQLite does not wait."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise RunError(
            f"{path} lies on a disk that cannot share files between programs (a network disk, "
            "say); put the run on a local disk"
        )


@contextmanager
def _alone(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
