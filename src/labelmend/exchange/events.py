"""Lists of events of recordings: CSV with an onset and an offset, or Audacity's label tracks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.annotated import (
    UNKNOWN,
    Annotated,
    Found,
    Labelled,
    Part,
    Source,
    Thing,
    within,
)
from labelmend.exchange.classes import LIST, TABLE, class_table, classes_beside, settle_classes
from labelmend.exchange.documents import numeral, shown
from labelmend.exchange.places import (
    ImagesByStem,
    image_folders,
    image_names,
    list_files,
    note_passed_over,
    stem_of,
)
from labelmend.files.readers import events_grid
from labelmend.files.sources import read_bytes
from labelmend.labels.events import IGNORE, Event, find_events, span_of
from labelmend.runs import write_atomically
from labelmend.types import Raster

SUFFIXES = (".csv", ".tsv", ".txt")

_LONGEST = 1 << 26
_FIRST = 1 << 14
_ONSETS = frozenset(
    {"onset", "onset_s", "start", "start_s", "start_time", "begin", "begin_time", "begin time (s)"}
)
_OFFSETS = frozenset(
    {"offset", "offset_s", "end", "end_s", "end_time", "stop", "stop_s", "end time (s)"}
)
_LASTING = frozenset({"duration", "duration_s"})
_NAMES = ("label", "name", "annotation", "class", "event", "species", "text", "type")


def is_event_file(path: Path) -> bool:
    """Whether a file looks like it: a header with an onset, or Audacity's three columns."""
    with path.open("rb") as stream:
        first = stream.read(_FIRST).decode("utf-8-sig", "replace").split("\n", 1)[0]
    return _header(first) is not None or _is_audacity(first.split("\t"))


def read_events(source: Source) -> Found:
    """The events of all CSV, TSV and Audacity files, each for the recording of the same stem.

    An event covers the samples from its rounded onset up to its rounded offset; of overlapping
    ones the later line lies on top. Events called ``ignore`` are unknown.

    Raises:
        DataError: naming file and line; also for a file with a recording's stem that is no list.
    """
    names = [source.path.name] if source.path.is_file() else list_files(source.path, SUFFIXES)
    folders = image_folders(source)
    where = set(names) if folders[0] == source.folder else set()
    known = ImagesByStem(name for name in image_names(folders[0]) if name not in where)
    others = [name for name in names if not _may_hold_events(source.folder / name)]
    _refuse_lists(source.folder, others, known)
    if len(others) == len(names):
        raise DataError(f"{source.path}: holds no list of events; name the folder of the CSV files")
    items = []
    for name in sorted(set(names) - set(others)):
        path = source.folder / name
        items.append(Annotated(known.find(_stem(name), path), path, _things(path)))
    listed = tuple(classes_beside(source.folder).values())
    classes = settle_classes(source, listed[1:], items, behind="".join(listed[:1]))
    passed = note_passed_over([name for name in others if name not in (TABLE, LIST)])
    return Found(tuple(items), classes, folders, dims=1, notes=passed)


