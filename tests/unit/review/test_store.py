"""The store: kept once, in order, by several at a time; and refusals with the way out."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from dataclasses import replace

import pytest

from labelmend.errors import ChangedDataError, DamagedError, DataError, RunError, StorageError
from labelmend.review import tables
from labelmend.review.records import Base, Event, Stale, Summary, clean_name
from labelmend.review.store import FILE, Store
from labelmend.review.tables import VERSION

BASE = Base("f" * 64, "a" * 64)
EVENT = Event(
    id="id-000001",
    kind="verdict",
    op='{"kind":"verdict","value":"accepted"}',
    person="Ada",
    time="2026-01-01T00:00:00.000+00:00",
    after="b" * 64,
    verdict="accepted",
    quality=None,
    comment="",
    edited=False,
)
A, B = "labels/weak/a.png", "labels/weak/b.png"


def event(number, **changes):
    return replace(EVENT, id=f"id-{number:06}", **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "review" / FILE


@pytest.fixture
def store(path):
    with Store.open(path) as opened:
        yield opened


def test_events_come_back_after_the_file_was_closed(path):
    kept = []
    with Store.open(path) as store:
        for number in range(5):
            label = (A, B)[number % 2]
            new = event(number, blob=bytes([0, number]) if number else None, quality="strong")
            kept.append(store.append(label, number // 2, new, BASE))
    with Store.open(path) as store:
        assert store.events(A) == kept[::2]
        assert store.events(B) == kept[1::2]
        assert store.events(A, after=1) == kept[2::2]
        assert store.events(A, blobs=False)[1].event == replace(kept[2].event, blob=None)
        assert store.events("labels/none.png") == []
        assert [store.version(label) for label in (A, B, "none")] == [3, 2, 0]
        assert (store.base(A), store.base("none")) == (BASE, None)
        assert [one.number for one in kept] == [1, 2, 3, 4, 5]
    assert sorted(file.name for file in path.parent.iterdir()) == [FILE]


def test_a_stale_version_keeps_nothing(store):
    store.append(A, 0, event(1), BASE)
    for version in (0, 2, -1):
        assert store.append(A, version, event(2), BASE) == Stale(1)
    assert store.append(B, 1, event(2), BASE) == Stale(0)
    assert store.last() == 1
    assert store.base(B) is None


def test_the_same_id_again_is_the_same_event(store):
    first = store.append(A, 0, event(1), BASE)
    store.append(A, 1, event(2), BASE)
    for version in (0, 1, 2, 99):
        again = store.append(A, version, event(1, person="Bob", time="later", after="x"), BASE)
        assert again == first
    assert store.last() == 2


@pytest.mark.parametrize(
    "other", [(B, {}), (A, {"op": '{"kind":"undo"}'}), (B, {"op": "{}"})], ids=str
)
def test_an_id_of_another_event_is_refused(store, other):
    label, changes = other
    store.append(A, 0, event(1), BASE)
    with pytest.raises(DataError, match=f"id-000001 is that of another event, verdict of {A}"):
        store.append(label, 1, event(1, **changes), BASE)
    assert store.last() == 1


def test_a_label_that_changed_since_is_refused_by_name(store):
    store.append(A, 0, event(1), BASE)
    for base in (Base("0" * 64, BASE.label_sha256), Base(BASE.file_sha256, "0" * 64)):
        with pytest.raises(ChangedDataError, match=f"{A} is not the label this review began with"):
            store.append(A, 1, event(2), base)
    assert store.version(A) == 1


def test_what_happened_since_is_in_order(store):
    for number in range(6):
        store.append((A, B, B)[number % 3], (0, 0, 1, 1, 2, 3)[number], event(number), BASE)
    assert store.since(0) == [(1, A), (2, B), (3, B), (4, A), (5, B), (6, B)]
    assert store.since(4) == [(5, B), (6, B)]
    assert store.since(6) == []
    assert store.last() == 6


def test_a_summary_is_what_the_last_event_left(store):
    assert store.summaries() == {}
    store.append(A, 0, event(1), BASE)
    store.append(B, 0, event(2, verdict="rejected", edited=True, quality="weak"), BASE)
    store.append(A, 1, event(3, verdict="open", comment="a\nb"), BASE)
    assert store.summaries() == {
        A: Summary(2, "open", None, "a\nb", False, 3, "id-000003"),
        B: Summary(1, "rejected", "weak", "", True, 2, "id-000002"),
    }


@pytest.mark.parametrize(
    "label", ["", "a b?#%'\".png", "Präparat/図.png", "\udcff\udc80.png", "a\0b"]
)
def test_any_path_names_a_case(path, label):
    with Store.open(path) as store:
        kept = store.append(label, 0, event(1), BASE)
        assert store.append(label + "x", 0, event(2), BASE).version == 1
    with Store.open(path) as store:
        assert store.events(label) == [kept]
        assert store.base(label) == BASE
        assert store.since(0)[0] == (1, label)
        assert set(store.summaries()) == {label, label + "x"}


# ---------------------------------------------------------------------- append-only


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE events SET verdict = 'rejected'",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT * FROM events",
        "UPDATE cases SET file_sha256 = ''",
        "DELETE FROM cases",
        "INSERT OR REPLACE INTO cases SELECT * FROM cases",
    ],
)
def test_nothing_is_ever_changed(store, sql):
    store.append(A, 0, event(1), BASE)
    with pytest.raises(sqlite3.IntegrityError, match="the review is append-only"):
        store._connection.execute(sql)
    assert store.events(A)[0].event == event(1)


def test_numbers_are_never_used_twice(store):
    store.append(A, 0, event(1), BASE)
    with pytest.raises(sqlite3.IntegrityError):
        store._connection.execute(
            tables.ADD_EVENT, (*("x",) * 2, 1, *("",) * 5, None, "", 0, "", b"")
        )
    assert store.append(A, 1, event(2), BASE).number == 2


def test_a_commit_waits_for_the_disk(store):
    ask = {name: store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in SETTINGS}
    assert ask == SETTINGS


SETTINGS = {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "recursive_triggers": 1}


# ---------------------------------------------------------------------- other files


def foreign(path, *statements):
    path.parent.mkdir(exist_ok=True)
    other = sqlite3.connect(path)
    for statement in statements:
        other.execute(statement)
    other.commit()
    other.close()
    return path.read_bytes()


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["CREATE TABLE photos (name)"], "a database of another program, not a review"),
        (["PRAGMA application_id = 7"], "a database of another program, not a review"),
        (["PRAGMA user_version = 1", "CREATE TABLE events (name)"], "of another program"),
        (
            [f"PRAGMA application_id = {tables.APPLICATION}", "PRAGMA user_version = 2"],
            r"another version of labelmend \(its tables have version 2, these are 1\)",
        ),
    ],
)
def test_the_file_of_another_program_is_left_alone(path, statements, words, reading):
    before = foreign(path, *statements)
    with pytest.raises(RunError, match=words):
        Store.open(path, reading=reading)
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == [FILE]
    assert VERSION == 1


@pytest.mark.parametrize("reading", [False, True])
def test_a_file_of_anything_else_is_left_alone(path, reading):
    path.parent.mkdir()
    path.write_bytes(b"label,weight\n" * 1000)
    with pytest.raises(DamagedError, match=r"review.sqlite is no review that can be read"):
        Store.open(path, reading=reading)
    assert path.read_bytes() == b"label,weight\n" * 1000


def test_a_torn_file_is_named(path):
    with Store.open(path) as store:
        for number in range(200):
            store.append(A, number, event(number, comment="a" * 500), BASE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedError, match=r"restore it from a copy"), Store.open(path) as store:
        store.events(A)


def test_an_empty_file_becomes_a_store(path):
    path.parent.mkdir()
    path.touch()
    with Store.open(path) as store:
        assert store.append(A, 0, event(1), BASE).number == 1


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(StorageError, match="the review could not be kept in"):
        Store.open(tmp_path / "none" / "review" / FILE)


# ---------------------------------------------------------------------- reading


def test_a_reader_makes_nothing(path):
    with pytest.raises(RunError, match="there is no review in"):
        Store.open(path, reading=True)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(RunError, match="there is no review in"):
        Store.open(path, reading=True)
    assert path.read_bytes() == b""


def test_a_reader_sees_what_is_kept_meanwhile_and_cannot_write(path):
    with Store.open(path) as store:
        store.append(A, 0, event(1), BASE)
        with Store.open(path, reading=True) as reader:
            assert reader.version(A) == 1
            store.append(A, 1, event(2), BASE)
            assert reader.version(A) == 2
            with pytest.raises(StorageError, match="could not be kept"):
                reader.append(A, 2, event(3), BASE)
        assert store.version(A) == 2


def test_a_disk_without_locks_can_be_read(path, monkeypatch):
    with Store.open(path) as store:
        store.append(A, 0, event(1), BASE)
    real = tables._open

    class Refusing:
        def __init__(self, connection):
            self.connection = connection

        def execute(self, sql):
            raise sqlite3.OperationalError("unable to open database file")

        def close(self):
            self.connection.close()

    def opened(path, mode):
        return Refusing(real(path, mode)) if mode == "ro" else real(path, mode)

    monkeypatch.setattr(tables, "_open", opened)
    with Store.open(path, reading=True) as reader:
        assert reader.version(A) == 1
    path.with_name(FILE + "-wal").write_bytes(b"changes")
    with pytest.raises(StorageError, match="cannot be read|could not be kept"):
        Store.open(path, reading=True)


# ---------------------------------------------------------------------- a disk that refuses


def test_a_full_disk_keeps_nothing_and_loses_nothing(store):
    store.append(A, 0, event(1), BASE)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="an event of .*a.png could not be kept") as caught:
        store.append(A, 1, event(2, blob=bytes(10**5)), BASE)
    assert caught.value.errno == errno.ENOSPC
    assert "make room" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert store.version(A) == 1
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert store.append(A, 1, event(2, blob=bytes(10**5)), BASE).version == 2


def test_a_read_only_file_is_told(path, store):
    store.append(A, 0, event(1), BASE)
    store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match="make the folder writable"):
        store.append(A, 1, event(2), BASE)
    assert store.version(A) == 1


def test_a_file_in_use_by_another_program_is_told(path, store, monkeypatch):
    monkeypatch.setattr(tables, "PATIENCE", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._connection.execute("PRAGMA busy_timeout = 100")
    with pytest.raises(RunError, match="in use by another program"):
        store.append(A, 0, event(1), BASE)
    other.execute("ROLLBACK")
    other.close()
    assert store.append(A, 0, event(1), BASE).version == 1


# ---------------------------------------------------------------------- several at a time


def crowd(store, who, events, label=A):
    """Append this many events, each at whatever version there is; how often it was stale."""
    stale = 0
    for number in range(events):
        while True:
            new = event(0, person=who)
            outcome = store.append(
                label, store.version(label), replace(new, id=f"{who}-{number:06}"), BASE
            )
            if not isinstance(outcome, Stale):
                break
            stale += 1
    return stale


def check_crowd(store, people, events):
    kept = store.events(A)
    assert [one.version for one in kept] == list(range(1, people * events + 1))
    assert [one.number for one in kept] == sorted(one.number for one in kept)
    for who in range(people):
        mine = [one.event.id for one in kept if one.event.person == f"person-{who}"]
        assert mine == [f"person-{who}-{number:06}" for number in range(events)]


def test_threads_share_a_store(store):
    threads = [threading.Thread(target=crowd, args=(store, f"person-{i}", 25)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_crowd(store, 6, 25)


def forked(many, work):
    """The exit statuses of so many processes that work at once, each with its number."""
    children = []
    for who in range(many):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(who)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_processes_that_make_a_file_at_once_all_find_it_theirs(tmp_path):
    """The tables may appear while another process looks whether they are there."""
    for n in range(25):
        path = tmp_path / f"{n}" / "review.sqlite"
        assert forked(6, lambda _, path=path: Store.open(path).close()) == [0] * 6, n


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_processes_share_a_file_from_its_making_on(path):
    def write(who):
        with Store.open(path) as store:
            crowd(store, f"person-{who}", 20)

    assert forked(5, write) == [0] * 5
    with Store.open(path) as store:
        check_crowd(store, 5, 20)
        assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_copy_of_the_folder_is_a_store(store, path, tmp_path):
    for number in range(3):
        store.append(A, number, event(number), BASE)
    shutil.copytree(path.parent, tmp_path / "copy")
    with Store.open(tmp_path / "copy" / FILE) as copy:
        assert copy.events(A) == store.events(A)


def test_names_of_people_are_short_and_plain():
    assert clean_name(" \x1b[31mAda\u202e\ud800\0 \t Lovelace\r\n") == "[31mAda Lovelace"
    assert clean_name("é" * 200) == "é" * 80
    assert clean_name("\n \t") == ""
