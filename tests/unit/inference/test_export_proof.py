"""A proof sees every difference that matters, and its inputs are what it says they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import labelmend
from labelmend.errors import NonFiniteError, RunError
from labelmend.inference.export.proof import (
    proof_inputs,
    proof_sizes,
    prove,
    real_images,
    reference_of,
)
from labelmend.inference.predictor import Predictor
from labelmend.types import DataSet

Trained = Callable[[str], Any]
IMAGES = [np.random.default_rng(0).normal(0, 3, (2, 3, 40, 50)).astype(np.float32)]


def _same(images: np.ndarray) -> np.ndarray:
    return images.copy()


def _one_place(by: float, where: tuple[int, ...] = (1, 2, 39, 49)) -> Any:
    def run(images: np.ndarray) -> np.ndarray:
        out = images.copy()
        out[where] += by
        return out

    return run


def test_equal_models_are_equal() -> None:
    proof = prove(_same, _same, IMAGES, task="segmentation", tolerance=0)
    assert proof.holds and (proof.worst, proof.equal, proof.positions) == (0, 1, 4000)


@pytest.mark.parametrize("by", [1e-3, -1e-3, np.nan, np.inf])
def test_one_wrong_score_in_the_last_corner_is_seen(by: float) -> None:
    proof = prove(_same, _one_place(by), IMAGES, task="segmentation", tolerance=1e-5)
    assert not proof.holds and proof.worst > 1e-4


def test_large_scores_may_differ_by_a_share_of_their_size() -> None:
    large = [np.full((1, 2, 4), 1e4, np.float32)]
    off = _one_place(0.05, (0, 1, 3))
    assert prove(_same, off, large, task="regression", tolerance=1e-5).holds
    small = [np.full((1, 2, 4), 1e-4, np.float32)]
    assert not prove(
        _same, _one_place(1e-4, (0, 1, 3)), small, task="regression", tolerance=1e-5
    ).holds


def test_other_classes_are_seen_even_where_scores_nearly_agree() -> None:
    level = [np.zeros((1, 2, 50), np.float32)]
    off = _one_place(1e-7, (0, 1, 7))
    proof = prove(_same, off, level, task="segmentation", tolerance=1e-5)
    assert proof.worst < 1e-6 and proof.equal == 0.98 and not proof.holds
    regression = prove(_same, off, level, task="regression", tolerance=1e-5)
    assert regression.holds and regression.equal is None


def test_a_model_of_another_shape_or_that_fails_is_refused() -> None:
    with pytest.raises(RunError, match="yields"):
        prove(_same, lambda x: x[:, :2], IMAGES, task="segmentation", tolerance=1e-5)
    with pytest.raises(RunError, match=r"does not take an input of shape \(2, 3, 40, 50\): no"):
        prove(_same, _failing, IMAGES, task="segmentation", tolerance=1e-5)


def _failing(images: np.ndarray) -> np.ndarray:
    raise OSError("no")


def test_a_network_that_yields_nan_is_no_measure() -> None:
    with pytest.raises(NonFiniteError):
        prove(_one_place(np.nan), _same, IMAGES, task="segmentation", tolerance=1e-5)


# --- inputs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Predictor:
    return labelmend.load(trained("colour").run, device="cpu")


def test_sizes_go_from_the_smallest_to_one_beyond_a_patch(predictor: Predictor) -> None:
    smallest, small, patch, large = proof_sizes(predictor)
    assert smallest == (2, 2) and small == (8, 8) and patch == tuple(predictor.patch)
    assert all(n % 2 == 0 and n > p for n, p in zip(large, patch, strict=True))
    assert large[0] / patch[0] != large[1] / patch[1]
    same = dataclasses.replace(predictor, patch=(8, 8))
    assert len(set(proof_sizes(same))) == 4


class _Wide(nn.Module):
    """Takes nothing shorter than seven positions."""

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.pad(image[:, :2], (6, 6, 6, 6), mode="reflect")[..., 6:-6, 6:-6]


def test_the_smallest_size_is_one_that_the_network_takes(predictor: Predictor) -> None:
    wide = dataclasses.replace(predictor, network=_Wide())
    assert proof_sizes(wide)[0] == (8, 8)


def test_real_images_come_at_every_size_as_the_network_sees_them(predictor: Predictor) -> None:
    real, notes = real_images(predictor)
    assert len(real) == 4 and not notes
    assert all(abs(image.mean()) < 1e-5 for image in real.values())  # normalised
    sizes = proof_sizes(predictor)
    given = list(proof_inputs(predictor, sizes, 30, real.values()))
    assert len(given) == 30 and {image.shape[2:] for image in given} == set(sizes)
    assert {len(image) for image in given} == {1, 2}
    assert not given[0].any() and given[0].shape == (2, 3, 2, 2)
    assert np.array_equal(
        given[5][0], next(iter(real.values()))[:, :20, :24]
    )  # the first at the size of a patch
    assert all(image.dtype == np.float32 for image in given)
    assert len({image.tobytes() for image in given}) == 30


def test_data_that_is_gone_is_noted_without_naming_a_place(predictor: Predictor) -> None:
    gone = _Gone(predictor.run.data)
    real, notes = real_images(dataclasses.replace(predictor, run=gone))
    assert real == {} and len(notes) == 4
    assert notes[0] == "images/s0.png could not be used (DataError)"


class _Gone:
    def __init__(self, data: DataSet) -> None:
        self.data = dataclasses.replace(data, root=str(Path("no") / "such"))


def test_the_reference_is_a_copy(predictor: Predictor) -> None:
    reference = reference_of(predictor)
    image = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        wanted = predictor.network(image).numpy()
    assert np.array_equal(reference(image.numpy()), wanted)
