"""Operations on labels: read from JSON, checked, and carried out."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from labelmend.errors import DataError
from labelmend.review.changes import find_change
from labelmend.review.moves import move
from labelmend.review.ops import (
    KINDS,
    Box,
    Brush,
    Comment,
    Drawn,
    Edit,
    Ellipse,
    Interval,
    Move,
    Op,
    Painted,
    Polygon,
    Take,
)

MOST_COORDINATES = 1_000_000

_OPS: TypeAdapter[Op] = TypeAdapter(Annotated[Op, Field(discriminator="kind")])


def parse_op(given: object, *, size: Sequence[int], classes: int, ignore: bool) -> Op:
    """An operation out of decoded JSON, after every check that needs no label.

    Args:
        given: what ``json.loads`` gave.
        size: the label's, one to three axes; it says which kinds and which slices there are.
        classes: how many; class indices are below.
        ignore: whether a position may be unknown, class -1.

    A trap: ``slice`` is needed for whatever is drawn in a volume, and refused elsewhere.

    Raises:
        DataError: in one line, for anything that is not exactly an operation on such a label.

    >>> parse_op({"kind": "verdict", "value": "accepted"}, size=(4, 4), classes=2, ignore=False)
    Verdict(kind='verdict', value='accepted')
    """
    try:
        op = _OPS.validate_json(json.dumps(given))
    except ValidationError as error:
        raise _refusal(_reason(error, given)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(f"it is not JSON ({type(error).__name__})") from None
    _check_place(op, tuple(size))
    _check_class(op, classes, ignore)
    _check_lengths(op, max(size))
    _check_text(op)
    return op


def to_text(op: Op) -> str:
    """The JSON of an operation, the same for equal operations; :func:`parse_op` undone.

    >>> to_text(Take(kind="take", what="original"))
    '{"kind":"take","what":"original"}'
    """
    return op.model_dump_json(by_alias=True, exclude_none=True)


def apply(
    label: np.ndarray, op: Edit, *, ignore: bool, taken: np.ndarray | None = None
) -> np.ndarray:
    """The label after an edit: a new int16 array ``(*space)``; the given one stays as it is.

    A drawing gives its class to the positions of its shape, by the rules of
    :mod:`labelmend.labels.shapes`; what lies outside is cut. A move is
    :func:`labelmend.review.moves.move`. ``taken`` is what a ``take`` takes.

    >>> label = np.zeros(4, np.int16)
    >>> op = Interval.model_validate({"kind": "interval", "class": 1, "start": 1, "stop": 9})
    >>> apply(label, op, ignore=False)
    array([0, 1, 1, 1], dtype=int16)
    """
    new = label.copy()
    region, values = change_of(label, op, ignore=ignore, taken=taken)
    new[region] = values
    return new


def change_of(
    label: np.ndarray, op: Edit, *, ignore: bool, taken: np.ndarray | None = None
) -> tuple[tuple[slice, ...], np.ndarray]:
    """A region in which alone an edit changes the label, and the values there after it."""
    whole = tuple(slice(0, n) for n in label.shape)
    if isinstance(op, Take):
        if taken is None or taken.shape != label.shape:
            raise DataError(
                f"taking the label '{op.what}' needs one of size {label.shape}, not "
                f"{None if taken is None else taken.shape}; reload the page and try again"
            )
        return whole, taken.astype(np.int16)
    if isinstance(op, Move):
        axis = None if op.slice is None else op.slice.axis
        outside = -1 if ignore else 0
        moved = move(label, op.displacement, op.angle, axis=axis, centre=op.centre, outside=outside)
        return whole, moved
    if isinstance(op, Interval):
        start, stop = (min(max(p, 0), label.shape[0]) for p in (op.start, op.stop))
        return (slice(start, stop),), np.full(stop - start, op.class_index, np.int16)
    return find_change(label, op)


def _refusal(reason: str) -> DataError:
    return DataError(f"this edit cannot be used: {reason}; nothing was changed")


def _reason(error: ValidationError, given: object) -> str:
    first: Any = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = [part for part in first["loc"] if part not in KINDS]
    if not isinstance(given, dict):
        return "an edit is a JSON object with a 'kind'"
    if not place and first["type"].startswith("union_tag"):
        return f"its kind must be one of {', '.join(KINDS)}"
    where = ", ".join(str(part)[:40] for part in place)
    return f"at {where}: {first['msg']}" if where else str(first["msg"])


def _check_place(op: Op, size: tuple[int, ...]) -> None:
    dims = len(size)
    if isinstance(op, Drawn) and dims == 1:
        raise _refusal(f"a {op.kind} is drawn in pictures and volumes; mark an interval here")
    if isinstance(op, Interval):
        if dims != 1:
            raise _refusal("an interval is marked in recordings; draw a shape here")
        if op.start >= op.stop:
            raise _refusal(f"an interval starts before it stops, not from {op.start} to {op.stop}")
    if isinstance(op, Move):
        if len(op.displacement) != dims:
            raise _refusal(f"a displacement here has {dims} numbers, not {len(op.displacement)}")
        if op.angle and dims == 1:
            raise _refusal("a recording's label cannot be turned; leave the angle out")
    if isinstance(op, Drawn | Move):
        _check_slice(op, size)


def _check_slice(op: Drawn | Move, size: tuple[int, ...]) -> None:
    place = op.slice
    if place is None:
        if len(size) == 3 and (not isinstance(op, Move) or op.angle):
            raise _refusal("in a volume it needs a slice, with axis and index")
        return
    if len(size) != 3:
        raise _refusal("only a volume has slices; leave the slice out")
    if place.index >= size[place.axis]:
        raise _refusal(
            f"axis {place.axis} has the slices 0 to {size[place.axis] - 1}, not {place.index}"
        )


def _check_class(op: Op, classes: int, ignore: bool) -> None:
    if not isinstance(op, Painted) or 0 <= op.class_index < classes:
        return
    if op.class_index != -1:
        raise _refusal(f"class {op.class_index} does not exist; classes are 0 to {classes - 1}")
    if not ignore:
        raise _refusal("this data set has no value for unknown positions; choose a class")


def _check_lengths(op: Op, longest: int) -> None:
    lengths: tuple[float, ...] = ()
    if isinstance(op, Brush):
        lengths = (op.radius,)
    if isinstance(op, Ellipse):
        lengths = op.radii
    if isinstance(op, Box):
        lengths = (op.sides[0] / 2, op.sides[1] / 2)
    if any(length > longest for length in lengths):
        raise _refusal(
            f"it reaches {max(lengths):g} positions, but the longest side is {longest}; "
            "draw it smaller"
        )
    if isinstance(op, Polygon) and sum(len(ring) for ring in op.rings) * 2 > MOST_COORDINATES:
        raise _refusal(f"it has more than {MOST_COORDINATES} coordinates; draw it coarser")


def _check_text(op: Op) -> None:
    if not isinstance(op, Comment):
        return
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in op.text):
        raise _refusal("a comment holds letters and line ends, no control characters")
