"""What a person may do to a label, as it travels in JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_POINTS = 100_000
MOST_RINGS = 10_000
LONGEST_COMMENT = 4_000
FARTHEST = 1e7
"""Nothing is drawn or moved farther than this many positions."""

Number = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
Length = Annotated[float, Field(gt=0, le=FARTHEST)]
Angle = Annotated[float, Field(ge=-100, le=100)]
Whole = Annotated[int, Field(ge=-(10**12), le=10**12)]
Point = tuple[Number, Number]
Ring = Annotated[tuple[Point, ...], Field(min_length=3, max_length=MOST_POINTS)]


class Strict(BaseModel):
    """Keys and values exactly as declared, finite numbers, never changed."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Slice(Strict):
    """The slice of a volume that something is drawn on: its axis and its place along it."""

    axis: Annotated[int, Field(ge=0, le=2)]
    index: Annotated[int, Field(ge=0, le=10**9)]


class Painted(Strict):
    """Whatever gives a class, -1 for unknown, to some positions."""

    class_index: Annotated[int, Field(alias="class", ge=-1, le=10**6)]


class DrawnShape(Painted):
    """Whatever is drawn on a picture or on a slice of a volume, in (row, column)."""

    slice: Slice | None = None


class Brush(DrawnShape):
    """A stroke with round ends, ``radius`` to either side of its points; one point is a dot."""

    kind: Literal["brush"]
    radius: Length
    points: Annotated[tuple[Point, ...], Field(min_length=1, max_length=MOST_POINTS)]


class Polygon(DrawnShape):
    """What rings surround by the even-odd rule: a ring within a ring is a hole."""

    kind: Literal["polygon"]
    rings: Annotated[tuple[Ring, ...], Field(min_length=1, max_length=MOST_RINGS)]


class Ellipse(DrawnShape):
    """An ellipse by centre, radii and angle, as :func:`labelmend.labels.shapes.ellipse`."""

    kind: Literal["ellipse"]
    centre: Point
    radii: tuple[Length, Length]
    angle: Angle = 0.0


class Box(DrawnShape):
    """A rectangle by centre, whole sides and angle, as :func:`labelmend.labels.shapes.box`."""

    kind: Literal["box"]
    centre: Point
    sides: tuple[Length, Length]
    angle: Angle = 0.0


class Interval(Painted):
    """The positions ``start <= p < stop`` of a recording."""

    kind: Literal["interval"]
    start: Whole
    stop: Whole


class Move(Strict):
    """The whole label turned, then displaced, as :func:`labelmend.review.moves.move`.

    ``centre`` is what it is turned about, in (row, column) of the picture or of the slice.
    """

    kind: Literal["move"]
    displacement: Annotated[tuple[Number, ...], Field(min_length=1, max_length=3)]
    angle: Angle = 0.0
    centre: Point | None = None
    slice: Slice | None = None


class Take(Strict):
    """A whole label in place of the old one: predicted, moved by training, or as in the file."""

    kind: Literal["take"]
    what: Literal["prediction", "moved", "original"]


class Undo(Strict):
    """The last edit that is not undone yet, undone."""

    kind: Literal["undo"]


class Redo(Strict):
    """The edit that was undone last, done again."""

    kind: Literal["redo"]


class Verdict(Strict):
    """What a person thinks of the label as it is now."""

    kind: Literal["verdict"]
    value: Literal["open", "accepted", "rejected"]


class SetQuality(Strict):
    """Whether later trainings may trust the label."""

    kind: Literal["quality"]
    value: Literal["strong", "weak"]


class Comment(Strict):
    """What a person writes about the label; it takes the place of the last comment."""

    kind: Literal["comment"]
    text: Annotated[str, Field(max_length=LONGEST_COMMENT)]


Drawn = Brush | Polygon | Ellipse | Box
Edit = Brush | Polygon | Ellipse | Box | Interval | Move | Take
Op = Edit | Undo | Redo | Verdict | SetQuality | Comment

KINDS = (
    *("brush", "polygon", "ellipse", "box", "interval", "move", "take"),
    *("undo", "redo", "verdict", "quality", "comment"),
)
