"""Kill, tear and fail every touch of the disk under a review: promise H1.

What was acknowledged is there afterwards, whole and in order; of what was not, at most the one
event that was under way; the same event sent again is kept exactly once.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from labelmend.errors import LabelmendError, StorageError
from labelmend.review.desk import Desk, Done
from labelmend.review.packing import fingerprint
from labelmend.review.store import FILE, Store

from .sqlite_calls import CALLS, CHANGES, WRITES, find_layer, watched

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or find_layer() is None, reason="kills forked processes"
)

A = "labels/weak/a.png"
FIRST = np.zeros((40, 50), np.int16)
NOISE = np.random.default_rng(0).integers(0, 3, FIRST.shape).astype(np.int16)


def open_desk(folder):
    bases = {A: (FIRST, "0" * 64)}
    store = Store.open(folder / "review" / FILE)
    return Desk(store, bases.__getitem__, classes=3, ignore=False)


def nth_op(number):
    """Strokes, whole labels, undos and a comment, in a fixed order."""
    stroke = [[float(number % 40), 3.0], [20.0, 30.0]]
    ops = (
        {"kind": "brush", "class": 1 + number % 2, "radius": 3.0, "points": stroke},
        {"kind": "take", "what": "prediction"},
        {"kind": "comment", "text": f"event {number}"},
        {"kind": "undo"},
    )
    return ops[number % 4]


def send(desk, number):
    return desk.do(
        *(A, number, f"event-{number:06}", nth_op(number), "Ada"),
        blobs=lambda what: np.roll(NOISE, number),
    )


def work(folder, begin, end, acknowledged):
    """Send events and write one byte for each answer, as a page would see them."""
    desk = open_desk(folder)
    for number in range(begin, end):
        assert send(desk, number).version == number + 1
        os.write(acknowledged, b".")
    desk.store.close()


class Marks:
    """The label's SHA-256 after any number of events, told by a desk that nobody disturbed."""

    def __init__(self, folder, most):
        desk = open_desk(folder)
        self.after = [fingerprint(FIRST), *(send(desk, n).state.sha256 for n in range(most))]
        desk.store.close()


@pytest.fixture(scope="module")
def marks(tmp_path_factory):
    return Marks(tmp_path_factory.mktemp("marks"), 40)


