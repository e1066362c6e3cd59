"""What a review answers: plain values and bytes, out of what is shown and what people did."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from labelmend.errors import DataError, ShapeError
from labelmend.review.cases import Cases, Which, contrast_of
from labelmend.review.desk import Desk, State
from labelmend.review.drawing import (
    MOST_COLUMNS,
    as_bytes,
    as_grey,
    as_pixels,
    check_part,
    colour,
    draw_spectrogram,
    encode_png,
    envelope,
)
from labelmend.review.records import Stale, Stored, Summary
from labelmend.review.repaired import can_ignore
from labelmend.review.shelf import Shelf

Shown = Literal["current", "original", "prediction", "moved"]

SMALL_PICTURES = 2**26
"""Bytes of small pictures that are kept."""
LATEST = 100
"""So many of the last things done to a case are told."""
DECISIONS = ("verdict", "quality", "comment")
"""What may be done to continuous labels."""

_ABOUT = ("label", "image", "annotator", "group", "split", "score", "weight", "displacement")
_FOUND = ("confidence", "disagreement", "reason", "like")
_LONG = ("points", "rings")


@dataclass(frozen=True, slots=True)
class Plane:
    """A label to be shown flat.

    Attributes:
        positions: uint8, ``(rows, columns)`` or ``(length,)``: class indices, of continuous labels
            grey levels from 0 to 254; 255 is unknown.
        version: that of the case, for the label as it is now; else None.
        limits: the values that became 0 and 254, of continuous labels.
    """

    positions: np.ndarray
    version: int | None = None
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an event: whether it was kept, as which version, and the case now."""

    kept: bool
    version: int
    case: dict[str, Any]


