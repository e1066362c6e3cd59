"""Shapes: what is inside, what lies exactly on a border, what lies outside of the image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from labelmend.errors import DataError
from labelmend.labels.shapes import (
    box,
    circle,
    dots,
    ellipse,
    in_volume,
    interval,
    polygon,
    scribble,
)

from . import oracle_shapes as oracle

SQUARE = [(1, 1), (1, 4), (4, 4), (4, 1)]


def test_a_circle_has_the_centres_on_its_border() -> None:
    assert circle((7, 7), (3, 3), 2).sum() == 13
    assert circle((7, 7), (3, 3), 2)[1, 3]
    assert circle((11, 11), (5, 5), 5)[[8, 2], [9, 1]].all()  # 3-4-5
    np.testing.assert_array_equal(
        circle((11, 11), (5, 5), 4.2), ellipse((11, 11), (5, 5), (4.2, 4.2))
    )


def test_a_circle_of_radius_zero_is_at_most_one_position() -> None:
    assert circle((3, 3), (1, 2), 0).sum() == 1
    assert circle((3, 3), (1, 1.5), 0).sum() == 0


def test_dots_are_the_circles_together() -> None:
    places = [(1.5, 2), (8, 8), (2, 2.25), (20, -3)]
    wanted = np.any([circle((10, 9), p, 2) for p in places], axis=0)
    np.testing.assert_array_equal(dots((10, 9), places, 2), wanted)
    assert not dots((4, 4), [], 3).any()


@pytest.mark.parametrize("width", [0, 0.5, 1, 2, 3.7, 8])
@pytest.mark.parametrize(
    "points",
    [
        [(3, 4)],
        [(3, 4), (3, 4)],
        [(2, 2), (2, 9)],
        [(9, 3), (2, 3)],
        [(0, 0), (11, 11)],
        [(11.5, 0.25), (0, 9), (4, 4), (4, -30), (2.2, 30)],
        [(1, 1), (1.0000001, 8)],
    ],
)
def test_a_scribble_is_what_is_near_its_line(points: list, width: float) -> None:
    found = scribble((12, 11), points, width)
    np.testing.assert_array_equal(found, oracle.scribble((12, 11), points, width))


def test_a_scribble_without_points_is_empty() -> None:
    assert not scribble((3, 3), [], 5).any()


@pytest.mark.parametrize("angle", np.linspace(0, np.pi, 16))
def test_a_scribble_of_width_one_is_never_interrupted(angle: float) -> None:
    from scipy import ndimage

    way = 40 * np.array([np.cos(angle), np.sin(angle)])
    middle = np.array([49.3, 49.4])
    line = scribble((99, 99), [middle - way, middle + way], 1)
    assert ndimage.label(line, np.ones((3, 3)))[1] == 1
    assert line.any(1 if abs(way[0]) > abs(way[1]) else 0).sum() > 50


def test_the_first_borders_of_a_box_belong_to_it() -> None:
    found = box((6, 6), (2, 3), (2, 4))
    assert np.argwhere(found).min(0).tolist() == [1, 1]
    assert np.argwhere(found).max(0).tolist() == [2, 4]


@pytest.mark.parametrize("turns", range(8))
def test_a_box_turned_by_right_angles_has_as_many_positions(turns: int) -> None:
    for sides in [(2, 5), (3, 4), (6, 6)]:
        found = box((20, 20), (10, 10), sides, turns * math.pi / 2)
        assert found.sum() == sides[0] * sides[1]
        wide = found.any(0).sum()
        assert wide == sides[1 - turns % 2]


def test_a_box_turns_from_the_rows_towards_the_columns() -> None:
    found = box((21, 21), (10, 10), (18, 2), math.pi / 4)
    assert found[15, 15]
    assert not found[15, 5]
    np.testing.assert_array_equal(found, oracle.box((21, 21), (10, 10), (18, 2), math.pi / 4))


def test_a_turned_box_covers_what_an_ellipse_within_it_does() -> None:
    for angle in (0.3, 1.2, 2.8):
        round_one = ellipse((40, 40), (20, 19), (15, 5), angle)
        assert not (round_one & ~box((40, 40), (20, 19), (30.2, 10.2), angle)).any()


def test_upper_and_left_borders_of_a_polygon_belong_to_it() -> None:
    found = polygon((6, 6), [SQUARE])
    assert np.argwhere(found).tolist() == [[r, c] for r in (1, 2, 3) for c in (1, 2, 3)]
    np.testing.assert_array_equal(found, box((6, 6), (2.5, 2.5), (3, 3)))


def test_it_does_not_matter_how_a_polygon_is_told() -> None:
    wanted = polygon((6, 6), [SQUARE])
    for same in (SQUARE[::-1], SQUARE[2:] + SQUARE[:2], [*SQUARE, SQUARE[0]], np.array(SQUARE)):
        np.testing.assert_array_equal(polygon((6, 6), [same]), wanted)


def test_rings_are_holes_and_islands_by_turns() -> None:
    rings = [[(a, a), (a, 9 - a), (9 - a, 9 - a), (9 - a, a)] for a in (0.5, 1.5, 2.5)]
    found = polygon((10, 10), rings).astype(int)
    assert found[4].tolist() == [0, 1, 0, 1, 1, 1, 1, 0, 1, 0]
    assert found.sum() == 64 - 36 + 16


def test_a_polygon_that_crosses_itself_has_its_odd_parts() -> None:
    star = [(20 + 18 * math.cos(a), 20 + 18 * math.sin(a)) for a in np.arange(5) * 0.8 * math.pi]
    found = polygon((40, 40), [star])
    assert not found[20, 20]
    np.testing.assert_array_equal(found, oracle.polygon((40, 40), [star]))


@pytest.mark.parametrize(
    "rings", [[], [[]], [[(1, 1)]], [[(1, 1), (4, 4)]], [[(2, 0), (2, 9), (2, 4)]]]
)
def test_fewer_than_three_corners_or_no_height_surround_nothing(rings: list) -> None:
    assert not polygon((6, 6), rings).any()


@pytest.mark.parametrize("far", [(-50, 0), (0, 60), (80, 80), (1e9, -1e9), (-1e90, 1e90)])
def test_what_lies_outside_is_cut_off(far: tuple[float, float]) -> None:
    size = (7, 5)
    there = np.array(SQUARE) + far
    drawn = [
        polygon(size, [there]),
        scribble(size, there, 3),
        dots(size, there, 2),
        box(size, there[0], (3, 3)),
        circle(size, there[0], 2),
    ]
    assert not any(mask.any() for mask in drawn)
    assert {mask.shape for mask in drawn} == {size}
    assert polygon(size, [[(-1e90, -1e90), (-1e90, 1e90), (1e90, 1e90), (1e90, -1e90)]]).all()


@pytest.mark.parametrize("size", [(0, 0), (0, 4), (4, 0), (1, 1)])
def test_an_image_may_be_empty(size: tuple[int, int]) -> None:
    line = [(0, 0), (3, 3), (0, 3)]
    masks = [
        polygon(size, [line]),
        scribble(size, line, 2),
        dots(size, line, 2),
        box(size, (0, 0), (2, 2)),
    ]
    assert all(mask.shape == size and mask.dtype == bool for mask in masks)


@pytest.mark.parametrize(
    ("start", "stop", "wanted"),
    [
        (1, 3, [1, 2]),
        (1, 1, []),
        (3, 1, []),
        (-5, 2, [0, 1]),
        (3, 99, [3, 4]),
        (0.5, 2, [1]),
        (1, 2.5, [1, 2]),
    ],
)
def test_an_interval_has_its_start_and_not_its_stop(
    start: float, stop: float, wanted: list[int]
) -> None:
    assert np.flatnonzero(interval(5, start, stop)).tolist() == wanted


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_lie_where_they_are_numbered(axis: int) -> None:
    size = (3, 4, 5)
    rest = tuple(n for a, n in enumerate(size) if a != axis)
    drawn = np.arange(rest[0] * rest[1]).reshape(rest) % 3 == 0
    found = in_volume(size, axis, {1: drawn, -1: ~drawn, 99: ~drawn})
    np.testing.assert_array_equal(found.take(1, axis), drawn)
    assert found.sum() == drawn.sum()


def test_a_slice_of_another_size_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"slice 2 along axis 1 .* mask of 3 x 5 positions, not 5 x 3"
    ):
        in_volume((3, 4, 5), 1, {2: np.ones((5, 3), bool)})
    with pytest.raises(DataError, match="axes 0, 1 and 2, not 3"):
        in_volume((3, 4, 5), 3, {})


@pytest.mark.parametrize(
    "draw",
    [
        lambda: polygon((4, 4), [[(0, 0), (1, float("nan")), (2, 2)]]),
        lambda: polygon((4, 4), [[(0, 0, 0)]]),
        lambda: polygon((4, 4), [[("a", "b")]]),
        lambda: polygon((4, 4), [[(0, 0), (1,)]]),
        lambda: scribble((4, 4), [(0, float("inf"))], 1),
        lambda: scribble((4, 4), [(0, 0)], -1),
        lambda: scribble((4, 4), [(0, 0)], float("nan")),
        lambda: dots((4, 4), [(0, 0)], -0.5),
        lambda: circle((4, 4), (0, 0), float("inf")),
        lambda: box((4, 4), (0, 0), (1, -1)),
        lambda: box((4, 4), (float("nan"), 0), (1, 1)),
        lambda: box((4, 4), (0, 0), (1, 1), float("inf")),
        lambda: interval(4, float("nan"), 2),
    ],
)
def test_what_is_no_shape_is_refused(draw: Callable[[], object]) -> None:
    with pytest.raises(DataError, match="must be"):
        draw()


def test_points_are_not_changed() -> None:
    ring = np.array(SQUARE, float)
    polygon((6, 6), [ring])
    scribble((6, 6), ring, 2)
    np.testing.assert_array_equal(ring, SQUARE)


def test_a_shape_with_more_crossings_than_a_block_holds_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    ring = rng.random((60, 2)) * 50
    wanted = polygon((50, 50), [ring]), scribble((50, 50), ring, 3)
    monkeypatch.setattr("labelmend.labels.shapes.BLOCK", 7)
    found = polygon((50, 50), [ring]), scribble((50, 50), ring, 3)
    np.testing.assert_array_equal(found, wanted)
    assert 0 < wanted[0].sum() < 2500
