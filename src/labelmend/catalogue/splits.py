"""Which groups train, which validate, which test: given, remembered, or chosen by seed."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path

from labelmend.errors import DataError, StorageError
from labelmend.files.formats import naming, nearest
from labelmend.files.sources import read_rows
from labelmend.runs import write_atomically
from labelmend.types import Split

FILE = "splits.csv"
LEAST_GROUPS = 5
"""With fewer strong groups none is held out: too few would be left to learn from."""

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def read_splits(root: Path) -> dict[str, Split]:
    """The splits that were written down, by group; empty where there is no file.

    Raises:
        DataError: when the file cannot be used, naming it and the line.
    """
    if not (root / FILE).exists():
        return {}
    rows = read_rows(root / FILE, "correct it or remove it")
    known: dict[str, Split] = {}
    with naming(Path(FILE)):
        if not rows or [name.strip() for name in rows[0]] != ["group", "split"]:
            raise DataError("needs the columns group,split; correct or remove it")
        for line, row in enumerate(rows[1:], 2):
            if not any(cell.strip() for cell in row):
                continue
            group, split = _row(row, line)
            if known.get(group, split) != split:
                raise DataError(f"line {line}: the group {group!r} is also in {known[group]!r}")
            known[group] = split
    return known


def keep_splits(root: Path, splits: Mapping[str, Split]) -> str | None:
    """Write the splits down, in one step; the sentence to note where the folder refuses."""
    stream = StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(("group", "split"))
    rows.writerows(sorted(splits.items()))
    try:
        write_atomically(root / FILE, stream.getvalue().encode())
    except StorageError as error:
        return f"The splits could not be kept in {FILE}, only in the run: {error}."
    return None


def given_splits(pairs: Iterable[tuple[str, Split | None]]) -> dict[str, Split]:
    """Group → split from what a manifest says of samples.

    Raises:
        DataError: when one group is in two splits, naming it.

    >>> given_splits([("p1", "test"), ("p1", None), ("p2", None)])
    {'p1': 'test'}
    """
    given: dict[str, Split] = {}
    for group, split in pairs:
        if split is None:
            continue
        if given.setdefault(group, split) != split:
            raise DataError(
                f"the group {group!r} is in two splits, {given[group]} and {split}: what is "
                "learned from it would be tested on it; put all its samples into one"
            )
    return given


def merge_splits(given: Mapping[str, Split], kept: Mapping[str, Split]) -> dict[str, Split]:
    """What a manifest gives and what was written down, together.

    A group that the manifest puts into ``train`` may have been chosen for a split that the
    manifest names nowhere.

    Raises:
        DataError: where the two contradict each other, naming the group.
    """
    merged = {**given, **kept}
    named = set(given.values())
    for group in given.keys() & kept.keys():
        chosen = given[group] == "train" and kept[group] not in named
        if given[group] != kept[group] and not chosen:
            raise DataError(
                f"the group {group!r} is in {kept[group]} here and in {given[group]} in the "
                "manifest; correct one of them"
            )
    return merged


def choose_splits(
    strong: Iterable[str],
    settled: Mapping[str, Split],
    shares: Mapping[Split, float],
    seed: int,
) -> tuple[dict[str, Split], list[str]]:
    """Hold out a share of the strong groups that nobody has settled; what was chosen, and notes.

    The order is that of a hash of seed and group, so a group that is added changes the others
    as little as can be.

    Args:
        strong: groups with at least one strong label.
        settled: groups whose split stays.
        shares: the share to hold out per split; none is chosen for a share of 0.
        seed: another seed chooses other groups.

    >>> chosen, _ = choose_splits([f"p{i}" for i in range(10)], {}, {"val": 0.2}, seed=0)
    >>> len(chosen), set(chosen.values())
    (2, {'val'})
    """
    groups = sorted(set(strong))
    pool = [g for g in groups if settled.get(g) is None]
    pool.sort(key=lambda group: _rank(seed, group))
    basis = len([g for g in groups if settled.get(g, "train") == "train"])
    chosen: dict[str, Split] = {}
    notes: list[str] = []
    for split, share in shares.items():
        if share <= 0:
            continue
        left = basis - len(chosen)
        have = sum(settled.get(g) == split for g in groups)
        want = min(max(1, round(share * (basis + have))) - have, len(pool), left - 1)
        if want > 0 and left >= LEAST_GROUPS:
            chosen.update(dict.fromkeys(pool[:want], split))
            del pool[:want]
        elif not have:
            notes.append(
                f"No {split} split: of {left} strong groups in training none is held out; "
                f"it takes {LEAST_GROUPS}, not all of them settled."
            )
    return chosen, notes


def _rank(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed}\0{group}".encode()).hexdigest()


def _row(row: list[str], line: int) -> tuple[str, Split]:
    if len(row) != 2 or not row[0]:
        raise DataError(f"line {line} is not a group and its split; correct it")
    split = next((s for s in _SPLITS if s == row[1].strip()), None)
    if split is None:
        raise DataError(f"line {line}: unknown split {row[1]!r}{nearest(row[1], _SPLITS)}")
    return row[0], split
