"""Events with a beginning and an end, as classes on a grid of samples and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labelmend.errors import DataError

IGNORE = "ignore"
"""An event of this name says that nobody knows what is there, unless a class is called so."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that lasts from ``onset`` to ``offset``, in seconds from the first sample."""

    onset: float
    offset: float
    name: str


def rasterise(
    events: Sequence[Event], classes: Sequence[str], length: int, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Events as class indices on a grid: ``(length,)`` int64, and where they are known, bool.

    An event covers the samples from :func:`nearest_edge` of ``onset / spacing`` up to, not
    including, that of ``offset / spacing``: ``floor(x + 0.5)``, so that events of ``n`` samples
    become ``n`` samples also where they begin half-way between two. What no event covers is class
    0. Events may touch, not overlap; their order does not matter. An offset at most one sample
    beyond the end is cut.

    A trap: two touching events of one class become one, on a grid nobody can tell them apart.

    Raises:
        DataError: for an unknown class, an event that is empty, reversed or outside, an overlap.

    >>> index, known = rasterise([Event(0.2, 0.4, "b")], ["none", "b"], 5, 0.1)
    >>> index.tolist(), bool(known.all())
    ([0, 0, 1, 1, 0], True)
    """
    index = np.zeros(length, dtype=np.int64)
    known = np.ones(length, dtype=bool)
    number = {name: i for i, name in enumerate(classes)}
    last: tuple[int, Event] | None = None
    for event in sorted(events, key=lambda e: (e.onset, e.offset)):
        start, stop = span_of(event, length, spacing)
        if last is not None and start < last[0]:
            raise DataError(
                f"the events {_show(last[1])} and {_show(event)} overlap, but a position has one "
                "class; cut one of them"
            )
        if event.name not in number and event.name == IGNORE:
            known[start:stop] = False
        else:
            index[start:stop] = _class_of(event, number)
        last = (stop, event)
    return index, known


def nearest_edge(position: float) -> int:
    """The edge between samples that is nearest to a position in samples, of two the upper one.

    A millionth of a sample is taken for rounding: ``0.35 / 0.1`` is a little below 3.5. The trap:
    Python's own ``round`` goes to the even one of two, and events of one length become shorter or
    longer by where they lie.

    >>> nearest_edge(0.5), nearest_edge(1.5), nearest_edge(0.35 / 0.1), nearest_edge(3.4999)
    (1, 2, 4, 3)
    """
    return math.floor(round(position, 6) + 0.5)


def find_events(indices: np.ndarray, classes: Sequence[str], spacing: float) -> list[Event]:
    """The stretches of one class other than the background, in order; :func:`rasterise` undone.

    Args:
        indices: ``(length,)`` class indices.
        classes: a name per class index; class 0 is the background and makes no event.
        spacing: seconds between samples.

    >>> find_events(np.array([0, 1, 1, 0]), ["none", "a"], 0.5)
    [Event(onset=0.5, offset=1.5, name='a')]
    """
    if indices.size == 0:
        return []
    edges = np.flatnonzero(np.diff(indices)) + 1
    starts = np.concatenate([[0], edges])
    stops = np.concatenate([edges, [indices.size]])
    return [
        Event(seconds(a, spacing), seconds(b, spacing), classes[int(indices[a])])
        for a, b in zip(starts, stops, strict=True)
        if indices[a] != 0
    ]


def seconds(position: int, spacing: float) -> float:
    """When a sample begins, to twelve digits: what a person reads, and still that very sample.

    >>> 941 * 0.0005, seconds(941, 0.0005)
    (0.47050000000000003, 0.4705)
    """
    return float(f"{position * spacing:.12g}")


def span_of(event: Event, length: int, spacing: float) -> tuple[int, int]:
    """The first sample that an event covers, and the one after its last.

    Args:
        event: onset and offset in seconds.
        length: samples of the recording.
        spacing: seconds between samples.

    Raises:
        DataError: for an event that is empty, reversed or outside.

    >>> span_of(Event(0.2, 0.4, "b"), 5, 0.1)
    (2, 4)
    """
    if not 0 <= event.onset < event.offset < float("inf"):
        raise DataError(
            f"the event {_show(event)} does not begin at 0 or later and end after it began; "
            "correct its onset or offset"
        )
    start, stop = nearest_edge(event.onset / spacing), nearest_edge(event.offset / spacing)
    if stop > length + 1 or start >= length:
        raise DataError(
            f"the event {_show(event)} ends after the recording, which lasts "
            f"{length * spacing:g} s; correct it, or check that it belongs to this recording"
        )
    if start == stop:
        raise DataError(
            f"the event {_show(event)} lies between two samples, which are {spacing:g} s apart; "
            "lengthen or remove it"
        )
    return start, min(stop, length)


def _class_of(event: Event, number: Mapping[str, int]) -> int:
    if event.name not in number:
        raise DataError(
            f"the event {_show(event)} has no class of its name; classes are {', '.join(number)}"
        )
    return number[event.name]


def _show(event: Event) -> str:
    return f"{event.name!r} ({event.onset:g} to {event.offset:g} s)"
