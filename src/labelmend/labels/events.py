"""Events with a beginning and an end, as classes on a grid of samples and back."""

from __future__ import annotations

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

    An event covers the samples from ``round(onset / spacing)`` up to, not including,
    ``round(offset / spacing)``. What no event covers is class 0. Events may touch, not overlap;
    their order does not matter. An offset at most one sample beyond the end is cut.

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
        start, stop = _place(event, length, spacing)
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
        Event(float(a * spacing), float(b * spacing), classes[int(indices[a])])
        for a, b in zip(starts, stops, strict=True)
        if indices[a] != 0
    ]


def _place(event: Event, length: int, spacing: float) -> tuple[int, int]:
    if not 0 <= event.onset < event.offset < float("inf"):
        raise DataError(
            f"the event {_show(event)} does not begin at 0 or later and end after it began; "
            "correct its onset or offset"
        )
    start, stop = round(event.onset / spacing), round(event.offset / spacing)
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
