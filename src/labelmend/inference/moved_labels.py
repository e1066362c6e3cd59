"""Write a label that moved as the file it came from, its own values kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from labelmend.errors import DataError
from labelmend.files.formats import split_name
from labelmend.files.readers import decode_label, read_label, write_label
from labelmend.files.values import distinct
from labelmend.inference.files import written_suffix
from labelmend.inference.places import Place, moved_arrays
from labelmend.labels.events import IGNORE, Event, nearest_edge
from labelmend.runs import write_atomically
from labelmend.types import DataSpec, Raster


def target_name(name: str, content: bytes, spec: DataSpec) -> str:
    """What a moved label is called: as before, unless its format is read here but not written.

    >>> spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 2, 1, "none", ".png")
    >>> target_name("labels/a.PNG", b"", spec), target_name("labels/a.npz", b"", spec)
    ('labels/a.PNG', 'labels/a.npy')
    """
    stem, suffix = split_name(name)
    if suffix == ".csv":
        events = isinstance(decode_label(Path(name), content, spec.task), tuple)
        return name if events else f"{stem}.npy"
    kept = written_suffix(suffix, spec)
    return name if kept == suffix else stem + kept


def filler(spec: DataSpec) -> str:
    """What is written where nobody knows what is there, in words.

    >>> filler(DataSpec("segmentation", ("rest", "cell"), (0, 1), 9, 2, 1, "none", ".png"))
    'the ignore value 9'
    """
    if spec.suffix == ".csv" and spec.dims == 1 and IGNORE not in spec.classes:
        return "an event called ignore"
    if spec.ignore is not None:
        return f"the ignore value {spec.ignore}"
    if spec.task == "regression":
        return "the nearest value that is known; an ignore value in data.toml says so instead"
    return f"{spec.classes[0]}; an ignore value in data.toml says so instead"


def write_moved(
    target: Path, source: Path, content: bytes, place: Place, spec: DataSpec, like: Raster
) -> int:
    """Write a label file with what is in it moved; how many positions nobody knows any more.

    Class labels keep their own values, also numbers of objects and the ignore value. What came
    from outside is the ignore value, or without one the background. Of continuous values without
    an ignore value it is the nearest known value, for 0 would be one as good as any other. Lists of
    events keep their times, moved; what came from outside is an event ``ignore``.

    Args:
        target: the file to write; its suffix says the format.
        source: the file that holds ``content``, for messages.
        content: the label's bytes.
        place: where it belongs, in positions of the file.
        spec: what the data set's files share.
        like: the image.

    Raises:
        DataError: when the content is no label of that image, or the format cannot hold it.
        StorageError: when the disk refuses.
    """
    found = decode_label(source, content, spec.task)
    if isinstance(found, tuple):
        size, spacing = like.array.shape[1], (spec.spacing or like.spacing or (1.0,))[0]
        events, unknown = _moved_events(found, place, size, spacing, spec.classes)
        write_atomically(target, _as_table(events))
        return unknown
    if spec.task == "regression":
        label, valid = read_label(source, spec, like, content=content)
        values, known = moved_arrays(label, valid, place)
        write_label(target, _filled(values, known, spec), spec, like)
        # What was ignored may have left, or grown where it is read between positions.
        _, inside = moved_arrays(label, np.ones_like(valid), place)
        return int((~inside).sum())
    values, known = moved_arrays(found.array, np.ones(found.array.shape, bool), place)
    outside = spec.values[0] if spec.ignore is None else spec.ignore
    values = np.where(known, values, outside)
    write_values(target, values, spec, like)
    return int((~known).sum())


def write_values(target: Path, values: np.ndarray, spec: DataSpec, like: Raster) -> None:
    """Write the very values of a label, in a number type that holds all of the data set's."""
    there = {*distinct(values).tolist(), *spec.values}
    there |= set() if spec.ignore is None else {spec.ignore}
    own = tuple(sorted(there))
    index = np.searchsorted(np.array(own), values)
    names = tuple(map(str, own))
    write_label(target, index, replace(spec, classes=names, values=own, instances=False), like)


def _filled(values: np.ndarray, known: np.ndarray, spec: DataSpec) -> np.ndarray:
    if known.all():
        return values
    if spec.ignore is not None:
        return np.where(known, values, np.float32(spec.ignore))
    if not known.any():
        raise DataError("nothing of the label is left where it belongs; search a smaller window")
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled: np.ndarray = values[(slice(None), *nearest)]
    return filled


# ---------------------------------------------------------------------- lists of events


def _moved_events(
    events: Sequence[Event], place: Place, size: int, spacing: float, classes: Sequence[str]
) -> tuple[list[Event], int]:
    """Events of a recording of ``size`` positions, moved, and how many positions are unknown."""
    go = _course(place, spacing)
    low, high = max(go(0.0) / spacing, 0.0), min(go(size * spacing) / spacing, float(size))
    gone = [(nearest_edge(a), nearest_edge(b)) for a, b in ((0.0, low), (high, float(size)))]
    moved = [
        Event(max(go(event.onset), 0.0), min(go(event.offset), size * spacing), event.name)
        for event in events
    ]
    kept = [event for event in moved if _long(event, spacing)]
    if IGNORE not in classes:
        kept += [Event(a * spacing, b * spacing, IGNORE) for a, b in gone if b > a]
    return sorted(kept, key=lambda e: (e.onset, e.offset)), sum(b - a for a, b in gone)


def _course(place: Place, spacing: float) -> Callable[[float], float]:
    """Where every time of a recording goes, in seconds."""
    if place.field is not None:
        return _bent_course(place.total()[0].astype(np.float64), spacing)
    scale = 1.0 if place.matrix is None else float(place.matrix[0, 0])
    # Events begin and end between positions, which are counted at their centres.
    shift = (
        float(np.round(place.displacement[0]))
        if place.matrix is None
        else float(place.matrix[0, 1]) + 0.5 - 0.5 * scale
    )
    return lambda time: scale * time + shift * spacing


def _bent_course(field: np.ndarray, spacing: float) -> Callable[[float], float]:
    """Likewise, of one that is bent by a backward field ``(size,)``; beyond it its ends go on."""
    there = np.arange(len(field))
    # What folds has no way there; time stands still in it instead.
    from_ = np.maximum.accumulate(there - field)

    def go(time: float) -> float:
        position = time / spacing - 0.5
        if position <= from_[0]:
            return time + float(field[0]) * spacing
        if position >= from_[-1]:
            return time + float(there[-1] - from_[-1]) * spacing
        return (float(np.interp(position, from_, there)) + 0.5) * spacing

    return go


def _long(event: Event, spacing: float) -> bool:
    """Whether anything of an event is left on the grid."""
    start, stop = (nearest_edge(time / spacing) for time in (event.onset, event.offset))
    return stop > start


def _as_table(events: Sequence[Event]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["onset_s", "offset_s", "label"])
    rows.writerows([repr(event.onset), repr(event.offset), event.name] for event in events)
    return text.getvalue().encode()
