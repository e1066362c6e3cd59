"""Edits: what is refused and in which words, and what the others do to a label."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from labelmend.errors import DataError
from labelmend.labels import shapes
from labelmend.review.changes import tighten
from labelmend.review.edits import apply, change_of, parse_op, to_text
from labelmend.review.moves import move

from . import oracle_edits as oracle
from .made_edits import CLASSES, SIZES, edit_kinds, random_label, random_op

FLAT, DEEP, LINE = (20, 30), (6, 20, 30), (50,)
BRUSH = {"kind": "brush", "class": 1, "radius": 2, "points": [[3, 4], [5, 6]]}
POLYGON = {"kind": "polygon", "class": 1, "rings": [[[1, 1], [1, 5], [5, 5]]]}
ELLIPSE = {"kind": "ellipse", "class": 1, "centre": [5, 5], "radii": [2, 3]}
BOX = {"kind": "box", "class": 1, "centre": [5, 5], "sides": [2, 3], "angle": 0.5}
INTERVAL = {"kind": "interval", "class": 1, "start": 3, "stop": 8}
MOVE = {"kind": "move", "displacement": [1, 0]}
COMMENT = {"kind": "comment", "text": "late"}
SLICE = {"axis": 0, "index": 2}


def parse(given, size=FLAT, *, ignore=True, classes=CLASSES):
    return parse_op(given, size=size, classes=classes, ignore=ignore)


NESTED: list = []
for _ in range(100_000):
    NESTED = [NESTED]

REFUSED = {
    "no object": (FLAT, [1], "JSON object with a 'kind'"),
    "nothing": (FLAT, None, "JSON object with a 'kind'"),
    "no kind": (FLAT, {"class": 1}, "its kind must be one of brush, polygon"),
    "unknown kind": (FLAT, {"kind": "brsh"}, "its kind must be one of brush, polygon"),
    "kind of another type": (FLAT, {"kind": ["brush"]}, "its kind must be one of"),
    "unknown key": (FLAT, BRUSH | {"colour": 3}, "at colour: Extra inputs"),
    "python's name of a key": (FLAT, {**BRUSH, "class_index": 1}, "at class_index: Extra inputs"),
    "missing key": (FLAT, {"kind": "brush", "class": 1, "radius": 2}, "at points: Field required"),
    "text for a number": (FLAT, BRUSH | {"radius": "2"}, "at radius: Input should be a valid"),
    "truth for a number": (FLAT, BRUSH | {"radius": True}, "at radius: Input should be a valid"),
    "truth for a class": (FLAT, BRUSH | {"class": True}, "at class: Input should be a valid int"),
    "fraction of a class": (FLAT, BRUSH | {"class": 1.5}, "at class: Input should be a valid int"),
    "nan": (FLAT, BRUSH | {"radius": math.nan}, "at radius: Input should be a finite number"),
    "inf": (FLAT, MOVE | {"displacement": [math.inf, 0]}, "at displacement, 0: Input should be"),
    "huge number": (FLAT, BRUSH | {"points": [[0, 10**400]]}, "at points, 0, 1: Input should be"),
    "far away": (FLAT, BRUSH | {"points": [[0, 1e8]]}, "less than or equal to 10000000"),
    "three coordinates": (FLAT, BRUSH | {"points": [[1, 2, 3]]}, "at points, 0: Tuple should"),
    "no points": (FLAT, BRUSH | {"points": []}, "at points: Tuple should have at least 1"),
    "two corners": (FLAT, POLYGON | {"rings": [[[1, 1], [2, 2]]]}, "at rings, 0: Tuple should"),
    "no rings": (FLAT, POLYGON | {"rings": []}, "at rings: Tuple should have at least 1"),
    "many points": (FLAT, BRUSH | {"points": [[1, 1]] * 100_001}, "at most 100000 items"),
    "many rings": (FLAT, POLYGON | {"rings": [[[1, 1]] * 3] * 10_001}, "at most 10000 items"),
    "many coordinates": (
        FLAT,
        POLYGON | {"rings": [[[1, 1]] * 100_000] * 6},
        "more than 1000000 coordinates",
    ),
    "radius 0": (FLAT, BRUSH | {"radius": 0}, "greater than 0"),
    "negative side": (FLAT, BOX | {"sides": [1, -1]}, "at sides, 1: Input should be greater than"),
    "radius beyond the image": (FLAT, BRUSH | {"radius": 30.5}, "reaches 30.5 positions, but the"),
    "radii beyond the image": (FLAT, ELLIPSE | {"radii": [1, 31]}, "reaches 31 positions"),
    "sides beyond the image": (FLAT, BOX | {"sides": [1, 62]}, "reaches 31 positions"),
    "angle beyond use": (FLAT, BOX | {"angle": 1e9}, "at angle: Input should be less than"),
    "class too high": (FLAT, BRUSH | {"class": 3}, "class 3 does not exist; classes are 0 to 2"),
    "class below unknown": (FLAT, BRUSH | {"class": -2}, "at class: Input should be greater"),
    "slice of a picture": (FLAT, BRUSH | {"slice": SLICE}, "only a volume has slices"),
    "slice of a turned picture": (FLAT, MOVE | {"slice": SLICE}, "only a volume has slices"),
    "no slice of a volume": (DEEP, BRUSH, "in a volume it needs a slice"),
    "no slice to turn about": (
        DEEP,
        {"kind": "move", "displacement": [0, 0, 0], "angle": 1},
        "in a volume it needs a slice",
    ),
    "slice outside": (DEEP, BRUSH | {"slice": {"axis": 0, "index": 6}}, "slices 0 to 5, not 6"),
    "slice before": (DEEP, BRUSH | {"slice": {"axis": 0, "index": -1}}, "at slice, index: Input"),
    "fourth axis": (DEEP, BRUSH | {"slice": {"axis": 3, "index": 0}}, "at slice, axis: Input"),
    "brush on a recording": (LINE, BRUSH, "a brush is drawn in pictures and volumes"),
    "interval in a picture": (FLAT, INTERVAL, "an interval is marked in recordings"),
    "interval with a slice": (LINE, INTERVAL | {"slice": SLICE}, "at slice: Extra inputs"),
    "interval backwards": (LINE, INTERVAL | {"stop": 3}, "starts before it stops, not from 3 to 3"),
    "fraction of a position": (
        LINE,
        INTERVAL | {"start": 0.5},
        "at start: Input should be a valid",
    ),
    "displacement too short": (DEEP, MOVE, "displacement here has 3 numbers, not 2"),
    "displacement too long": (LINE, MOVE, "displacement here has 1 numbers, not 2"),
    "a recording turned": (
        LINE,
        {"kind": "move", "displacement": [0], "angle": 1},
        "cannot be turned",
    ),
    "takes something else": (FLAT, {"kind": "take", "what": "truth"}, "at what: Input should be"),
    "a verdict too many": (FLAT, {"kind": "verdict", "value": "maybe"}, "at value: Input should"),
    "quality unheard of": (FLAT, {"kind": "quality", "value": "good"}, "at value: Input should be"),
    "undo with a number": (FLAT, {"kind": "undo", "steps": 2}, "at steps: Extra inputs"),
    "long comment": (FLAT, COMMENT | {"text": "a" * 4001}, "at most 4000 characters"),
    "control character": (FLAT, COMMENT | {"text": "a\0b"}, "no control characters"),
    "escape character": (FLAT, COMMENT | {"text": "\x1b[31m"}, "no control characters"),
    "half a character": (FLAT, COMMENT | {"text": "\ud800"}, "Invalid JSON"),
    "bytes": (FLAT, {"kind": "comment", "text": b"a"}, "it is not JSON"),
    "nested without end": (FLAT, NESTED, "it is not JSON"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_is_no_edit_is_refused_in_one_line(case):
    size, given, words = REFUSED[case]
    with pytest.raises(DataError) as caught:
        parse(given, size)
    text = str(caught.value)
    assert words in text
    assert "\n" not in text
    assert len(text) < 300


def test_unknown_positions_need_a_value_for_them():
    unknown = BRUSH | {"class": -1}
    assert parse(unknown).class_index == -1
    with pytest.raises(DataError, match="no value for unknown positions"):
        parse(unknown, ignore=False)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_edit_comes_back_from_its_text(size):
    rng = np.random.default_rng(1)
    for _ in range(200):
        op = parse(random_op(rng, size, ignore=True), size)
        text = to_text(op)
        again = parse(json.loads(text), size)
        assert again == op
        assert to_text(again) == text


def test_one_edit_has_one_text():
    same = ({"kind": "take", "what": "moved"}, {"what": "moved", "kind": "take"})
    assert len({to_text(parse(op)) for op in same}) == 1
    assert to_text(parse(ELLIPSE)) == to_text(parse(ELLIPSE | {"angle": 0.0, "centre": [5.0, 5]}))
    assert to_text(parse(BRUSH)) != to_text(parse(BRUSH | {"points": [[3, 4], [5, 6.0000001]]}))


@pytest.mark.parametrize("text", ["a\n\tb", "\u00a0\u3000", "👩\u200d🔬", "\u202eabc"])
def test_comments_hold_any_letters(text):
    assert parse(COMMENT | {"text": text}).text == text


# ---------------------------------------------------------------------- what edits do


@pytest.mark.parametrize("ignore", [True, False], ids=["unknown", "known"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_edits_do_what_a_loop_over_positions_does(size, ignore):
    rng = np.random.default_rng(2)
    for kind in edit_kinds(size):
        for _ in range(12):
            given = random_op(rng, size, ignore=ignore, kinds=[kind])
            label = random_label(rng, size, ignore=ignore)
            taken = random_label(rng, size, ignore=ignore)
            before = label.copy()
            new = apply(label, parse(given, size, ignore=ignore), ignore=ignore, taken=taken)
            wanted = oracle.apply(label, given, ignore=ignore, taken=taken)
            assert new.dtype == np.int16
            np.testing.assert_array_equal(new, wanted, err_msg=str(given))
            np.testing.assert_array_equal(label, before)
            assert not np.shares_memory(new, label)
            assert not np.shares_memory(new, taken)


@pytest.mark.parametrize("name", ["ellipse", "box"])
def test_a_window_of_a_picture_gives_the_same_positions_as_all_of_it(name):
    rng = np.random.default_rng(3)
    draw, key = getattr(shapes, name), {"ellipse": "radii", "box": "sides"}[name]
    for _ in range(300):
        whole = rng.random() < 0.5  # borders through centres, where rounding would show
        centre = rng.integers(-20, 120, 2) / 2 if whole else rng.uniform(-10, 60, 2)
        lengths = rng.integers(1, 40, 2) / 2 if whole else rng.uniform(0.1, 20, 2)
        angle = float(rng.choice([0, math.pi / 2, 0.7, rng.uniform(-9, 9)]))
        given = {"kind": name, "class": 1, "centre": centre.tolist(), key: lengths.tolist()}
        label = apply(
            np.zeros((40, 50), np.int16), parse(given | {"angle": angle}, (40, 50)), ignore=False
        )
        np.testing.assert_array_equal(label == 1, draw((40, 50), centre, lengths, angle))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_drawing_in_a_volume_changes_its_slice_only(axis):
    label = np.zeros((8, 9, 10), np.int16)
    given = BRUSH | {"slice": {"axis": axis, "index": 3}}
    new = np.moveaxis(apply(label, parse(given, label.shape), ignore=False), axis, 0)
    plane = new[3]
    flat = apply(np.zeros_like(plane), parse(BRUSH, plane.shape), ignore=False)
    np.testing.assert_array_equal(plane, flat)
    assert not np.delete(new, 3, axis=0).any()


@pytest.mark.parametrize(
    "given",
    [
        BRUSH | {"points": [[-900, 4]]},
        POLYGON | {"rings": [[[-9, -9], [-9, -5], [-5, -5]]]},
        ELLIPSE | {"centre": [1e7, -1e7]},
        BOX | {"centre": [5, 900]},
    ],
    ids=lambda given: given["kind"],
)
def test_a_shape_outside_changes_nothing(given):
    label = random_label(np.random.default_rng(0), FLAT, ignore=False)
    region, values = change_of(label, parse(given), ignore=False)
    assert values.size == 0
    assert label[region].size == 0
    np.testing.assert_array_equal(apply(label, parse(given), ignore=False), label)


def test_a_label_of_another_size_is_not_taken():
    op = parse({"kind": "take", "what": "prediction"})
    for taken in (None, np.zeros((30, 20), np.int16)):
        with pytest.raises(DataError, match="needs one of size"):
            apply(np.zeros(FLAT, np.int16), op, ignore=False, taken=taken)


# ---------------------------------------------------------------------- moves


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_move_and_whole_turns_change_nothing(size):
    label = random_label(np.random.default_rng(4), size, ignore=True)
    still = (0.0,) * len(size)
    np.testing.assert_array_equal(move(label, still, outside=-1), label)
    if len(size) > 1:
        for turn in (0.0, -0.0, 2 * math.pi, -8 * math.pi):
            axis = 1 if len(size) == 3 else None
            np.testing.assert_array_equal(move(label, still, turn, axis=axis, outside=-1), label)


def test_a_whole_shift_is_there_and_back_where_it_stayed_inside():
    label = random_label(np.random.default_rng(5), (12, 13, 7), ignore=False)
    there = move(label, (2, -3, 1), outside=-1)
    np.testing.assert_array_equal(there[2:, :-3, 1:], label[:-2, 3:, :-1])
    assert (there[:2] == -1).all()
    assert (there[:, -3:] == -1).all()
    assert (there[:, :, :1] == -1).all()
    back = move(there, (-2, 3, -1), outside=-1)
    np.testing.assert_array_equal(back[:-2, 3:, :-1], label[:-2, 3:, :-1])


def test_a_quarter_turn_goes_from_the_rows_towards_the_columns():
    label = np.zeros((7, 7), np.int16)
    label[1:6, 3] = 1  # a line along the rows about (3, 3)
    label[5, 3] = 2
    turned = move(label, (0, 0), math.pi / 2)
    wanted = np.zeros((7, 7), np.int16)
    wanted[3, 1:6] = 1
    wanted[3, 5] = 2
    np.testing.assert_array_equal(turned, wanted)


def test_a_drawn_ellipse_turned_is_the_ellipse_drawn_turned():
    size, radii = (61, 61), (20, 9)
    straight = shapes.ellipse(size, (30, 30), radii).astype(np.int16)
    for angle in np.linspace(-3, 3, 13):
        wanted = shapes.ellipse(size, (30, 30), radii, float(angle))
        got = move(straight, (0, 0), float(angle)) > 0
        assert 2 * (got & wanted).sum() / (got.sum() + wanted.sum()) > 0.96


@pytest.mark.parametrize("size", [(2**10 + 1,), (5, 7)], ids=str)
def test_half_a_position_is_rounded_downwards_everywhere(size):
    label = np.arange(math.prod(size), dtype=np.int16).reshape(size)
    for displacement, whole in ((0.5, 0), (-0.5, -1), (1.5, 1), (0.5 - 1e-12, 0), (0.5 + 1e-12, 0)):
        moved = move(label, (displacement,) * len(size), outside=-1)
        np.testing.assert_array_equal(moved, move(label, (whole,) * len(size), outside=-1))


def test_a_volume_turns_about_an_axis_like_each_of_its_slices():
    rng = np.random.default_rng(6)
    one = random_label(rng, (9, 11), ignore=False)
    for axis in range(3):
        volume = np.stack([one] * 4, axis=axis)
        turned = move(volume, np.insert([1.0, 0.4], axis, 0.0), 0.8, axis=axis, outside=-1)
        for place in np.moveaxis(turned, axis, 0):
            np.testing.assert_array_equal(place, move(one, (1.0, 0.4), 0.8, outside=-1))


def test_a_volume_turns_about_the_centre_that_is_named():
    """The square of one slice stays where it is, that of the other goes around it."""
    volume = np.zeros((2, 20, 20), np.int16)
    volume[0, 4:7, 3:6] = volume[1, 4:7, 13:16] = 1
    op = MOVE | {"displacement": [0, 0, 0], "angle": -math.pi / 2, "slice": SLICE | {"index": 0}}
    about = parse(op | {"centre": [5, 4]}, volume.shape)
    turned = apply(volume, about, ignore=False)
    np.testing.assert_array_equal(turned[0], volume[0])
    assert turned[1, 14:17, 3:6].all() and turned[1].sum() == 9
    turned = apply(volume, parse(op | {"centre": [5, 14]}, volume.shape), ignore=False)
    np.testing.assert_array_equal(turned[1], volume[1])
    assert turned[0].sum() == 0  # gone over the upper border
    assert not np.array_equal(apply(volume, parse(op, volume.shape), ignore=False)[1], volume[1])


# ---------------------------------------------------------------------- where it changed


def test_the_tight_region_is_the_smallest_with_every_difference():
    rng = np.random.default_rng(7)
    for _ in range(200):
        size = tuple(rng.integers(1, 7, rng.integers(1, 4)))
        old = np.zeros(size, np.int16)
        new = (rng.random(size) < 0.1).astype(np.int16)
        offset = rng.integers(0, 9, len(size))
        region = tuple(slice(int(o), int(o + n)) for o, n in zip(offset, size, strict=True))
        tight = tighten(region, old, new)
        places = np.argwhere(old != new)
        if len(places) == 0:
            assert all(s.start == s.stop for s in tight)
            continue
        wanted = [
            (int(lo + o), int(hi + o + 1))
            for lo, hi, o in zip(places.min(axis=0), places.max(axis=0), offset, strict=True)
        ]
        assert [(s.start, s.stop) for s in tight] == wanted
