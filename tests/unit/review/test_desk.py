"""The desk: one more thing done to a case, by several people at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from labelmend.errors import ChangedDataError, DamagedError, DataError, StorageError
from labelmend.review.desk import Desk, Done, Stale
from labelmend.review.packing import fingerprint
from labelmend.review.records import Summary
from labelmend.review.store import FILE, Store

from .oracle_edits import apply

A, B = "labels/weak/a.png", "labels/weak/b.png"
SIZE = (10, 12)
BRUSH = {"kind": "brush", "class": 1, "radius": 1.5, "points": [[3.0, 4.0], [5.0, 6.0]]}
UNDO, REDO = {"kind": "undo"}, {"kind": "redo"}
ACCEPT = {"kind": "verdict", "value": "accepted"}
TAKE = {"kind": "take", "what": "prediction"}


class Files:
    """Label files, and how often they were read."""

    def __init__(self):
        self.labels = {A: np.zeros(SIZE, np.int16), B: np.eye(5, 7, dtype=np.int16)}
        self.read = 0

    def __call__(self, label):
        self.read += 1
        if label not in self.labels:
            raise DataError(f"{label} is not a label of this run")
        indices = self.labels[label]
        return indices.copy(), hashlib.sha256(indices.tobytes()).hexdigest()


def nothing_to_take(what):
    raise AssertionError(f"nobody takes {what}")


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "review" / FILE


@pytest.fixture
def make(path, files):
    """As many desks on one file as a test wants, each with a store of its own."""
    stores = []

    def made(**options):
        stores.append(Store.open(path))
        return Desk(stores[-1], files, classes=3, ignore=True, **options)

    yield made
    for store in stores:
        store.close()


@pytest.fixture
def desk(make):
    return make()


def do(desk, version, op, number=None, *, label=A, blobs=nothing_to_take, person="Ada"):
    event_id = f"event-{version if number is None else number:06}"
    return desk.do(label, version, event_id, op, person, blobs=blobs)


def same(one, other):
    fields = [f.name for f in dataclasses.fields(one) if f.name != "indices"]
    assert [getattr(one, f) for f in fields] == [getattr(other, f) for f in fields]
    np.testing.assert_array_equal(one.indices, other.indices)


def test_a_case_begins_as_its_file_is(desk, files):
    state = desk.state(A)
    assert (state.label, state.version, state.verdict, state.quality) == (A, 0, "open", None)
    assert (state.edited, state.can_undo, state.can_redo, state.comment) == (False,) * 3 + ("",)
    assert state.file_sha256 == files(A)[1]
    assert state.sha256 == fingerprint(files.labels[A])
    np.testing.assert_array_equal(state.indices, files.labels[A])
    assert not state.indices.flags.writeable


def test_what_is_done_is_the_state_everywhere(desk, make, files):
    for version, op in enumerate((BRUSH, ACCEPT, {"kind": "quality", "value": "strong"})):
        done = do(desk, version, op)
        assert isinstance(done, Done)
        assert (done.number, done.version, done.again) == (version + 1, version + 1, False)
        same(done.state, desk.state(A))
    np.testing.assert_array_equal(done.state.indices, apply(files.labels[A], BRUSH, ignore=True))
    assert (done.state.verdict, done.state.quality, done.state.edited) == (
        *("accepted", "strong"),
        True,
    )
    same(make().state(A), done.state)
    assert desk.summaries() == {
        A: Summary(3, "accepted", "strong", "", True, 3, "event-000002"),
    }
    assert not files.labels[A].any()


def test_the_history_of_a_case_is_told_without_blobs(make):
    desk = make(clock=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))))
    do(desk, 0, BRUSH, person=" Ada\n")
    do(desk, 1, TAKE, blobs=lambda what: np.ones(SIZE, np.int16))
    first, second = desk.events(A)
    assert (first.number, first.event.kind, first.event.person) == (1, "brush", "Ada")
    assert first.event.time == "2026-01-02T01:04:05.000+00:00"
    assert second.event.blob is None
    assert second.event.op == '{"kind":"take","what":"prediction"}'
    assert desk.events(B) == []


def test_times_are_in_utc(desk):
    do(desk, 0, BRUSH)
    time = datetime.fromisoformat(desk.events(A)[0].event.time)
    assert time.utcoffset() == timedelta(0)
    assert abs((datetime.now(UTC) - time).total_seconds()) < 3600


def test_another_version_keeps_nothing(desk):
    do(desk, 0, BRUSH)
    for version in (0, 2, -1):
        assert do(desk, version, ACCEPT, 77) == Stale(1)
    assert desk.state(A).verdict == "open"


def test_the_same_event_again_changes_nothing(desk):
    first = do(desk, 0, BRUSH)
    second = do(desk, 1, ACCEPT)
    for version in (0, 1, 2, 5):
        again = desk.do(
            A, version, "event-000000", dict(reversed(BRUSH.items())), "Bob", blobs=nothing_to_take
        )
        assert (again.number, again.version, again.again) == (first.number, 1, True)
        same(again.state, second.state)
    assert desk.state(A).version == 2


def test_taking_the_same_again_does_not_ask_the_model_again(desk):
    first = do(desk, 0, TAKE, blobs=lambda what: np.ones(SIZE, np.int16))
    again = do(desk, 0, TAKE)
    assert again.again
    same(again.state, first.state)


def test_an_id_of_another_event_is_refused(desk):
    do(desk, 0, BRUSH)
    for label, op in ((A, ACCEPT), (A, BRUSH | {"class": 2}), (B, BRUSH)):
        with pytest.raises(DataError, match="event-000000 is that of another event, brush of"):
            do(desk, 1, op, 0, label=label)
    assert desk.state(A).version == 1
    assert desk.state(B).version == 0


@pytest.mark.parametrize("event_id", ["", "a", "é" * 9, "a" * 65, "event 0001", "event-0001\n"])
def test_an_id_is_plain(desk, event_id):
    with pytest.raises(DataError, match="an event needs an id"):
        desk.do(A, 0, event_id, BRUSH, "Ada", blobs=nothing_to_take)


def test_a_refused_operation_leaves_the_case_ready(desk, files):
    do(desk, 0, BRUSH)
    read = files.read
    for op, words in ((REDO, "nothing to redo"), ({"kind": "brsh"}, "its kind must be one of")):
        with pytest.raises(DataError, match=words):
            do(desk, 1, op)
    with pytest.raises(DataError, match="needs one of size"):
        do(desk, 1, TAKE, blobs=lambda what: np.ones((2, 2), np.int16))
    with pytest.raises(DataError, match="classes 3 to 3"):
        do(desk, 1, TAKE, blobs=lambda what: np.full(SIZE, 3, np.int16))
    assert do(desk, 1, UNDO).version == 2
    assert files.read == read  # nothing was made anew


def test_what_was_taken_stays_whatever_the_model_says_later(desk, make):
    first, later = np.full(SIZE, 1, np.int16), np.full(SIZE, 2, np.int16)
    do(desk, 0, TAKE, blobs=lambda what: first)
    do(desk, 1, {"kind": "take", "what": "moved"}, blobs=lambda what: later)
    do(desk, 2, UNDO)
    for again in (desk, make()):
        np.testing.assert_array_equal(again.state(A).indices, first)


def test_the_original_is_the_label_of_the_file(desk, files):
    do(desk, 0, BRUSH, label=B)
    done = do(desk, 1, {"kind": "take", "what": "original"}, label=B)
    np.testing.assert_array_equal(done.state.indices, files.labels[B])
    assert not done.state.edited
    assert do(desk, 2, UNDO, label=B).state.edited


def test_unknown_labels_are_told_by_their_reader(desk):
    with pytest.raises(DataError, match="is not a label of this run"):
        desk.state("labels/none.png")


def test_what_happened_since_is_told_once_per_label(desk):
    assert desk.since(0) == (0, [])
    for number, label in enumerate((A, B, A)):
        do(desk, number // 2, ACCEPT, number, label=label)
    assert desk.since(0) == (3, [A, B])
    assert desk.since(1) == (3, [B, A])
    assert desk.since(3) == (3, [])


# ---------------------------------------------------------------------- two desks


def test_one_desk_sees_what_another_did(make):
    one, other = make(), make()
    one.state(A)
    done = do(other, 0, BRUSH)
    same(one.state(A), done.state)
    assert do(one, 0, ACCEPT, 9) == Stale(1)
    same(do(one, 1, UNDO, 8).state, other.state(A))


def test_who_was_quicker_while_the_model_thought_wins(make):
    slow, quick = make(), make()

    def think(what):
        do(quick, 0, ACCEPT, 1)
        return np.ones(SIZE, np.int16)

    assert do(slow, 0, TAKE, 2, blobs=think) == Stale(1)
    same(slow.state(A), quick.state(A))
    assert slow.state(A).verdict == "accepted"
    assert not slow.state(A).edited


def test_the_same_event_at_both_desks_at_once_is_kept_once(make):
    slow, quick = make(), make()

    def think(what):
        do(quick, 0, TAKE, 1, blobs=lambda what: np.full(SIZE, 2, np.int16))
        return np.ones(SIZE, np.int16)

    done = do(slow, 0, TAKE, 1, blobs=think)
    assert (done.number, done.version, done.again) == (1, 1, True)
    assert (done.state.indices == 2).all()  # what was kept first, not what came second
    same(slow.state(A), quick.state(A))


@pytest.mark.parametrize("desks", [1, 3])
def test_people_at_the_same_time_lose_nothing(make, desks):
    work = [make() for _ in range(desks)]
    failed = []

    def person(who):
        try:
            for number in range(12):
                event_id = f"person-{who}-{number:04}"
                op = {"kind": "comment", "text": event_id} if number % 3 else BRUSH
                while True:
                    version = work[who % desks].state(A).version
                    done = work[who % desks].do(
                        A, version, event_id, op, f"{who}", blobs=nothing_to_take
                    )
                    if isinstance(done, Done):
                        break
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=person, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    kept = work[0].events(A)
    assert [one.version for one in kept] == list(range(1, 73))
    for who in range(6):
        mine = [one.event.id for one in kept if one.event.person == str(who)]
        assert mine == [f"person-{who}-{number:04}" for number in range(12)]
    states = [one.state(A) for one in (*work, make())]
    for state in states[1:]:
        same(state, states[0])


# ---------------------------------------------------------------------- files and disks


def test_a_label_file_that_changed_is_refused_by_name(desk, make, files):
    do(desk, 0, BRUSH)
    files.labels[A][0, 0] = 2
    with pytest.raises(ChangedDataError, match=f"{A} is not the file this review began with"):
        make().state(A)
    with pytest.raises(ChangedDataError, match=f"{A} is not the file this review began with"):
        do(desk, 1, {"kind": "take", "what": "original"})
    assert make().state(B).version == 0
    files.labels[A][0, 0] = 0
    assert make().state(A).version == 1


def test_other_class_indices_of_the_same_file_are_refused(make, files, monkeypatch):
    do(make(), 0, BRUSH)
    changed = files.labels[A] + 1
    first = files(A)[1]
    monkeypatch.setattr(Files, "__call__", lambda self, label: (changed, first))
    with pytest.raises(DamagedError, match=f"event 1 .event-000000. of {A}"):
        make().state(A)


def test_a_refusing_disk_is_told_and_the_case_stays_true(desk, monkeypatch):
    do(desk, 0, BRUSH)
    before = desk.state(A)
    keep = desk.store.append

    def refuse(*arguments):
        raise StorageError("full")

    monkeypatch.setattr(desk.store, "append", refuse)
    with pytest.raises(StorageError, match="full"):
        do(desk, 1, UNDO)
    same(desk.state(A), before)
    monkeypatch.setattr(desk.store, "append", keep)
    assert do(desk, 1, UNDO).version == 2


def test_a_commit_whose_answer_was_lost_is_found_by_its_id(desk, monkeypatch):
    keep = desk.store.append

    def kept_but_refused(*arguments):
        keep(*arguments)
        raise StorageError("the disk failed")

    monkeypatch.setattr(desk.store, "append", kept_but_refused)
    with pytest.raises(StorageError, match="failed"):
        do(desk, 0, BRUSH)
    monkeypatch.setattr(desk.store, "append", keep)
    again = do(desk, 0, BRUSH)
    assert (again.version, again.again, again.state.edited) == (1, True, True)
    assert desk.store.last() == 1


def test_memory_is_bounded_and_nothing_changes_by_it(make, files):
    desk = make(memory=1)
    for version in range(4):
        for label in (A, B):
            number = 2 * version + (label == B)
            done = do(desk, version, BRUSH | {"class": version % 3}, number, label=label)
            assert done.version == version + 1
    assert len(desk._cases) == 1
    roomy = make()
    for label in (A, B):
        same(desk.state(label), roomy.state(label))
    assert len(roomy._cases) == 2
    read = files.read
    roomy.state(A)
    assert files.read == read


def test_summaries_follow_every_desk(make):
    one, other = make(), make()
    assert one.summaries() == {}
    do(other, 0, ACCEPT, 1)
    assert set(one.summaries()) == {A}
    do(one, 1, {"kind": "comment", "text": "late"}, 2)
    do(other, 0, BRUSH, 3, label=B)
    told = one.summaries()
    assert told == other.summaries() == make().summaries()
    assert (told[A].comment, told[A].verdict, told[B].edited) == ("late", "accepted", True)
    told.clear()  # a copy
    assert len(one.summaries()) == 2
