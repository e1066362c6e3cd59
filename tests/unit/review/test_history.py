"""A case's history: the same at every replay, or an error that names the event."""

from __future__ import annotations

import dataclasses
import json
import zlib

import numpy as np
import pytest

from labelmend.errors import DamagedError, DataError
from labelmend.review.edits import to_text
from labelmend.review.history import History
from labelmend.review.packing import BLOCK, Fingerprint, fingerprint, pack, unpack
from labelmend.review.records import Event, Stored

from .made_edits import CLASSES, SIZES, random_label, random_op
from .oracle_edits import FullCopies

SIZE = (12, 14)
BRUSH = {"kind": "brush", "class": 1, "radius": 2.0, "points": [[3.0, 4.0], [5.0, 6.0]]}
UNDO, REDO = {"kind": "undo"}, {"kind": "redo"}
TAKE = {"kind": "take", "what": "prediction"}


def begin(first, *, ignore=True, name="labels/a.png"):
    return History(first, classes=CLASSES, ignore=ignore, name=name)


def empty():
    return np.zeros(SIZE, np.int16)


def stored(history, op, taken=None):
    """Do one thing, and the event that the store would keep of it."""
    parsed = history.parse(op)
    history.do(parsed, taken)
    event = Event(
        id=f"event-{history.version:04}",
        kind=parsed.kind,
        op=to_text(parsed),
        person="Ada",
        time="2026-01-01T00:00:00.000+00:00",
        after=history.fingerprint,
        verdict=history.verdict,
        quality=history.quality,
        comment=history.comment,
        edited=history.edited,
        blob=None if taken is None else pack(taken),
    )
    return Stored(history.version + 100, history.name, history.version, event)


