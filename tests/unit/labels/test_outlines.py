"""Outlines: one part after the other, its holes with it, every ring simple and in a fixed order."""

from __future__ import annotations

import numpy as np
import pytest

from labelmend.errors import DataError
from labelmend.labels.outlines import find_outlines


def drawn(*rows: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in rows], dtype=bool)


def test_a_ring_begins_at_its_upper_left_corner_and_has_the_inside_to_its_right() -> None:
    [outline] = find_outlines(drawn("....", ".##.", "...."))
    assert outline.exterior.tolist() == [[0.5, 0.5], [0.5, 2.5], [1.5, 2.5], [1.5, 0.5]]
    assert outline.holes == ()
    assert outline.exterior.dtype == np.float64


def test_a_hole_runs_the_other_way_round() -> None:
    [outline] = find_outlines(drawn("###", "#.#", "###"))
    [hole] = outline.holes
    assert hole.tolist() == [[0.5, 0.5], [1.5, 0.5], [1.5, 1.5], [0.5, 1.5]]
    assert outline.rings == (outline.exterior, hole)


def test_an_island_is_an_outline_of_its_own() -> None:
    mask = drawn("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######")
    outer, inner = find_outlines(mask)
    assert [len(o.holes) for o in (outer, inner)] == [1, 1]
    assert np.ptp(outer.exterior, axis=0).tolist() == [7, 7]
    assert np.ptp(inner.exterior, axis=0).tolist() == [3, 3]


def test_positions_that_meet_at_a_corner_are_two_parts() -> None:
    assert len(find_outlines(drawn("#.", ".#"))) == 2
    assert len(find_outlines(drawn(".#", "#."))) == 2


@pytest.mark.parametrize(
    ("mask", "holes"),
    [
        (drawn("###", "#.#", "##."), 1),  # the hole touches the outside at a corner
        (drawn(".##", "#.#", "###"), 1),
        (drawn("####", "#.##", "##.#", "####"), 2),  # two holes touch each other
        (drawn("####", "##.#", "#.##", "####"), 2),
        (drawn("#####", "#.#.#", "##.##", "#.#.#", "#####"), 5),
    ],
)
def test_no_ring_meets_a_point_twice(mask: np.ndarray, holes: int) -> None:
    outlines = find_outlines(mask)
    biggest = max(outlines, key=lambda o: len(o.rings))
    assert len(biggest.holes) == holes
    for outline in outlines:
        for ring in outline.rings:
            assert len(np.unique(ring, axis=0)) == len(ring)


def test_parts_come_in_the_order_of_their_first_position() -> None:
    mask = drawn("...#", "#..#", "##.#", ".#..", "...#")
    starts = [o.exterior[0].tolist() for o in find_outlines(mask)]
    assert starts == [[-0.5, 2.5], [0.5, -0.5], [3.5, 2.5]]


def test_every_ring_turns_at_every_point() -> None:
    rng = np.random.default_rng(3)
    for outline in find_outlines(rng.random((30, 30)) < 0.6):
        for ring in outline.rings:
            steps = np.diff(ring, axis=0, append=ring[:1])
            assert ((steps == 0).sum(1) == 1).all()
            assert ((steps[:, 0] == 0) != (np.roll(steps[:, 0], 1) == 0)).all()


def test_an_empty_mask_has_no_outline() -> None:
    assert find_outlines(np.zeros((4, 5), bool)) == []
    assert find_outlines(np.zeros((0, 0), bool)) == []


def test_only_masks_of_rows_and_columns_have_outlines() -> None:
    with pytest.raises(DataError, match="not with 3 axes; take a slice"):
        find_outlines(np.zeros((2, 2, 2), bool))
