"""One case from its first label on: what every event made of it, undo and redo."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from labelmend.errors import DamagedError, DataError
from labelmend.review.changes import Region, tighten
from labelmend.review.edits import change_of, parse_op
from labelmend.review.ops import Comment, Edit, Op, Redo, SetQuality, Undo, Verdict
from labelmend.review.packing import Fingerprint, pack, unpack
from labelmend.review.records import Stored


@dataclass(frozen=True, slots=True)
class _Change:
    """A region before and after an edit, packed; the region is empty when nothing changed."""

    region: Region
    before: bytes
    after: bytes


class History:
    """A case as its events left it; starts at the label of the file, open, without a comment.

    Keeps one label and, of each edit, the packed region that changed. A label once read from
    :attr:`label` never changes: the next edit works on a copy.

    Args:
        first: the label of the file, ``(*space)`` int16; it stays as it is.
        classes: how many; ignore: whether positions may be unknown (-1).
        name: the label's path, for messages.

    A trap: after an error in :meth:`do` or :meth:`add` other than a ``DataError`` the object is
    of no more use; make a new one.

    >>> history = History(np.zeros(3, np.int16), classes=2, ignore=False)
    >>> op = {"kind": "interval", "class": 1, "start": 0, "stop": 2}
    >>> history.do(history.parse(op)); history.label
    array([1, 1, 0], dtype=int16)
    >>> history.do(Undo(kind="undo")); history.label, history.can_redo
    (array([0, 0, 0], dtype=int16), True)
    """

    def __init__(
        self, first: np.ndarray, *, classes: int, ignore: bool, name: str = "the label"
    ) -> None:
        self.name = name
        self.version = 0
        self.verdict = "open"
        self.quality: str | None = None
        self.comment = ""
        self._classes, self._ignore = classes, ignore
        self._label = np.ascontiguousarray(first, dtype=np.int16)
        self._lent = True  # to the caller, whose array this may be
        self._mark = Fingerprint(self._label)
        self._first = self.fingerprint = self._mark.text
        self._done: list[_Change] = []
        self._undone: list[_Change] = []

    @property
    def label(self) -> np.ndarray:
        """The label now, ``(*space)`` int16, read-only; -1 is unknown."""
        self._lent = True
        view = self._label.view()
        view.flags.writeable = False
        return view

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone edit to do again."""
        return bool(self._undone)

    @property
    def edited(self) -> bool:
        """Whether the label differs from the file's at any position."""
        return self.fingerprint != self._first

    @property
    def first_fingerprint(self) -> str:
        """The SHA-256 of the label of the file."""
        return self._first

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        changes = sum(len(c.before) + len(c.after) for c in (*self._done, *self._undone))
        return self._label.nbytes + changes

    def parse(self, given: object) -> Op:
        """An operation on this label out of decoded JSON; see :func:`parse_op`.

        Raises:
            DataError: for anything that is not exactly one.
        """
        size = self._label.shape
        return parse_op(given, size=size, classes=self._classes, ignore=self._ignore)

    def do(self, op: Op, taken: np.ndarray | None = None) -> None:
        """Do one thing; the version counts it.

        Args:
            op: from :meth:`parse`.
            taken: what a ``take`` takes, as large as the label.

        Raises:
            DataError: when there is nothing to undo or redo, or for a ``taken`` that is no such
                label; nothing has changed then.
        """
        if isinstance(op, Undo | Redo):
            self._step(op)
        elif isinstance(op, Verdict):
            self.verdict = op.value
        elif isinstance(op, SetQuality):
            self.quality = op.value
        elif isinstance(op, Comment):
            self.comment = op.text
        else:
            self._edit(op, taken)
        self.version += 1

    def add(self, stored: Stored) -> None:
        """Do again what the store kept, and see that the same comes out.

        Raises:
            DamagedError: when it does not, naming the event.
        """
        event = stored.event
        if stored.version != self.version + 1:
            raise self._damaged(stored, f"it is version {stored.version}, not {self.version + 1}")
        try:
            taken = None if event.blob is None else unpack(event.blob)
            self.do(self.parse(json.loads(event.op)), taken)
        except (ValueError, DamagedError) as error:
            raise self._damaged(stored, str(error)) from error
        now = (self.fingerprint, self.verdict, self.quality, self.comment, self.edited)
        kept = (event.after, event.verdict, event.quality, event.comment, event.edited)
        if now[0] != kept[0]:
            raise self._damaged(stored, f"the label's SHA-256 is {now[0]}, not {kept[0]}")
        if now != kept:
            raise self._damaged(stored, f"the case is {now[1:]}, not {kept[1:]}")

    def _edit(self, op: Edit, taken: np.ndarray | None) -> None:
        if taken is not None:
            self._check_taken(taken)
        region, new = change_of(self._label, op, ignore=self._ignore, taken=taken)
        old = self._label[region]
        tight = tighten(region, old, new)
        new = new[tuple(_within(t, whole) for t, whole in zip(tight, region, strict=True))]
        self._done.append(_Change(tight, pack(self._label[tight]), pack(new)))
        self._undone.clear()
        self._write(tight, new)

    def _step(self, op: Undo | Redo) -> None:
        back = isinstance(op, Undo)
        source, target = (self._done, self._undone) if back else (self._undone, self._done)
        if not source:
            raise DataError(f"there is nothing to {op.kind} in {self.name}; nothing was changed")
        change = source[-1]
        self._write(change.region, unpack(change.before if back else change.after))
        target.append(source.pop())

    def _write(self, region: Region, values: np.ndarray) -> None:
        if values.size == 0:
            return
        if self._lent:
            self._label, self._lent = self._label.copy(), False
        self._label[region] = values
        self._mark.renew(self._label, region)
        self.fingerprint = self._mark.text

    def _check_taken(self, taken: np.ndarray) -> None:
        lowest = -1 if self._ignore else 0
        if taken.shape != self._label.shape:
            return  # refused with both sizes where it is used
        if taken.size and not (taken.min() >= lowest and taken.max() < self._classes):
            raise DataError(
                f"a label to take for {self.name} has classes {taken.min()} to {taken.max()}, but "
                f"those of this data set are {lowest} to {self._classes - 1}; take another"
            )

    def _damaged(self, stored: Stored, reason: str) -> DamagedError:
        return DamagedError(
            f"event {stored.number} ({stored.event.id}) of {self.name} does not give what it gave "
            f"when it was kept: {reason}; the label's file, the version of labelmend or the "
            "review's file has changed; use the ones it was made with"
        )


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)
