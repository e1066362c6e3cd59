"""Laws of preparation: resampling moves nothing, image and label move alike, and back again."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from labelmend.data.prepare import Preparation
from labelmend.types import Raster


@st.composite
def blobs(draw):
    """A smooth blob well inside, the size to bring it to, and where it is."""
    dims = draw(st.integers(1, 2))
    space = tuple(draw(st.integers(60, 90)) for _ in range(dims))
    size = tuple(draw(st.integers(int(n * 0.4), int(n * 2.5))) for n in space)
    centre = tuple(n * draw(st.floats(0.45, 0.55)) for n in space)
    return space, size, centre


def bump(space, centre, radius=6.0):
    axes = np.meshgrid(*[np.arange(n) for n in space], indexing="ij")
    return np.exp(-sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) / (2 * radius**2))


def centroid(array):
    axes = np.meshgrid(*[np.arange(n) for n in array.shape], indexing="ij")
    return np.array([(a * array).sum() / array.sum() for a in axes])


def scaled(place, space, size):
    return [(c + 0.5) * m / n - 0.5 for c, n, m in zip(place, space, size, strict=True)]


@settings(max_examples=60, deadline=None)
@given(blobs())
def test_a_blob_stays_where_it_is_and_comes_back(blob):
    space, size, centre = blob
    prepare = Preparation(normalise="none", size=size)
    image, grid = prepare.image(Raster(bump(space, centre)[None]))
    assert image.shape == (1, *size)
    wanted = scaled(centroid(bump(space, centre)), space, size)
    assert np.abs(centroid(image[0].astype(float)) - wanted).max() <= 0.05
    back = prepare.restore(image, grid)
    assert back.shape == (1, *space)
    assert np.abs(centroid(back[0].astype(float)) - centroid(bump(space, centre))).max() <= 0.05


@settings(max_examples=60, deadline=None)
@given(blobs())
def test_a_label_moves_like_its_image(blob):
    space, size, _ = blob
    centre = [(n - 1) / 2 for n in space]
    label = (bump(space, centre, 8.0) > 0.5).astype(np.int64)
    prepare = Preparation(normalise="none", size=size)
    image, grid = prepare.image(Raster(label[None].astype(np.float32)))
    moved, valid = prepare.label(label, np.ones(space, bool), grid)
    assert valid.all() and moved.shape == size and moved.any()
    # centred stays centred, at even factors too
    assert np.abs(centroid(moved) - [(m - 1) / 2 for m in size]).max() <= 0.05
    inner, outer = image[0] > 0.999, image[0] > 0.001
    assert (moved[inner] == 1).all() and (moved[~outer] == 0).all()
    assert np.array_equal(moved == 1, image[0] > 0.5) or np.isclose(image[0], 0.5, atol=1e-3).any()


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**16))
def test_a_position_is_valid_only_when_all_it_came_from_was(n, m, seed):
    rng = np.random.default_rng(seed)
    prepare = Preparation(size=(m,))
    grid = prepare.grid((n,))
    valid = rng.random(n) < 0.7
    label = np.where(valid, rng.integers(0, 3, n), 7)  # 7 only where nobody vouches for it
    moved, known = prepare.label(label, valid, grid)
    assert not (moved[known] == 7).any()
    centres = np.clip(grid.origin[0] + grid.step[0] * np.arange(m), 0, n - 1)
    nearest = np.clip(np.rint(centres).astype(int), 0, n - 1)
    assert not (known & ~valid[nearest]).any()
    assert not valid.all() or known.all()


@settings(deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 60), st.floats(-1e4, 1e4, width=32), st.integers(0, 2**16)
)
def test_constants_and_means_are_kept(n, m, value, seed):
    prepare = Preparation(normalise="none", size=(m,))
    constant, grid = prepare.image(Raster(np.full((1, n), value)))
    assert np.allclose(constant, np.float32(value), rtol=1e-6, atol=1e-6)
    assert np.allclose(prepare.restore(constant, grid), np.float32(value), rtol=1e-6, atol=1e-6)
    if m <= n:
        array = np.random.default_rng(seed).normal(size=(1, n))
        assert np.isclose(prepare.image(Raster(array))[0].mean(), array.mean(), atol=1e-5)


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(2, 60), st.integers(0, 2**16))
def test_mirroring_and_preparing_commute(n, m, seed):
    rng = np.random.default_rng(seed)
    prepare = Preparation(normalise="none", size=(m,))
    array, label = rng.normal(size=(1, n)).astype(np.float32), rng.integers(0, 3, n)
    grid = prepare.grid((n,))
    there, mirrored = (prepare.image(Raster(a))[0] for a in (array, array[:, ::-1]))
    assert np.allclose(there[:, ::-1], mirrored, atol=1e-5)
    ones = np.ones(n, bool)
    assert np.array_equal(
        prepare.label(label, ones, grid)[0][::-1], prepare.label(label[::-1], ones, grid)[0]
    )


@given(st.integers(1, 400), st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_grid_has_the_spacing_that_was_wished_for_but_for_half_a_position(length, own, wished):
    grid = Preparation(spacing=(wished,)).grid((length,), (own,))
    assert grid.size[0] == 1 or abs(length * own - grid.size[0] * wished) <= wished * 0.500001
    assert np.isclose(grid.size[0] * grid.grid_spacing[0], length * own)
