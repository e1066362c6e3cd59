"""Everything that people did to labels, in one SQLite file that only grows."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from labelmend.errors import ChangedDataError, DataError, RunError
from labelmend.review.records import Base, Event, Stale, Stored, Summary
from labelmend.review.tables import (
    ADD_CASE,
    ADD_EVENT,
    EVENT_COLUMNS,
    EVENT_COLUMNS_WITHOUT_BLOB,
    connect,
    make_tables,
    translated,
)
from labelmend.runs.atomic import keeping, sync_folder
from labelmend.runs.disk import Disk

FILE = "review.sqlite"
"""The store's name in the folder ``review`` of a run."""


class Store:
    """The events of one review, in order; nothing in it is ever changed or removed.

    Any number of threads of any number of processes may use one file at once, on one machine.
    Made by :meth:`open`; a forked child opens its own.

    >>> import tempfile
    >>> from dataclasses import replace
    >>> store = Store.open(Path(tempfile.mkdtemp()) / "review" / FILE)
    >>> event = Event("id-00001", "undo", '{"kind":"undo"}', "", "", "", "open", None, "", False)
    >>> store.append("labels/a.png", 0, event, Base("", "")).version
    1
    >>> store.append("labels/a.png", 0, replace(event, id="id-00002"), Base("", ""))
    Stale(version=1)
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, reading: bool = False) -> Store:
        """The store in a file, which is made if need be, together with its folder.

        Args:
            path: the file, usually ``RUN/review/review.sqlite``.
            reading: only read, also from a disk that cannot be written; the file must exist.

        Raises:
            RunError: for a file of something else, or of a newer version; it is left as it is.
            DamagedError: for a file that SQLite cannot read.
            StorageError: when the disk refuses.
        """
        path = Path(path).absolute()
        if reading and not path.is_file():
            raise RunError(f"there is no review in {path}; open one with `labelmend review`")
        if not reading:
            _make_folder(path.parent)
        with translated(path, path.name):
            connection = connect(path, reading)
            try:
                make_tables(connection, path, reading)
            except BaseException:
                connection.close()
                raise
        if not reading:
            with keeping(path.name, path.parent, 0):
                sync_folder(path.parent)
        return cls(path, connection)

    def close(self) -> None:
        """Let go of the file; the last one to do so leaves it as a single file."""
        with self._lock, translated(self.path):
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def append(self, label: str, version: int, event: Event, base: Base) -> Stored | Stale:
        """Keep one event of a case that is at ``version``; returns once it is on disk.

        An event whose id is there already is not kept twice: its first outcome is given again,
        whatever ``version`` says. ``event`` of what is returned is this very object only when it
        was kept now.

        Args:
            label: the label's path; the case's name.
            version: how many events the case has; when it has another number, nothing is kept.
            event: with an id of its own.
            base: what the case began with; the first event decides it.

        Raises:
            DataError: when the id belongs to an event of another label or operation.
            ChangedDataError: when the case began with another label.
            StorageError: when the disk refuses; the event may be there or not, send it again.
        """
        with self._writing(f"an event of {label}", len(event.op) + len(event.blob or b"")):
            known = self.find(event.id, label, event.op)
            if known is not None:
                return known
            now = self.version(label)
            if now != version:
                return Stale(now)
            self._check_base(label, base, event.time)
            values = _to_row(label, version + 1, event)
            number = self._connection.execute(ADD_EVENT, values).lastrowid
            assert number is not None
            return Stored(number, label, version + 1, event)

    def find(self, event_id: str, label: str, op: str) -> Stored | None:
        """The event of an id, or ``None``; without its blob.

        Raises:
            DataError: when it belongs to another label or operation.
        """
        found = self._events("id = ?", (event_id,), blobs=False)
        if not found:
            return None
        if (found[0].label, found[0].event.op) != (label, op):
            raise DataError(
                f"the id {event_id} is that of another event, {found[0].event.kind} of "
                f"{found[0].label}; make a new id for each event"
            )
        return found[0]

    def events(self, label: str, *, after: int = 0, blobs: bool = True) -> list[Stored]:
        """The events of a case after a version of it, in order."""
        where = "label = CAST(? AS TEXT) AND version > ? ORDER BY version"
        return self._events(where, (_bytes(label), after), blobs=blobs)

    def version(self, label: str) -> int:
        """How many events a case has."""
        sql = "SELECT max(version) FROM events WHERE label = CAST(? AS TEXT)"
        return self._rows(sql, (_bytes(label),))[0][0] or 0

    def base(self, label: str) -> Base | None:
        """What a case began with; ``None`` while it has no event."""
        sql = "SELECT file_sha256, label_sha256 FROM cases WHERE label = CAST(? AS TEXT)"
        rows = self._rows(sql, (_bytes(label),))
        return Base(*rows[0]) if rows else None

    def since(self, number: int) -> list[tuple[int, str]]:
        """Number and label of every event after a number, in the order they were kept."""
        return self._rows("SELECT number, label FROM events WHERE number > ? ORDER BY 1", (number,))

    def last(self) -> int:
        """The number of the last event, 0 before the first."""
        return self._rows("SELECT max(number) FROM events")[0][0] or 0

    def summaries(self, *, after: int = 0) -> dict[str, Summary]:
        """Every case with an event after a number, by its label's path, as its last one left it."""
        sql = (
            "SELECT label, version, verdict, quality, comment, edited, number, id FROM events "
            "WHERE number IN (SELECT max(number) FROM events WHERE number > ? GROUP BY label)"
        )
        return {
            label: Summary(version, verdict, quality, comment, bool(edited), number, event_id)
            for label, version, verdict, quality, comment, edited, number, event_id in self._rows(
                sql, (after,)
            )
        }

    def _check_base(self, label: str, base: Base, time: str) -> None:
        values = (_bytes(label), base.file_sha256, base.label_sha256, time)
        self._connection.execute(ADD_CASE, values)
        began = self.base(label)
        if began != base:
            raise ChangedDataError(
                f"{label} is not the label this review began with: the SHA-256 of its file is "
                f"{base.file_sha256[:12]}..., it was {began and began.file_sha256[:12]}...; put "
                "the old file back, or begin a new review in another run"
            )

    def _events(self, where: str, values: Sequence[object], *, blobs: bool) -> list[Stored]:
        columns = EVENT_COLUMNS if blobs else EVENT_COLUMNS_WITHOUT_BLOB
        rows = self._rows(f"SELECT {columns} FROM events WHERE {where}", values)
        return [_from_row(row) for row in rows]

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        with self._lock, translated(self.path):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def _writing(self, what: str, needed: int) -> Iterator[None]:
        """One transaction, begun as the only writer; kept whole and on disk, or not at all."""
        with self._lock, translated(self.path, what, needed):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


def _make_folder(path: Path) -> None:
    with keeping("the review", path, 0):
        if path.is_dir():
            return
        with suppress(FileExistsError):  # another process made it just now
            Disk.mkdir(path)
        sync_folder(path.parent)


def _bytes(text: str) -> bytes:
    """Text for SQLite, also names of files that are no valid Unicode."""
    return text.encode("utf-8", "surrogatepass")


def _to_row(label: str, version: int, event: Event) -> tuple[object, ...]:
    return (
        *(event.id, _bytes(label), version, event.kind, event.op, event.person, event.time),
        *(event.after, event.verdict, event.quality, event.comment, int(event.edited), event.blob),
    )


def _from_row(row: Sequence[Any]) -> Stored:
    number, event_id, label, version, kind, op, person, time, after, *rest = row
    verdict, quality, comment, edited, blob = rest
    said = (verdict, quality, comment, bool(edited))
    event = Event(event_id, kind, op, person, time, after, *said, blob)
    return Stored(number, label, version, event)
