"""Pictures show the outlines where the label has them, in whatever strips it came."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from labelmend.inference import overlay
from labelmend.inference.overlay import Overlay

RNG = np.random.default_rng(0)


def drawn(image: np.ndarray, label: np.ndarray, *cuts: int, **how: object) -> np.ndarray:
    made = Overlay(label.shape, **how)
    for a, b in zip((0, *cuts), (*cuts, len(label)), strict=True):
        made.add(a, image[:, a:b], label[a:b])
    return made.draw()


def test_the_outline_has_the_colour_of_the_class_and_the_rest_is_the_image() -> None:
    label = np.zeros((12, 14), np.int64)
    label[2:7, 3:9] = 1
    label[8:11, 10:13] = 2
    image = RNG.integers(0, 100, (1, 12, 14)).astype(np.uint16)
    found = drawn(image, label)
    assert found.dtype == np.uint8 and found.shape == (12, 14, 3)
    assert found[2, 3].tolist() == [230, 159, 0] and found[8, 10].tolist() == [86, 180, 233]
    grey = found[label == 0]
    assert (grey == grey[:, :1]).all() and grey.min() == 0 and grey.max() == 255
    assert len(set(found[4, 5].tolist())) == 1  # within


def test_three_channels_are_colours() -> None:
    image = np.zeros((3, 4, 5), np.uint8)
    image[1] = 200
    found = drawn(image, np.zeros((4, 5), int))
    assert found[0, 0].tolist() == [0, 255, 0]
    assert drawn(np.full((1, 4, 5), 7.0), np.zeros((4, 5), int)).max() == 0


@pytest.mark.parametrize("cuts", [(), (1,), (5, 6, 13)])
def test_large_images_are_thinned_alike_in_any_strips(
    cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, label = RNG.random((1, 17, 23)), RNG.integers(0, 2, (17, 23))
    monkeypatch.setattr(overlay, "LONGEST", 8)
    found = drawn(image, label, *cuts)
    monkeypatch.setattr(overlay, "LONGEST", 100)
    assert np.array_equal(found, drawn(image[:, ::3, ::3], label[::3, ::3]))


def test_of_a_volume_the_middle_slice_is_shown() -> None:
    image, label = RNG.random((1, 7, 8, 9)), RNG.integers(0, 3, (7, 8, 9))
    wanted = drawn(image[:, 3], label[3])
    for cuts in ((), (3,), (2, 4)):
        assert np.array_equal(drawn(image, label, *cuts), wanted)


@pytest.mark.parametrize("scanner", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("cuts", [(), (2, 4), (1, 2, 3, 4, 5)])
def test_slices_are_shown_as_they_were_taken_across_the_coarsest_axis(
    axis: int, cuts: tuple[int, ...], scanner: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlay, "LONGEST", 4)
    image, label = RNG.random((1, 7, 8, 9)), RNG.integers(0, 3, (7, 8, 9))
    spacing = [0.8] * 3
    spacing[axis] = 3.0
    found = drawn(image, label, *cuts, spacing=spacing, scanner=scanner)
    place = label.shape[axis] // 2
    step = -(-max(n for a, n in enumerate(label.shape) if a != axis) // 4)
    plane, classes = image.take(place, axis + 1), label.take(place, axis)
    plane, classes = plane[:, ::step, ::step], classes[::step, ::step]
    if scanner:  # (x, y): x to the right, y upwards
        plane, classes = plane.swapaxes(1, 2)[:, ::-1], classes.T[::-1]
    assert np.array_equal(found, drawn(plane, classes))


def test_a_png_is_what_was_drawn() -> None:
    made = Overlay((6, 5))
    made.add(0, RNG.random((1, 6, 5)), np.eye(6, 5, dtype=int))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made.to_png()))), made.draw())