def facts(case):
    return (
        case.version,
        case.verdict,
        case.quality,
        case.comment,
        case.can_undo,
        case.can_redo,
        case.edited,
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_history_is_one_full_copy_after_the_other(size):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        ignore = bool(rng.integers(2))
        first = random_label(rng, size, ignore=ignore)
        history, copies = begin(first, ignore=ignore), FullCopies(first, ignore=ignore)
        events = []
        for _ in range(25):
            op = random_op(rng, size, ignore=ignore)
            taken = random_label(rng, size, ignore=ignore) if op["kind"] == "take" else None
            if copies.do(op, taken):
                events.append(stored(history, op, taken))
            else:
                with pytest.raises(DataError, match=f"nothing to {op['kind']}"):
                    history.do(history.parse(op))
            np.testing.assert_array_equal(history.label, copies.label)
            assert facts(history) == facts(copies)
            assert history.fingerprint == fingerprint(copies.label)
        again = begin(first, ignore=ignore)
        for event in events:
            again.add(event)
        np.testing.assert_array_equal(again.label, copies.label)
        assert facts(again) == facts(copies)


def test_a_label_that_was_read_never_changes():
    history = begin(empty())
    seen = [history.label]
    for op in (BRUSH, UNDO, REDO, {"kind": "move", "displacement": [1, 2]}):
        before = [label.copy() for label in seen]
        history.do(history.parse(op))
        for label, copy in zip(seen, before, strict=True):
            np.testing.assert_array_equal(label, copy)
        seen.append(history.label)
    with pytest.raises(ValueError, match="read-only"):
        history.label[0, 0] = 1


def test_the_first_label_stays_as_it_is():
    first = empty()
    history = begin(first)
    history.do(history.parse(BRUSH))
    assert not first.any()


def test_an_edit_after_an_undo_forgets_what_was_undone():
    history = begin(empty())
    for op in (BRUSH, BRUSH | {"class": 2}, UNDO):
        history.do(history.parse(op))
    assert history.can_redo
    history.do(history.parse({"kind": "verdict", "value": "accepted"}))
    assert history.can_redo  # only edits of the label count
    history.do(history.parse(BRUSH | {"points": [[9, 9]]}))
    assert not history.can_redo
    with pytest.raises(DataError, match="nothing to redo in labels/a.png"):
        history.do(history.parse(REDO))


def test_edited_means_that_a_position_differs():
    history = begin(empty())
    history.do(history.parse(BRUSH | {"class": 0}))
    assert (history.edited, history.can_undo) == (False, True)
    history.do(history.parse(BRUSH))
    assert history.edited
    history.do(history.parse(BRUSH | {"class": 0}))
    assert not history.edited


def test_a_refused_thing_leaves_everything_as_it_was():
    history = begin(empty(), ignore=False)
    history.do(history.parse(BRUSH))
    before, mark = facts(history), history.fingerprint
    wrong = (None, np.zeros((3, 3), np.int16), np.full(SIZE, -1, np.int16), np.full(SIZE, 3))
    for taken in wrong:
        with pytest.raises(DataError):
            history.do(history.parse(TAKE), taken)
        assert (facts(history), history.fingerprint) == (before, mark)
        np.testing.assert_array_equal(history.label == 1, history.label > 0)


# ---------------------------------------------------------------------- damage


def damaged(events, place, **changes):
    event = dataclasses.replace(events[place].event, **changes)
    return [*events[:place], dataclasses.replace(events[place], event=event), *events[place + 1 :]]


@pytest.fixture
def events():
    history = begin(empty())
    taken = np.full(SIZE, 2, np.int16)
    ops = (BRUSH, {"kind": "comment", "text": "a"}, UNDO, REDO)
    return [*(stored(history, op) for op in ops), stored(history, TAKE, taken)]


def replay(events, first=None):
    history = begin(empty() if first is None else first)
    for event in events:
        history.add(event)
    return history


WRONG = {
    "another op": (0, {"op": json.dumps(BRUSH | {"radius": 3})}, "the label's SHA-256 is"),
    "another class": (0, {"op": json.dumps(BRUSH | {"class": 2})}, "the label's SHA-256 is"),
    "another hash": (3, {"after": "0" * 64}, "the label's SHA-256 is"),
    "no op": (0, {"op": "{}"}, "its kind must be"),
    "no JSON": (0, {"op": "{"}, "Expecting"),
    "another blob": (4, {"blob": pack(np.zeros(SIZE, np.int16))}, "the label's SHA-256 is"),
    "half a blob": (4, {"blob": pack(np.zeros(SIZE, np.int16))[:-9]}, "cannot be unpacked"),
    "no blob": (4, {"blob": None}, "needs one of size"),
    "another comment": (1, {"comment": "b"}, "the case is"),
    "another verdict": (2, {"verdict": "accepted"}, "the case is"),
    "another quality": (2, {"quality": "strong"}, "the case is"),
    "not edited": (0, {"edited": False}, "the case is"),
    "nothing to undo": (0, {"op": '{"kind":"undo"}'}, "nothing to undo"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_an_event_that_no_longer_gives_what_it_gave_is_named(events, case):
    place, changes, words = WRONG[case]
    with pytest.raises(DamagedError) as caught:
        replay(damaged(events, place, **changes))
    text = str(caught.value)
    assert f"event {events[place].number} (event-{place + 1:04}) of labels/a.png" in text
    assert words in text
    assert "\n" not in text


def test_whole_events_replay(events):
    assert replay(events).fingerprint == events[-1].event.after


def test_another_first_label_is_noticed_at_the_first_event(events):
    first = empty()
    first[0, 0] = 1
    with pytest.raises(DamagedError, match="event 101 "):
        replay(events, first)


def test_other_rules_for_positions_are_noticed(events, monkeypatch):
    from labelmend.labels import shapes

    scribble = shapes.scribble
    monkeypatch.setattr(shapes, "scribble", lambda *a: np.roll(scribble(*a), 1, axis=0))
    with pytest.raises(DamagedError, match="the version of labelmend"):
        replay(events)


def test_a_missing_event_is_noticed(events):
    with pytest.raises(DamagedError, match="it is version 3, not 2"):
        replay([events[0], *events[2:]])


# ---------------------------------------------------------------------- memory, packing, marks


def test_a_stroke_in_a_large_volume_keeps_little():
    first = np.random.default_rng(0).integers(0, CLASSES, (64, 128, 128)).astype(np.int16)
    history = begin(first)
    for index in range(30):
        place = {"slice": {"axis": index % 3, "index": index + 10}}
        history.do(history.parse(BRUSH | {"points": [[20.0, index + 5.0]]} | place))
    assert history.nbytes < first.nbytes + 30 * 400


@pytest.mark.parametrize("size", [(), (0,), (3, 0, 2), *SIZES], ids=str)
def test_a_packed_label_comes_back(size):
    rng = np.random.default_rng(1)
    for low, high in ((-1, 3), (-128, 128), (-129, 3), (-1, 129), (-(2**15), 2**15)):
        label = rng.integers(low, high, size).astype(np.int16)
        back = unpack(pack(label))
        assert back.dtype == np.int16
        assert back.shape == label.shape
        np.testing.assert_array_equal(back, label)
        back[...] = 0  # its own memory


def test_a_packed_bomb_is_not_unpacked():
    bomb = b"1" + b"2,2\n" + zlib.compress(bytes(10**7))
    for data in (
        bomb,
        b"",
        b"1",
        b"1\n",
        b"3 2\n",
        b"1-1,-4\n" + zlib.compress(bytes(4)),
        b"1a\nb",
    ):
        with pytest.raises(DamagedError, match="cannot be unpacked"):
            unpack(data)


def test_a_mark_renewed_is_the_mark_made_new():
    rng = np.random.default_rng(2)
    for size in ((3 * BLOCK + 17,), (700, 300), (9, 150, 140), (1, 1)):
        label = rng.integers(-1, 3, size).astype(np.int16)
        mark = Fingerprint(label)
        for _ in range(20):
            starts = [int(rng.integers(0, n)) for n in size]
            region = tuple(
                slice(s, int(rng.integers(s, n)) + 1) for s, n in zip(starts, size, strict=True)
            )
            label[region] = rng.integers(-1, 3)
            mark.renew(label, region)
            assert mark.text == fingerprint(label)


def test_marks_of_different_labels_differ():
    rng = np.random.default_rng(3)
    labels = [np.zeros(12, np.int16), np.zeros((3, 4), np.int16), np.zeros((4, 3), np.int16)]
    for _ in range(100):
        changed = labels[-1].copy()
        changed[tuple(rng.integers(0, changed.shape))] += 1
        labels.append(changed)
    assert len({fingerprint(label) for label in labels}) == len(labels)
