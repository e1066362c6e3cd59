"""Laws of cutting and joining: for every size, patch, overlap and blend, in 1-D, 2-D and 3-D."""

import itertools
from typing import get_args

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from labelmend.data.patches import Blend, Joiner, count, join, regions, split

axis = st.tuples(st.integers(1, 24), st.integers(1, 30))
overlaps = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.9]), st.floats(0, 0.99))
blends = st.sampled_from(get_args(Blend))


@st.composite
def cuts(draw):
    dims = draw(st.integers(1, 3))
    axes = draw(st.lists(axis, min_size=dims, max_size=dims))
    size = tuple(min(n, 10) if dims == 3 else n for n, _ in axes)
    patch = tuple(max(p, 3) if dims == 3 else p for _, p in axes)
    return size, patch, draw(overlaps)


@given(cuts())
def test_regions_cover_everything_and_are_as_many_as_said(cut):
    size, patch, _overlap = cut
    places = regions(*cut)
    covered = np.zeros(size, dtype=int)
    for region in places:
        assert region.size == tuple(min(n, p) for n, p in zip(size, patch, strict=True))
        part = covered[region.slices]
        assert part.shape == region.size
        part += 1
    assert covered.min() >= 1
    assert len(places) == len(set(places)) == count(*cut)


@given(cuts())
def test_neighbours_share_the_overlap(cut):
    size, patch, overlap = cut
    for a in range(len(size)):
        starts = sorted({r.start[a] for r in regions(*cut)})
        length = min(size[a], patch[a])
        shared = [length - (n - s) for s, n in itertools.pairwise(starts)]
        assert all(s >= min(length - 1, overlap * length - 1e-6) for s in shared)


@settings(max_examples=200)
@given(cuts(), blends, st.integers(0, 2**32 - 1))
def test_join_of_split_is_the_array_itself(cut, blend, seed):
    size = cut[0]
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(2, *size)) * 10.0 ** rng.integers(-6, 7)).astype(np.float32)
    places = regions(*cut)
    assert np.array_equal(join(split(x, places), places, size, blend), x)


@given(cuts(), blends, st.floats(-1e6, 1e6, width=32))
def test_constant_in_constant_out(cut, blend, value):
    size = cut[0]
    places = regions(*cut)
    out = join(split(np.full((1, *size), value, np.float32), places), places, size, blend)
    assert (out == np.float32(value)).all()


@given(cuts(), blends, st.randoms(use_true_random=False))
def test_the_joined_value_lies_between_what_was_laid_there(cut, blend, random):
    size = cut[0]
    places = regions(*cut)
    values = [random.uniform(-1, 1) for _ in places]
    joiner = Joiner(1, size, blend)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    for region, value in zip(places, values, strict=True):
        joiner.add(np.full((1, *region.size), value), region)
        low[region.slices] = np.minimum(low[region.slices], value)
        high[region.slices] = np.maximum(high[region.slices], value)
    out = joiner.result()[0]
    assert (out >= low - 1e-5).all() and (out <= high + 1e-5).all()
