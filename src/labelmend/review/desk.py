"""Where people work on cases, several at a time: what a case is now, and what is done to it."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from labelmend.errors import ChangedDataError, DataError
from labelmend.review.edits import to_text
from labelmend.review.history import History
from labelmend.review.ops import Op, Take
from labelmend.review.packing import pack
from labelmend.review.records import Base, Event, Stale, Stored, Summary, clean_name
from labelmend.review.store import Store

MEMORY = 2**30
"""Bytes of labels and their histories kept ready, the last used ones."""

_ID = re.compile(r"[0-9A-Za-z-]{8,64}")


@dataclass(frozen=True, slots=True)
class State:
    """A case as it is at a version.

    ``label`` is its path; ``indices`` the label itself, ``(*space)`` int16, read-only, -1 where
    unknown. ``quality`` is ``None`` while it is what the data set says. ``edited``: some position
    differs from the file's. ``sha256`` is that of the class indices, ``file_sha256`` the file's.
    """

    label: str
    version: int
    verdict: str
    quality: str | None
    comment: str
    edited: bool
    can_undo: bool
    can_redo: bool
    sha256: str
    file_sha256: str
    indices: np.ndarray


@dataclass(frozen=True, slots=True)
class Done:
    """What was asked for is on disk, as event ``number``, and made version ``version``.

    ``again``: it had been there before, by the same id. ``state`` is the case now; its version
    is the larger one when others did something to it since.
    """

    number: int
    version: int
    again: bool
    state: State


@dataclass(slots=True)
class _Case:
    history: History
    base: Base
    lock: threading.RLock = field(default_factory=threading.RLock)
    useless: bool = False


class Desk:
    """The cases of one review; any number of threads and processes may work at them.

    Args:
        store: where events are kept.
        bases: by a label's path, its class indices, ``(*space)`` int16 with -1 where unknown, and
            the SHA-256 of its file. Called again when a case has fallen out of memory.
        classes: how many classes there are.
        ignore: whether the data set has a value for unknown positions.
        memory: bytes of cases that are kept ready.
        clock: the time now, with its zone.
    """

    def __init__(
        self,
        store: Store,
        bases: Callable[[str], tuple[np.ndarray, str]],
        *,
        classes: int,
        ignore: bool,
        memory: int = MEMORY,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self._bases, self._classes, self._ignore = bases, classes, ignore
        self._memory, self._clock = memory, clock
        self._cases: OrderedDict[str, _Case] = OrderedDict()
        self._lock = threading.Lock()
        self._summaries: dict[str, Summary] = {}
        self._last = 0

    def state(self, label: str) -> State:
        """The case of a label now, with everything that anybody did to it.

        Raises:
            ChangedDataError: when the label's file is not the one the review began with.
            DamagedError: when an event no longer gives what it gave when it was kept.
            DataError, StorageError: when the label or the store cannot be read.
        """
        with self._held(label) as case:
            return _state(label, case)

    def do(
        self,
        label: str,
        version: int,
        event_id: str,
        op: object,
        person: str,
        *,
        blobs: Callable[[str], np.ndarray],
    ) -> Done | Stale:
        """Do one thing to a case that is at ``version``; returns once it is on disk.

        Nothing is kept when the case is at another version: then a :class:`Stale` with that. The
        same ``event_id`` again, with the same label and operation, changes nothing and gives the
        first outcome again, whatever ``version`` says.

        Args:
            label: the label's path.
            version: that of the state the person saw.
            event_id: made by the page, new for each event, 8 to 64 letters, digits and ``-``.
            op: decoded JSON, see :func:`labelmend.review.edits.parse_op`.
            person: who; cleaned and shortened.
            blobs: "prediction" or "moved" to that label, int16, as large as the case's. Called
                only to take one, while this case is locked, others not.

        Raises:
            DataError: for an operation that is none, nothing to undo, an id of another event.
            StorageError: when the disk refuses; nothing was acknowledged, try the same id again.
            ChangedDataError, DamagedError: as :meth:`state`.
        """
        if not _ID.fullmatch(event_id):
            raise DataError(
                "an event needs an id of 8 to 64 letters, digits and '-', such as a UUID, not "
                f"{event_id[:70]!r}; make a new one for each event"
            )
        with self._held(label) as case:
            parsed = case.history.parse(op)
            known = self.store.find(event_id, label, to_text(parsed))
            if known is not None:
                return Done(known.number, known.version, True, _state(label, case))
            if version != case.history.version:
                return Stale(case.history.version)
            taken = self._take(label, case, parsed, blobs)
            event = self._try(label, case, (event_id, clean_name(person)), parsed, taken)
            return self._keep(label, case, event)

    def summaries(self) -> dict[str, Summary]:
        """Every case that anything was done to, in short; the others are ``Summary()``."""
        with self._lock:
            self._summaries |= self.store.summaries(after=self._last)
            self._last = max((one.number for one in self._summaries.values()), default=0)
            return dict(self._summaries)

    def events(self, label: str) -> list[Stored]:
        """All that was done to a case, in order, without blobs."""
        return self.store.events(label, blobs=False)

    def since(self, number: int) -> tuple[int, list[str]]:
        """The number of the last event, and the labels of those after ``number``, each once."""
        changed = self.store.since(number)
        last = max((n for n, _ in changed), default=number)
        return last, list(dict.fromkeys(label for _, label in changed))

    def _try(
        self, label: str, case: _Case, who: tuple[str, str], op: Op, taken: np.ndarray | None
    ) -> Event:
        """Do it in memory; what is to be kept of it."""
        try:
            case.history.do(op, taken)
            return _event(case.history, who, op, self._now(), taken)
        except DataError:  # refused, with nothing changed
            raise
        except BaseException:
            self._forget(label, case)
            raise

    def _keep(self, label: str, case: _Case, event: Event) -> Done | Stale:
        """Keep what the history did already; when that fails it is ahead of the store."""
        try:
            outcome = self.store.append(label, case.history.version - 1, event, case.base)
        except BaseException:
            self._forget(label, case)
            raise
        if isinstance(outcome, Stored) and outcome.event is event:
            return Done(outcome.number, outcome.version, False, _state(label, case))
        self._forget(label, case)  # another process was quicker, maybe with this same event
        if isinstance(outcome, Stale):
            return outcome
        return Done(outcome.number, outcome.version, True, self.state(label))

    def _take(
        self, label: str, case: _Case, op: Op, blobs: Callable[[str], np.ndarray]
    ) -> np.ndarray | None:
        if not isinstance(op, Take):
            return None
        if op.what != "original":
            return np.asarray(blobs(op.what))
        first, file = self._bases(label)
        _compare(label, case.base.file_sha256, file)
        return first

    def _case(self, label: str) -> _Case:
        with self._lock:
            case = self._cases.get(label)
            if case is not None:
                self._cases.move_to_end(label)
                return case
        first, file = self._bases(label)  # outside of the lock: reading may take long
        history = History(first, classes=self._classes, ignore=self._ignore, name=label)
        made = _Case(history, Base(file, history.first_fingerprint))
        known = self.store.base(label)
        if known is not None:
            _compare(label, known.file_sha256, file)
        with self._lock:
            case = self._cases.setdefault(label, made)
            self._cases.move_to_end(label)
            self._make_room()
        return case

    def _make_room(self) -> None:
        total = sum(case.history.nbytes for case in self._cases.values())
        while total > self._memory and len(self._cases) > 1:
            _, oldest = self._cases.popitem(last=False)
            total -= oldest.history.nbytes

    @contextmanager
    def _held(self, label: str) -> Iterator[_Case]:
        """The case of a label, nobody else's meanwhile, with all that the store has of it."""
        while True:
            case = self._case(label)
            with case.lock:
                if case.useless:  # somebody gave it up while this one waited
                    continue
                self._catch_up(label, case)
                yield case
                return

    def _catch_up(self, label: str, case: _Case) -> None:
        try:
            for stored in self.store.events(label, after=case.history.version):
                case.history.add(stored)
        except BaseException:
            self._forget(label, case)
            raise

    def _forget(self, label: str, case: _Case) -> None:
        """Have the case made anew out of the store, by whoever comes next."""
        case.useless = True
        with self._lock:
            if self._cases.get(label) is case:
                del self._cases[label]

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="milliseconds")


def _state(label: str, case: _Case) -> State:
    history = case.history
    return State(
        label=label,
        version=history.version,
        verdict=history.verdict,
        quality=history.quality,
        comment=history.comment,
        edited=history.edited,
        can_undo=history.can_undo,
        can_redo=history.can_redo,
        sha256=history.fingerprint,
        file_sha256=case.base.file_sha256,
        indices=history.label,
    )


def _event(
    history: History, who: tuple[str, str], op: Op, time: str, taken: np.ndarray | None
) -> Event:
    event_id, person = who
    return Event(
        id=event_id,
        kind=op.kind,
        op=to_text(op),
        person=person,
        time=time,
        after=history.fingerprint,
        verdict=history.verdict,
        quality=history.quality,
        comment=history.comment,
        edited=history.edited,
        blob=None if taken is None else pack(taken),
    )


def _compare(label: str, wanted: str, got: str) -> None:
    if wanted != got:
        raise ChangedDataError(
            f"{label} is not the file this review began with: its SHA-256 is {got[:12]}..., it was "
            f"{wanted[:12]}...; put the old file back, or begin a new review in another run"
        )
