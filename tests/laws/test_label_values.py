"""Label values never change silently: file → class indices → file gives the same values."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelmend.errors import DataError
from labelmend.files.readers import decode_label, read_bytes, read_label, write_label
from labelmend.files.values import to_indices, to_values
from labelmend.types import DataSpec, Raster

SPEC = DataSpec("segmentation", (), (), None, 2, 1, "none", ".png")


def spec_of(values: list[int], dims: int = 2) -> DataSpec:
    return replace(SPEC, values=tuple(values), classes=tuple(f"c{v}" for v in values), dims=dims)


values = st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=30, unique=True)


@given(
    values,
    hnp.arrays(np.int64, hnp.array_shapes(max_dims=3, max_side=6), elements=st.integers(0, 29)),
)
def test_values_of_indices_give_the_indices(known: list[int], drawn: np.ndarray) -> None:
    spec, indices = spec_of(known), drawn % len(known)
    found, valid = to_indices(to_values(indices, spec), spec)
    np.testing.assert_array_equal(found, indices)
    assert valid.all()


@given(values, st.integers(-(2**41), 2**41))
def test_a_strange_value_is_refused(known: list[int], strange: int) -> None:
    if strange in known:
        return
    with pytest.raises(DataError, match=str(strange)):
        to_indices(np.array([known[0], strange]), spec_of(known))


@given(
    st.lists(st.integers(0, 65535), min_size=2, max_size=25, unique=True),
    hnp.arrays(
        np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 24)
    ),
    st.sampled_from([".png", ".tif", ".ome.tif", ".npy", ".nii", ".nii.gz"]),
)
def test_every_format_keeps_every_value(known: list[int], drawn: np.ndarray, suffix: str) -> None:
    spec, indices = spec_of(known), drawn % len(known)
    image = Raster(np.zeros((1, *indices.shape), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write_label(path, indices, spec, image)
        stored = decode_label(path, read_bytes(path), "segmentation")
        np.testing.assert_array_equal(stored.array, np.asarray(known)[indices])
        found, valid = read_label(path, spec, image)
    np.testing.assert_array_equal(found, indices)
    assert valid.all()
