"""Undo never lies, and no update is lost: promises H4 and H3."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from labelmend.errors import DataError
from labelmend.review.desk import Desk, Done, Stale
from labelmend.review.packing import fingerprint
from labelmend.review.store import FILE, Store

from ..unit.review.made_edits import CLASSES, SIZES, random_label, random_op
from ..unit.review.oracle_edits import FullCopies

seeds = st.integers(0, 2**31)
# The promises ask for 10,000 cases; `HYPOTHESIS_PROFILE=soak` draws as many for every law.
often = settings(max_examples=max(200, settings.default.max_examples))
MEMORY = Path("/dev/shm")  # a commit there waits for no disk; what waits is tested elsewhere
PLACE = str(MEMORY) if os.access(MEMORY, os.W_OK) else None
A, B = "labels/a.png", "labels/b.png"


@contextmanager
def fresh_file():
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        yield Path(folder) / "review" / FILE


def facts(case):
    return (
        *(case.version, case.verdict, case.quality, case.comment),
        *(case.can_undo, case.can_redo, case.edited),
    )


def agree(state, copies):
    assert facts(state) == facts(copies)
    assert state.indices.dtype == np.int16
    np.testing.assert_array_equal(state.indices, copies.label)
    assert state.sha256 == fingerprint(copies.label)


@often
@given(st.sampled_from(SIZES), seeds, st.integers(1, 25), st.booleans())
def test_undo_never_lies_also_after_opening_again(size, seed, length, ignore):
    rng = np.random.default_rng(seed)
    first = random_label(rng, size, ignore=ignore)
    copies = FullCopies(first, ignore=ignore)

    def begin(path):
        bases = {A: (first, "0" * 64)}
        return Desk(Store.open(path), bases.__getitem__, classes=CLASSES, ignore=ignore)

    with fresh_file() as path:
        desk = begin(path)
        for number in range(length):
            op = random_op(rng, size, ignore=ignore)
            taken = random_label(rng, size, ignore=ignore)
            if op.get("what") == "original":
                taken = first
            event = (A, copies.version, f"event-{number:06}", op, "Ada")
            if copies.do(op, taken):
                agree(desk.do(*event, blobs=lambda what, taken=taken: taken).state, copies)
            else:
                refused = False
                try:
                    desk.do(*event, blobs=lambda what, taken=taken: taken)
                except DataError:
                    refused = True
                assert refused, op
            if rng.random() < 0.2:
                desk.store.close()
                desk = begin(path)
            agree(desk.state(A), copies)
        desk.store.close()


# ---------------------------------------------------------------------- two clients


class Client:
    """A page: the versions it has seen, and the last thing it sent."""

    def __init__(self, path, name, first):
        bases = dict.fromkeys((A, B), (first, "0" * 64))
        self.desk = Desk(Store.open(path), bases.__getitem__, classes=CLASSES, ignore=True)
        self.name, self.seen, self.sent = name, {A: 0, B: 0}, None
        self.count = 0

    def new_id(self):
        self.count += 1
        return f"{self.name}-{self.count:06}"

    def send(self, label, event_id, op, blobs):
        self.sent = (label, event_id, op)
        return self.desk.do(label, self.seen[label], event_id, op, self.name, blobs=blobs)


class Kept:
    """What must be on disk: every event that was acknowledged, in order, each once."""

    def __init__(self, first):
        self.cases = {label: FullCopies(first, ignore=True) for label in (A, B)}
        self.events = []  # label, id, op without its order of keys
        self.numbers = {}

    def expect(self, outcome, client, label, event_id, op, taken):
        """Check one outcome, and follow it; the same rules, written down a second time."""
        case = self.cases[label]
        if event_id in self.numbers:
            number, version = self.numbers[event_id]
            assert isinstance(outcome, Done)
            assert (outcome.number, outcome.version, outcome.again) == (number, version, True)
        elif client.seen[label] != case.version:
            assert outcome == Stale(case.version)
            return
        else:
            assert isinstance(outcome, Done)
            assert not outcome.again
            assert case.do(op, taken)
            self.events.append((label, event_id, client.name))
            self.numbers[event_id] = (len(self.events), case.version)
            assert (outcome.number, outcome.version) == self.numbers[event_id]
        agree(outcome.state, case)
        client.seen[label] = outcome.state.version


def act(rng, clients, kept):
    """One of two clients looks, sends, sends again, or sends while the other is quicker."""
    client, other = rng.permutation(np.array(clients, dtype=object))
    label = str(rng.choice([A, B]))
    case = kept.cases[label]
    kind = rng.choice(["look", "send", "send", "send", "again", "race"])
    if kind == "look":
        state = client.desk.state(label)
        agree(state, case)
        client.seen[label] = state.version
        return
    taken = random_label(rng, case.label.shape, ignore=True)
    if kind == "again" and client.sent is not None:
        sent = client.sent
        if sent[2].get("what") == "original":
            taken = kept.cases[sent[0]].copies[0]
        if sent[1] in kept.numbers or _possible(kept.cases[sent[0]], sent[2]):
            outcome = client.send(*sent, lambda what: taken)
            kept.expect(outcome, client, *sent, taken)
        return
    if kind == "race":
        _race(rng, client, other, kept, label, taken)
        return
    op = random_op(rng, case.label.shape, ignore=True)
    if not _possible(case, op):
        return
    if op.get("what") == "original":
        taken = case.copies[0]
    event = (label, client.new_id(), op)
    kept.expect(client.send(*event, lambda what: taken), client, *event, taken)


def _race(rng, slow, quick, kept, label, taken):
    """The quick one's event is kept after the slow one's was found fresh, before it is kept."""
    case = kept.cases[label]
    take = (label, slow.new_id(), {"kind": "take", "what": "prediction"})
    comment = {"kind": "comment", "text": quick.name}
    seen, started = slow.seen[label], case.version

    def overtaken(what):
        event = (label, quick.new_id(), comment)
        kept.expect(quick.send(*event, None), quick, *event, None)
        return taken

    outcome = slow.send(*take, overtaken)
    if seen == started and case.version != started:
        assert outcome == Stale(case.version)
        return
    kept.expect(outcome, slow, *take, taken)


def _possible(case, op):
    wanted = {"undo": case.can_undo, "redo": case.can_redo}
    return wanted.get(op["kind"], True)


@often
@given(st.sampled_from(((5,), (4, 5))), seeds, st.integers(2, 40))
def test_two_clients_lose_nothing_of_each_other(size, seed, length):
    rng = np.random.default_rng(seed)
    first = random_label(rng, size, ignore=True)
    kept = Kept(first)
    with fresh_file() as path:
        clients = [Client(path, name, first) for name in ("first", "second")]
        for _ in range(length):
            act(rng, clients, kept)
        for client in clients:
            for label in (A, B):
                agree(client.desk.state(label), kept.cases[label])
            client.desk.store.close()
        with Store.open(path) as store:
            found = {one.number: one for label in (A, B) for one in store.events(label)}
        assert sorted(found) == list(range(1, len(kept.events) + 1))
        stored = [(one.label, one.event.id, one.event.person) for _, one in sorted(found.items())]
        assert stored == kept.events
