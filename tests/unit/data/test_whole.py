"""Whole images predicted from patches: what a network sees beyond their edges."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from labelmend.data.whole import judge, predict_strips, predict_whole
from labelmend.types import DataSpec, Region

MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def blurred(image: Tensor) -> Tensor:
    """The mean of every neighbourhood; edges go on."""
    dims = image.ndim - 2
    return MEAN[dims](F.pad(image, (1, 1) * dims, mode="replicate"), 3, 1)


@pytest.mark.parametrize("size", [(13,), (13, 10), (5, 7, 11)])
def test_beyond_the_last_position_its_value_goes_on(size: tuple[int, ...]) -> None:
    """Sides that are no multiple of what the network wants, all in one patch."""
    image = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    found = predict_whole(blurred, image, patch=(16,) * len(size), multiple=8)
    assert np.allclose(found, blurred(image[None])[0], atol=1e-6)


def test_a_network_sees_only_sizes_that_it_can_take() -> None:
    seen: list[tuple[int, ...]] = []

    def network(image: Tensor) -> Tensor:
        seen.append(tuple(image.shape))
        return image

    image = torch.rand(1, 21, 10)

    def read(place: Region) -> Tensor:
        return image[(slice(None), *place.slices)]

    strips = predict_strips(network, read, (21, 10), patch=(8, 16), multiple=4, batch=2)
    assert np.array_equal(np.concatenate([strip for _, strip in strips], 1), image.numpy())
    assert {shape[2:] for shape in seen} == {(8, 12)} and {shape[0] for shape in seen} == {1, 2}


def test_recordings_have_no_surface() -> None:
    label = np.array([0, 1, 1, 1, 1, 0, 0])
    spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 1, 1, "none", ".npy")
    row = judge(
        np.eye(2)[:, [0, 0, 1, 1, 1, 1, 0]], label, label < 2, spec, spacing=(0.05,), surface=True
    )
    assert not {"surface_distance", "hausdorff95"} & set(row["b"])
    assert row["b"]["onset_error"] == row["b"]["offset_error"] == pytest.approx(0.05)  # seconds