def write_events(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """``NAME.csv`` with ``onset_s,offset_s,label`` in seconds; and a table of classes."""
    write_atomically(folder / TABLE, class_table(classes))
    for one in labels:
        stream = io.StringIO()
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(("onset_s", "offset_s", "label"))
        rows.writerows((repr(e.onset), repr(e.offset), e.name) for e in _events(one, classes))
        _write(folder / f"{one.stem}.csv", stream.getvalue())


def write_audacity(folder: Path, labels: Iterator[Labelled], classes: tuple[str, ...]) -> None:
    """``NAME.txt`` as Audacity imports and exports label tracks; and a table of classes."""
    write_atomically(folder / TABLE, class_table(classes))
    for one in labels:
        lines = [f"{e.onset!r}\t{e.offset!r}\t{e.name}\n" for e in _events(one, classes)]
        _write(folder / f"{one.stem}.txt", "".join(lines))


# --- reading --------------------------------------------------------------------------------------


def _stem(name: str) -> str:
    return stem_of(name).removesuffix(".selections").removesuffix(".Table.1")


def _refuse_lists(folder: Path, names: list[str], known: ImagesByStem) -> None:
    """Refuse files that are no lists of events, where a recording of the same stem wants one."""
    for name in names:
        if known.holds(_stem(name)):
            image = known.find(_stem(name), folder / name)
            raise DataError(
                f"{folder / name}: goes by its name with {image}, but is no list of events, for "
                "its first line has no onset, offset and name in seconds; correct or rename it"
            )


def _may_hold_events(path: Path) -> bool:
    """Likewise, or an empty text file: an Audacity track without a label."""
    return (path.suffix == ".txt" and path.stat().st_size == 0) or is_event_file(path)


def _things(path: Path) -> tuple[Thing, ...]:
    content = read_bytes(path, _LONGEST)
    with within(path):
        try:
            lines = content.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError("is not text in UTF-8; export it again") from error
        columns = _header(lines[0]) if lines else None
        if columns is None:
            return tuple(_of_audacity(lines))
        mark, places, lasting = columns
        try:
            rows = list(csv.reader(lines[1:], delimiter=mark))
        except csv.Error as error:
            raise DataError("is not a table; export it again") from error
        return tuple(
            _thing(row, places, lasting, line) for line, row in enumerate(rows, 2) if any(row)
        )


def _header(line: str) -> tuple[str, tuple[int, int, int], bool] | None:
    """The separator, the places of onset, offset (or duration) and name, and which it is."""
    mark = next((m for m in "\t;" if m in line), ",")
    names = [name.strip().strip('"').casefold() for name in line.split(mark)]
    onset = next((i for i, name in enumerate(names) if name in _ONSETS), None)
    offset = next((i for i, name in enumerate(names) if name in _OFFSETS), None)
    lasting = next((i for i, name in enumerate(names) if name in _LASTING), None)
    label = next((names.index(name) for name in _NAMES if name in names), None)
    end = lasting if offset is None else offset
    if onset is None or end is None or label is None:
        return None
    return mark, (onset, end, label), offset is None


def _thing(row: list[str], places: tuple[int, int, int], lasting: bool, line: int) -> Thing:
    with within(f"line {line}"):
        if len(row) <= max(places):
            raise DataError(f"has {len(row)} cells, fewer than the header; export it again")
        onset, end, name = (row[place].strip() for place in places)
        return _event(onset, end, name, lasting, line)


def _of_audacity(lines: list[str]) -> Iterator[Thing]:
    for line, text in enumerate(lines, 1):
        if not text.strip() or text.startswith("\\"):  # a range of frequencies
            continue
        with within(f"line {line}"):
            cells = text.split("\t")
            if len(cells) < 3:
                raise DataError("should be onset, offset and name with tabs between; export again")
            yield _event(cells[0], cells[1], "\t".join(cells[2:]).strip(), False, line)


def _is_audacity(cells: list[str]) -> bool:
    try:
        return len(cells) >= 3 and float(cells[0]) <= float(cells[1])
    except ValueError:
        return False


def _event(onset: str, end: str, name: str, lasting: bool, line: int) -> Thing:
    begin = numeral(onset, "its onset")
    stop = numeral(end, "its duration" if lasting else "its offset") + (begin if lasting else 0)
    if not name:
        raise DataError(f"the event at {shown(begin)} s has no name; add it or remove the line")
    event = Event(begin, stop, name)
    return Thing(name, partial(_covered, event), f"line {line}")


def _covered(event: Event, image: Raster) -> Part:
    length, spacing = events_grid(image.spacing, image.array.shape[1:])
    start, stop = span_of(event, length, spacing)
    return Part((slice(start, stop),), np.ones(stop - start, dtype=bool))


# --- writing --------------------------------------------------------------------------------------


def _events(one: Labelled, classes: tuple[str, ...]) -> list[Event]:
    _, spacing = events_grid(one.like.spacing, one.label.shape)
    index = np.where(one.label == UNKNOWN, len(classes), one.label)
    return find_events(index, (*classes, IGNORE), spacing)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
