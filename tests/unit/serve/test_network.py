"""Alone an image gets the bits of predict; together the same label, up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import labelmend
from labelmend.errors import NonFiniteError
from labelmend.inference.flips import Flipped
from labelmend.inference.predictor import Predictor
from labelmend.serve.network import Network
from labelmend.types import Raster

Trained = Callable[[str], Any]


def images(predictor: Predictor, many: int, scale: int = 3) -> list[Raster]:
    """Several patches large, so that windows are joined."""
    rng = np.random.default_rng(0)
    shape = (predictor.spec.channels, *(scale * n // 2 + 1 for n in predictor.patch))
    return [Raster(rng.normal(size=shape).astype(np.float32)) for _ in range(many)]


@pytest.mark.parametrize("kind", ["gray", "volume", "recording"])
@pytest.mark.parametrize("flips", [False, True])
def test_together_is_alone_up_to_rounding(kind: str, flips: bool, trained: Trained) -> None:
    predictor = labelmend.load(trained(kind).run, device="cpu")
    network, rasters = Network(predictor, 8), images(predictor, 5)
    together = network(rasters, flips)
    for raster, found in zip(rasters, together, strict=True):
        (alone,) = network([raster], flips)
        assert isinstance(found, np.ndarray) and isinstance(alone, np.ndarray)
        assert np.abs(found - alone).max() <= 1e-5 * max(1.0, float(np.abs(alone).max()))
    if not flips:
        assert np.array_equal(network(rasters[:1], False)[0], predictor.scores(rasters[0]))
    else:
        mirrored = replace(predictor, network=Flipped(predictor.network, predictor.spec.task))
        assert np.array_equal(network(rasters[:1], True)[0], mirrored.scores(rasters[0]))


class Bad(nn.Module):
    """NaN for images that are mostly dark."""

    def forward(self, image: Tensor) -> Tensor:
        """Two scores."""
        dark = image.amax(tuple(range(1, image.ndim)), keepdim=True) < 1.5
        return torch.where(dark, torch.nan, torch.cat([-image, image], 1))


def test_what_is_no_number_is_the_error_of_one_image(trained: Trained) -> None:
    predictor = replace(labelmend.load(trained("gray").run, device="cpu"), network=Bad())
    flat = np.zeros((1, 20, 24), np.float32)
    point = flat.copy()
    point[0, 5, 5] = 1
    good, bad = Raster(point), Raster(np.indices((20, 24))[:1].astype(np.float32) % 2)
    first, second, third = Network(predictor, 4)([good, bad, good], False)
    assert isinstance(first, np.ndarray) and np.array_equal(first, third)
    assert isinstance(second, NonFiniteError)
    assert isinstance(Network(predictor)([bad], False)[0], NonFiniteError)
