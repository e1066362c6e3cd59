"""Objects are painted within their own windows, and cover what they would without."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelmend.exchange.annotated import Annotated, Part, Source, Thing, paint
from labelmend.exchange.corners import inward, patch_of, polygon_of, polygons_of
from labelmend.exchange.events import read_events
from labelmend.labels.band import uncertain_band
from labelmend.labels.shapes import polygon
from labelmend.types import Raster

from . import handmade as made

SIZE = (23, 31)
IMAGE = Raster(np.zeros((1, *SIZE), np.uint8))
NUMBERS = {"x": 1}

rings = hnp.arrays(
    np.float64,
    st.tuples(st.integers(3, 7), st.just(2)),
    elements=st.floats(-12, 44, width=16),
)


def painted(thing: Thing, band: float = 0.0) -> np.ndarray:
    return paint(Annotated("a", Path("a"), (thing,)), IMAGE, NUMBERS, band=band)


@given(st.lists(rings, min_size=1, max_size=3))
def test_polygons_cover_the_same_in_a_window(drawn: list[np.ndarray]) -> None:
    whole = [polygon(SIZE, [inward(ring)]) for ring in drawn]
    found = painted(Thing("x", polygons_of([[ring] for ring in drawn]), "it"))
    np.testing.assert_array_equal(found == 1, np.any(whole, axis=0))
    holed = painted(Thing("x", polygon_of(drawn), "it"))
    np.testing.assert_array_equal(holed == 1, polygon(SIZE, [inward(ring) for ring in drawn]))


@given(rings, st.floats(0.5, 60))
def test_the_band_about_a_window_is_that_about_the_whole(ring: np.ndarray, band: float) -> None:
    whole = polygon(SIZE, [inward(ring)])
    expected = np.where(uncertain_band(whole, band), -1, whole)
    np.testing.assert_array_equal(painted(Thing("x", polygon_of([ring]), "it"), band), expected)


@pytest.mark.parametrize(("top", "left"), [(-2, -3), (21, 29), (5, 5), (-9, 40)])
def test_masks_are_cut_at_the_end_of_the_image(top: int, left: int) -> None:
    mask = np.random.default_rng(0).random((4, 6)) > 0.3
    wide = np.zeros((60, 80), bool)
    wide[top + 20 : top + 24, left + 20 : left + 26] = mask
    found = painted(Thing("x", patch_of(mask, top, left), "it"))
    np.testing.assert_array_equal(found == 1, wide[20:43, 20:51])


def test_a_small_object_makes_nothing_large(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        part = polygon_of([np.array(made.TRIANGLE)])(
            Raster(np.broadcast_to(np.uint8(0), (1, 50_000, 50_000)))
        )
        long = Raster(np.broadcast_to(np.uint8(0), (1, 10**9)), (0.01,))
        made.events(tmp_path)
        event = read_events(Source(tmp_path)).items[0].things[0].covers(long)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(part, Part) and part.mask.size < 200
    assert isinstance(event, Part) and event.mask.size == 20
    assert peak < 20_000_000