class Answers:
    """Everything a page asks for, for any number of threads.

    ``order`` stands for the run and its labels in this order: what the numbers of cases mean.

    Args:
        cases: what can be shown.
        desk: what people did.
    """

    def __init__(self, cases: Cases, desk: Desk) -> None:
        self.cases, self.desk = cases, desk
        named = [str(cases.predictor.run.path), *(sample.label for sample in cases.samples)]
        self.order = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]
        self._pictures: Shelf[bytes] = Shelf(SMALL_PICTURES, len, threading.RLock())

    def session(self) -> dict[str, Any]:
        """What the page is about."""
        predictor, spec = self.cases.predictor, self.cases.spec
        return {
            "run": str(predictor.run.path),
            "data": str(predictor.run.data.root),
            "task": spec.task,
            "dims": spec.dims,
            "classes": [{"name": n, "colour": colour(i)} for i, n in enumerate(spec.classes)],
            "ignore": can_ignore(spec),
            "step": predictor.step,
            "model": predictor.model,
            "total": len(self.cases),
        }

    def overview(self) -> dict[str, Any]:
        """All cases in order, which order that is, and the number of the last event."""
        known = self.desk.summaries()
        last = max((summary.number for summary in known.values()), default=0)
        none = Summary()
        rows = [
            self._row(number, known.get(sample.label, none))
            for number, sample in enumerate(self.cases.samples)
        ]
        return {"cases": rows, "order": self.order, "event": last}

    def entry(self, number: int) -> dict[str, Any]:
        """One case with all that is known of it.

        Raises:
            DataError: when its files cannot be read or have changed.
            StorageError: when what people did cannot be read.
        """
        return self._entry(number, self.desk.state(self.cases.samples[number].label))

    def _entry(self, number: int, state: State) -> dict[str, Any]:
        about = self.cases.about(number)
        told = self.desk.events(state.label)[: state.version][-LATEST:]
        return {
            **self._row(number, state),
            "size": [*about.size],
            "spacing": None if about.spacing is None else [*about.spacing],
            "channels": about.channels,
            "display": [*about.display],
            "can_undo": state.can_undo,
            "can_redo": state.can_redo,
            "history": [_told(stored) for stored in told],
        }

    def _row(self, number: int, now: Summary | State) -> dict[str, Any]:
        ranked = self.cases.order[number]
        row = {name: getattr(ranked, name) for name in (*_ABOUT, *_FOUND)}
        return {
            "number": number,
            **row,
            "displacement": None if ranked.displacement is None else [*ranked.displacement],
            "verdict": now.verdict,
            "quality": now.quality or ranked.quality,
            "edited": now.edited,
            "version": now.version,
            "comment": now.comment,
        }

    def changed(self, after: int) -> dict[str, Any]:
        """The number of the last event, and which cases, in which order, changed after another."""
        last, labels = self.desk.since(after)
        numbers = self.cases.numbers
        changed = sorted(numbers[one] for one in labels if one in numbers)
        return {"event": last, "order": self.order, "cases": changed}

    def do(self, number: int, version: int, event: object, person: str) -> Outcome:
        """Do what a person wants to a case that is at ``version``; returns once it is on disk.

        Args:
            number: of the case.
            version: that of the case as the person saw it.
            event: decoded JSON, with an ``id`` and an ``op``.
            person: who.

        Raises:
            ShapeError: for an event that is none, or cannot be done to such a label.
            DataError: when files cannot be read or have changed.
            StorageError: when the disk refuses; the same event may be sent again.
        """
        name = self.cases.samples[number].label
        if not isinstance(event, dict) or set(event) != {"id", "op"}:
            raise ShapeError("an event is a JSON object with an id and an op, and nothing else")
        self._check_kind(event["op"])
        if not isinstance(event["id"], str):
            raise ShapeError("the id of an event is a text, such as a UUID")
        self.desk.state(name)  # files that cannot be read are no mistake of who asks
        taken = self._taken(number, event["op"])
        try:
            done = self.desk.do(
                name, version, event["id"], event["op"], person, blobs=lambda what: taken[what]
            )
        except DataError as error:
            if type(error) is not DataError:
                raise
            raise ShapeError(str(error)) from error
        if isinstance(done, Stale):
            return Outcome(False, done.version, self.entry(number))
        return Outcome(True, done.version, self._entry(number, done.state))

    def _check_kind(self, op: object) -> None:
        kind = op.get("kind") if isinstance(op, dict) else None
        if self.cases.spec.task == "regression" and kind not in DECISIONS:
            raise ShapeError(
                "labels of continuous values are not drawn here: accept, reject, rate or comment "
                "on them; labelmend fix puts them in place"
            )

    def _taken(self, number: int, op: object) -> dict[str, np.ndarray]:
        """The label that an op takes, made before anything is locked."""
        if not isinstance(op, dict) or op.get("kind") != "take":
            return {}
        known: dict[str, Which] = {"prediction": "prediction", "moved": "moved"}
        what = op.get("what")
        which = known.get(what) if isinstance(what, str) else None
        return {} if which is None else {which: self.cases.label(number, which)}

    # ----------------------------------------------------------------------------- pictures

    def label(self, number: int, which: str, axis: int | None, index: int | None) -> Plane:
        """A label, or a slice of it.

        Raises:
            ShapeError: for a label or a slice that there is not.
            DataError, NonFiniteError, SettingsError: as :meth:`Cases.label`.
        """
        if which not in get_args(Shown):
            raise ShapeError(f"which is one of {', '.join(get_args(Shown))}")
        continuous = self.cases.spec.task == "regression"
        if which == "current" and not continuous:
            state = self.desk.state(self.cases.samples[number].label)
            return Plane(as_bytes(self.cases.plane(state.indices, axis, index)), state.version)
        named: dict[str, Which] = {name: name for name in get_args(Which)}
        found = self.cases.plane(
            self.cases.label(number, named.get(which, "original")), axis, index
        )
        if not continuous:
            return Plane(as_bytes(found))
        limits = contrast_of(self.cases.label(number))
        version = None
        if which == "current":
            version = self.desk.state(self.cases.samples[number].label).version
        return Plane(as_grey(found[0], limits), version, limits)

    def image(
        self,
        number: int,
        axis: int | None,
        index: int | None,
        low: float | None,
        high: float | None,
        channel: int | None,
    ) -> bytes:
        """The image of a case, or a slice of it, as a PNG file.

        Raises:
            ShapeError: for a recording, or a slice, channel or contrast that cannot be.
            DataError: when the file cannot be read or has changed.
        """
        if self.cases.spec.dims == 1:
            raise ShapeError("a recording is no picture; ask for its wave or spectrogram")
        about = self.cases.about(number)
        first = about.display[0] if low is None else low
        last = about.display[1] if high is None else high
        if not 0 < last - first < np.inf:
            raise ShapeError(f"low wants to be below high, and {first:g} is not below {last:g}")
        _check_channel(channel, about.channels)
        plane = self.cases.plane(self.cases.image(number).array, axis, index)
        return encode_png(as_pixels(plane, (first, last), channel))

    def thumbnail(self, number: int) -> bytes:
        """A small picture of a case as it is now, as a PNG file.

        Raises:
            DataError, NonFiniteError: as :meth:`Cases.thumbnail`.
        """
        name = self.cases.samples[number].label
        if self.cases.spec.task == "regression":
            return self._pictures.take((name,), lambda: self.cases.thumbnail(number))
        state = self.desk.state(name)
        key = (name, state.sha256)
        return self._pictures.take(key, lambda: self.cases.thumbnail(number, state.indices))

    def wave(
        self, number: int, start: int | None, stop: int | None, columns: int
    ) -> dict[str, Any]:
        """Least and largest values of a part of a recording, per channel and column.

        Raises:
            ShapeError: for anything but a recording, or a part or number of columns that cannot be.
            DataError: when the file cannot be read or has changed.
        """
        signal = self._signal(number)
        first, last = _part(signal, start, stop)
        low, high = envelope(signal, first, last, min(columns, MOST_COLUMNS))
        return {"low": low.tolist(), "high": high.tolist(), "start": first, "stop": last}

    def spectrogram(
        self, number: int, start: int | None, stop: int | None, channel: int | None
    ) -> bytes:
        """The power over time and frequency of a part of a recording, as a PNG file.

        Raises:
            ShapeError: for anything but a recording whose sampling rate is known, or a part or
                channel that cannot be.
            DataError: when the file cannot be read or has changed.
        """
        signal, spacing = self._signal(number), self.cases.about(number).spacing
        if spacing is None:
            raise ShapeError(
                "nobody says how far apart the positions are, so there is no frequency"
            )
        first, last = _part(signal, start, stop)
        _check_channel(channel, len(signal))
        part = signal[0 if channel is None else channel, first:last]
        return encode_png(draw_spectrogram(part, spacing[0]))

    def _signal(self, number: int) -> np.ndarray:
        if self.cases.spec.dims != 1:
            raise ShapeError("only recordings have a wave; ask for the image")
        return self.cases.image(number).array


def _told(stored: Stored) -> dict[str, Any]:
    """An event as a person may want to read it, without coordinates, which are many."""
    op = {key: value for key, value in json.loads(stored.event.op).items() if key not in _LONG}
    event = stored.event
    return {
        "number": stored.number,
        "kind": event.kind,
        "person": event.person,
        "time": event.time,
        "op": op,
    }


def _check_channel(channel: int | None, channels: int) -> None:
    if channel is not None and not 0 <= channel < channels:
        raise ShapeError(f"there are channels 0 to {channels - 1}, not {channel}")


def _part(signal: np.ndarray, start: int | None, stop: int | None) -> tuple[int, int]:
    first = 0 if start is None else start
    last = signal.shape[-1] if stop is None else stop
    check_part(signal.shape[-1], first, last)
    return first, last
