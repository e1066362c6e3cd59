"""Laws of predicting strip by strip: the bits that memory gives, for every size, patch, overlap."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from labelmend.data.patches import Joiner, regions
from labelmend.data.prepare import Preparation
from labelmend.data.whole import predict_strips, predict_whole
from labelmend.inference.objects import Collector
from labelmend.inference.statistics import fix_statistics
from labelmend.types import Raster, Region

axis = st.tuples(st.integers(1, 24), st.integers(1, 30))


@st.composite
def cuts(draw: Any) -> tuple[tuple[int, ...], dict[str, Any]]:
    dims = draw(st.integers(1, 3))
    axes = draw(st.lists(axis, min_size=dims, max_size=dims))
    size = tuple(min(n, 9) if dims == 3 else n for n, _ in axes)
    patch = tuple(max(p, 3) if dims == 3 else p for _, p in axes)
    return size, {
        "patch": patch,
        "overlap": draw(st.sampled_from([0.0, 0.25, 0.5, 0.9])),
        "multiple": draw(st.sampled_from([1, 4])),
        "batch": draw(st.integers(1, 5)),
    }


def blurred(image: Tensor) -> Tensor:
    """Two scores that depend on the neighbourhood, so that patches disagree."""
    dims = image.ndim - 2
    kernel = torch.linspace(-1, 1, 3**dims).reshape(1, 1, *(3,) * dims)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    found = convolve(F.pad(image, (1,) * 2 * dims), kernel)
    return torch.cat([found, -found.square()], 1)


def joined_at_once(image: Tensor, size: tuple[int, ...], options: dict[str, Any]) -> np.ndarray:
    """The obvious way: one array for all patches."""
    joiner = Joiner(2, size, "hann")
    places = regions(size, options["patch"], options["overlap"])
    for first in range(0, len(places), options["batch"]):
        chunk = places[first : first + options["batch"]]
        given = torch.stack([image[(slice(None), *place.slices)] for place in chunk])
        missing = [-n % options["multiple"] for n in given.shape[2:]]
        pads = [p for n in reversed(missing) for p in (0, n)]
        scores = blurred(F.pad(given, pads, mode="replicate") if any(missing) else given)
        for place, score in zip(chunk, scores, strict=True):
            joiner.add(score[(slice(None), *(slice(0, n) for n in place.size))].numpy(), place)
    return joiner.result()


@given(cuts(), st.integers(0, 2**32 - 1))
def test_strips_are_the_whole_to_the_last_bit(
    made: tuple[tuple[int, ...], dict[str, Any]], seed: int
) -> None:
    size, options = made
    image = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, *size)).astype(np.float32))
    wanted = joined_at_once(image, size, options)
    end, told = 0, []

    def read(place: Region) -> Tensor:
        return image[(slice(None), *place.slices)]

    strips = predict_strips(
        blurred, read, size, progress=lambda done, total: told.append((done, total)), **options
    )
    for start, strip in strips:
        assert start == end and strip.dtype == np.float32
        end = start + strip.shape[1]
        assert np.array_equal(strip, wanted[:, start:end])
    assert end == size[0]
    count = len(regions(size, options["patch"], options["overlap"]))
    assert told[-1] == (count, count)
    assert np.array_equal(predict_whole(blurred, image, **options), wanted)


@st.composite
def divided(draw: Any, lowest: int = 1) -> tuple[np.ndarray, list[int]]:
    """An image of one of four characters, and where it is cut."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, columns = draw(st.integers(lowest, 40)), draw(st.integers(1, 6))
    image = rng.normal(size=(draw(st.integers(1, 2)), rows, columns))
    image = image * 10.0 ** draw(st.integers(-4, 4)) + draw(st.sampled_from([0.0, 1e4]))
    character = draw(st.sampled_from(["real", "whole", "few", "flat"]))
    if character == "whole":
        image = image.round()
    if character == "few":
        image = np.sign(image)
    if character == "flat":
        image[:] = image[0, 0, 0]
    inner = draw(st.lists(st.integers(1, rows), max_size=4))
    return image.astype(np.float32), sorted({0, rows, *inner})


@settings(max_examples=200)
@given(
    divided(),
    st.sampled_from(["zscore", "percentile", "none"]),
    st.tuples(st.floats(0, 45), st.floats(50, 100)),
)
def test_statistics_of_strips_are_those_of_the_whole(
    made: tuple[np.ndarray, list[int]], normalise: Any, percentiles: tuple[float, float]
) -> None:
    image, places = made
    preparation = Preparation(normalise=normalise, percentiles=percentiles)
    wanted, _ = preparation.image(Raster(image))
    fixed = fix_statistics(
        preparation, lambda: (image[:, a:b] for a, b in itertools.pairwise(places))
    )
    strips = [fixed.prepare(image[:, a:b]) for a, b in itertools.pairwise(places)]
    found = np.concatenate(strips, axis=1)
    if normalise == "zscore":
        assert np.allclose(found, wanted, rtol=1e-6, atol=1e-6)
    else:
        assert np.array_equal(found, wanted)


@settings(max_examples=200)
@given(
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.2, 0.5, 0.8]),
    st.lists(st.integers(1, 14), max_size=5),
    st.integers(1, 4),
)
def test_objects_of_strips_are_those_of_the_whole(
    dims: int, seed: int, share: float, inner: list[int], smallest: int
) -> None:
    rng = np.random.default_rng(seed)
    size = (14, 7, 5)[:dims]
    label = np.where(rng.random(size) < share, rng.integers(1, 3, size), 0)
    image, sure = rng.normal(size=(2, *size)), rng.random(size)
    places = sorted({0, 14, *inner})
    whole, strips = Collector(smallest), Collector(smallest)
    whole.add(label, image, sure)
    for a, b in itertools.pairwise(places):
        strips.add(label[a:b], image[:, a:b], sure[a:b])
    wanted, found = whole.finish(), strips.finish()
    assert len(found) == len(wanted)
    assert np.array_equal(strips.counts, np.bincount(label.ravel(), minlength=len(strips.counts)))
    for one, other in zip(wanted, found, strict=True):
        assert (one.index, one.size, one.begin, one.end) == (
            other.index,
            other.size,
            other.begin,
            other.end,
        )
        for name in ("centroid", "means", "confidence"):
            assert np.allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-9)
        shape = ("perimeter", "eccentricity", "solidity")
        assert [getattr(one, name) for name in shape] == [getattr(other, name) for name in shape]
