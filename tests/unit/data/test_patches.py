"""Examples and errors of cutting and joining; the laws are in tests/laws/test_patches.py."""

import numpy as np
import pytest

from labelmend.data.patches import Joiner, count, join, regions, split
from labelmend.errors import SettingsError, ShapeError
from labelmend.types import Region


def test_neighbours_share_at_least_the_overlap():
    starts = [r.start[0] for r in regions((100,), (10,), 0.3)]
    assert starts[:3] == [0, 7, 14] and starts[-1] == 90


def test_the_last_region_is_shifted_inward():
    assert [r.start[0] for r in regions((11,), (4,), 0)] == [0, 4, 7]


def test_a_patch_longer_than_the_axis_is_cut_to_it():
    assert regions((3, 20), (8, 20)) == [Region((0, 0), (3, 20))]


def test_split_gives_views():
    array = np.zeros((1, 8))
    split(array, regions((8,), (4,), 0))[0][:] = 5
    assert array[0, :4].tolist() == [5] * 4


def test_overlapping_patches_that_differ_are_averaged_by_weight():
    joiner = Joiner(1, (6,), "linear")
    joiner.add(np.zeros((1, 4)), Region((0,), (4,)))
    joiner.add(np.ones((1, 4)), Region((2,), (4,)))
    # linear profile of 4: 1/4 3/4 3/4 1/4
    assert joiner.result()[0] == pytest.approx([0, 0, 0.25, 0.75, 1, 1])


def test_many_overlapping_patches_give_their_mean():
    joiner, rng = Joiner(1, (5,), "mean"), np.random.default_rng(0)
    patches = rng.normal(size=(200, 1, 5))
    for patch in patches:
        joiner.add(patch, Region((0,), (5,)))
    assert joiner.result() == pytest.approx(patches.mean(0), abs=1e-5)


def test_a_position_that_is_never_covered_is_named():
    joiner = Joiner(2, (4, 4))
    joiner.add(np.ones((2, 4, 3)), Region((0, 0), (4, 3)))
    with pytest.raises(ShapeError, match=r"\(0, 3\) was never covered"):
        joiner.result()


@pytest.mark.parametrize(
    ("size", "patch", "overlap", "error"),
    [
        ((4, 4), (2,), 0.5, SettingsError),
        ((4,), (0,), 0.5, SettingsError),
        ((4,), (2,), 1.0, SettingsError),
        ((4,), (2,), -0.1, SettingsError),
        ((4,), (2,), float("nan"), SettingsError),
        ((0,), (2,), 0.5, ShapeError),
    ],
)
def test_what_cannot_be_cut_is_refused(size, patch, overlap, error):
    for function in (regions, count):
        with pytest.raises(error):
            function(size, patch, overlap)


def test_patches_and_regions_must_fit():
    with pytest.raises(ShapeError, match="ended first"):
        join([np.ones((1, 2))], regions((4,), (2,), 0), (4,))
    with pytest.raises(ShapeError, match="at least one"):
        join([], [], (4,))
    with pytest.raises(ShapeError, match="not inside"):
        split(np.ones((1, 4)), [Region((3,), (2,))])
    with pytest.raises(ShapeError, match="not inside"):
        split(np.ones((1, 4)), [Region((-1,), (2,))])
    with pytest.raises(ShapeError, match=r"\(1, 2\) is wanted"):
        Joiner(1, (4,)).add(np.ones((1, 3)), Region((0,), (2,)))
    with pytest.raises(SettingsError, match="blend is one of"):
        Joiner(1, (4,), "hamming")


def test_a_patch_is_not_changed_by_joining_it():
    patch = np.arange(4, dtype=np.float32)[None]
    joiner = Joiner(1, (4,))
    joiner.add(patch, Region((0,), (4,)))
    joiner.add(patch * 2, Region((0,), (4,)))
    assert patch.tolist() == [[0, 1, 2, 3]]