@pytest.fixture
def place():
    """A folder in memory where there is one: a killed process leaves there what it does on disk."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def check(folder, acknowledged, marks):
    """What must be on disk after a death; how many events there are."""
    desk = open_desk(folder)
    kept = desk.store.events(A)
    assert acknowledged <= len(kept) <= acknowledged + 1
    assert [one.event.id for one in kept] == [f"event-{n:06}" for n in range(len(kept))]
    assert (desk.store.base(A) is None) == (kept == [])
    assert desk.store._connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert desk.state(A).sha256 == marks.after[len(kept)]
    again = send(desk, acknowledged)  # as a page does that got no answer
    assert isinstance(again, Done)
    assert (again.again, again.version) == (len(kept) > acknowledged, acknowledged + 1)
    assert len(desk.store.events(A)) == acknowledged + 1
    desk.store.close()
    return len(kept)


class Child:
    """A forked process that works until it ends or is killed; how much it was told was kept."""

    def __init__(self, action):
        self.out, acknowledged = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            with suppress(BaseException):
                os.close(self.out)
                action(acknowledged)
                status = 0
            os._exit(status)
        os.close(acknowledged)

    def end(self):
        _, status = os.waitpid(self.pid, 0)
        with os.fdopen(self.out, "rb") as pipe:
            told = len(pipe.read())
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0, "the work itself failed"
        return told, killed


class Death:
    """SIGKILL before the n-th call of some kinds, or in the middle of it where it writes."""

    def __init__(self, number, names, manner):
        self.number, self.names, self.manner = number, names, manner

    def __call__(self, name, arguments):
        if name not in self.names:
            return
        self.number -= 1
        if self.number > 0:
            return
        if self.manner == "torn":
            import ctypes

            file, data, size, *offset = arguments
            part = ctypes.string_at(data, size)[: size // 2]
            os.pwrite(file, part, *offset) if offset else os.write(file, part)
        os.kill(os.getpid(), signal.SIGKILL)


def kill_everywhere(base, marks, names, manner, begin):
    """The same work, each time killed one call later, until it survives; how often it died."""
    for number in itertools.count(1):
        trial = base.parent / f"trial-{number}"
        shutil.copytree(base, trial)

        def doomed(acknowledged, trial=trial, number=number):
            with watched(Death(number, names, manner)):
                work(trial, begin, begin + 3, acknowledged)

        told, killed = Child(doomed).end()
        check(trial, begin + told, marks)
        shutil.rmtree(trial)
        if not killed:
            assert told == 3
            return number - 1
    raise AssertionError("the work never ended")


@pytest.mark.parametrize(
    ("manner", "names"),
    [
        ("clean", CHANGES),
        ("torn", WRITES),
        pytest.param("clean", tuple(CALLS), marks=pytest.mark.soak),
    ],
    ids=["before a change", "in a write", "at any call"],
)
@pytest.mark.parametrize("before", [0, 6], ids=["a new review", "an old review"])
def test_a_kill_at_any_touch_of_the_disk_loses_nothing(place, marks, before, manner, names):
    base = place / "base"
    base.mkdir()
    if before:
        work(base, 0, before, os.open(os.devnull, os.O_WRONLY))
    deaths = kill_everywhere(base, marks, names, manner, before)
    assert deaths > 15  # else nothing was watched


def test_a_kill_at_any_change_beside_another_process_loses_nothing(place, marks):
    """The other one keeps the file open all the time, so that the log is not begun anew."""
    other = {}
    for number in itertools.count(1):
        trial = place / f"trial-{number}"
        trial.mkdir()
        ready, done = os.pipe(), os.pipe()

        def wait(acknowledged, trial=trial, ready=ready, done=done):
            desk = open_desk(trial)
            send(desk, 0)
            os.write(ready[1], b".")
            os.read(done[0], 1)
            assert desk.state(A).version >= 1
            desk.store.close()

        def doomed(acknowledged, trial=trial, number=number):
            with watched(Death(number, CHANGES, "clean")):
                work(trial, 1, 5, acknowledged)

        other[number] = Child(wait)
        os.read(ready[0], 1)
        told, killed = Child(doomed).end()
        check(trial, 1 + told, marks)
        os.write(done[1], b".")
        other[number].end()
        for end in (*ready, *done):
            os.close(end)
        shutil.rmtree(trial)
        if not killed:
            assert number > 8
            return


@pytest.mark.parametrize("kills", [20, pytest.param(1000, marks=pytest.mark.soak)])
def test_kills_at_any_time_lose_nothing(place, marks, kills):
    rng = random.Random(0)
    most = len(marks.after) - 1
    folder, told = place, most
    for trial in itertools.count():
        if kills == 0:
            return
        if told > most - 3:
            folder, told = place / f"review-{trial}", 0
            folder.mkdir()

        def doomed(acknowledged, folder=folder, begin=told):
            work(folder, begin, most - 1, acknowledged)

        child = Child(doomed)
        time.sleep(rng.uniform(0, 0.03))
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        more, killed = child.end()
        check(folder, told + more, marks)
        told += more + 1  # with the one that the check sent again
        kills -= killed


# ---------------------------------------------------------------------- a failing disk


class Refusal:
    """The n-th call of some kinds fails, and every later one too where the disk stays bad."""

    def __init__(self, number, names, error, lasting):
        self.number, self.names, self.error, self.lasting = number, names, error, lasting
        self.struck = False

    def __call__(self, name, arguments):
        if name not in self.names:
            return None
        self.number -= 1
        if self.number == 0 or (self.number < 0 and self.lasting):
            self.struck = True
            return self.error
        return None


def work_until_refused(folder, begin, end):
    """How many events were there when the work ended, and how it ended: ``None`` when well."""
    told, desk = begin, None
    try:
        desk = open_desk(folder)
        for number in range(begin, end):
            assert send(desk, number).version == number + 1
            told += 1
        desk.store.close()
    except LabelmendError as error:
        if desk is not None:
            with suppress(LabelmendError):
                desk.store.close()
        return told, error
    return told, None


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=os.strerror)
def test_a_disk_that_refuses_is_told_and_loses_nothing(place, marks, number, lasting):
    refused = 0
    for at in itertools.count(1):
        trial = place / f"trial-{at}"
        trial.mkdir()
        work(trial, 0, 2, os.open(os.devnull, os.O_WRONLY))
        refusal = Refusal(at, CHANGES, number, lasting)
        with watched(refusal):
            told, error = work_until_refused(trial, 2, 5)
        assert error is None or isinstance(error, StorageError), error
        assert "\n" not in str(error)
        refused += error is not None
        check(trial, told, marks)
        shutil.rmtree(trial)
        if not refusal.struck:
            assert refused > 3
            return
