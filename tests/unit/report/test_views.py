"""What is shown of a sample: the right slice, the right way up, lines in the right place."""

from __future__ import annotations

import re

import numpy as np
import pytest

from labelmend.report.views import Loaded, View, as_pixels, encode, outline, spans, wave
from labelmend.types import Raster


def volume(shape: tuple[int, ...], label: np.ndarray | None = None, **raster: object) -> Loaded:
    found = np.zeros(shape, int) if label is None else label
    return Loaded(Raster(np.zeros((1, *shape)), **raster), found, np.ones(shape, bool))


def test_the_slice_with_most_label_is_shown() -> None:
    label = np.zeros((5, 6, 7), int)
    label[1, 2, 3] = 1
    label[3, 2:5, 3] = 2
    view = View.of(volume(label.shape, label), task="segmentation")
    assert (view.axis, view.index) == (0, 3)
    assert view.note == "slice 4 of 5 along the first axis"


def test_ignored_positions_do_not_choose_the_slice() -> None:
    label = np.zeros((5, 6, 7), int)
    label[1, 2, 3] = 1
    label[3] = 1
    loaded = volume(label.shape, label)
    loaded.valid[3] = False
    assert View.of(loaded, task="segmentation").index == 1


def test_an_empty_label_shows_the_middle() -> None:
    assert View.of(volume((5, 6, 7)), task="segmentation").index == 2


def test_the_coarsest_axis_is_sliced() -> None:
    view = View.of(volume((5, 6, 7), spacing=(1.0, 3.0, 1.0)), task="segmentation")
    assert (view.axis, view.depth) == (1, 6)


def test_a_scanners_volume_lies_with_its_second_axis_up() -> None:
    view = View.of(volume((2, 3, 4), affine=np.eye(4)), task="segmentation")
    array = np.arange(24).reshape(2, 3, 4)
    assert view.axis == 2
    assert view.plane(array).tolist() == array[:, :, view.index].T[::-1].tolist()
    assert view.plane(array[None])[0].tolist() == view.plane(array).tolist()


def test_positions_that_are_no_squares_keep_their_shape() -> None:
    flat = View.of(volume((4, 5), spacing=(2.0, 1.0)), task="segmentation")
    assert flat.aspect == 0.5
    scan = volume((4, 5, 6), spacing=(1.0, 2.0, 4.0), affine=np.eye(4))
    assert View.of(scan, task="segmentation").aspect == 0.5
    assert View.of(volume((4, 5)), task="segmentation").aspect == 1.0


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_three_channels_are_colour_and_others_show_their_first(channels: int) -> None:
    plane = np.stack([np.full((2, 3), 10.0 * c) for c in range(channels)])
    plane[:, 0, 0] = 50
    pixels = as_pixels(plane)
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((2, 3, 3) if channels == 3 else (2, 3))
    assert pixels.max() == 255


def test_colours_of_pictures_are_left_alone() -> None:
    plane = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert as_pixels(plane)[:, :, 1].tolist() == plane[1].tolist()


def test_a_flat_image_has_pixels() -> None:
    assert as_pixels(np.full((1, 2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


def test_large_pictures_become_tiles_and_small_ones_stay() -> None:
    address, size, tiny = encode(np.zeros((1000, 500), np.uint8))
    assert (size, tiny) == ((160, 320), False)
    assert address.startswith("data:image/jpeg;base64,")
    address, size, tiny = encode(np.zeros((20, 30), np.uint8))
    assert (size, tiny) == ((30, 20), True)
    assert address.startswith("data:image/png;base64,")


def numbers(path: str) -> np.ndarray:
    return np.array(re.findall(r"[-\d.]+", path), float).reshape(-1, 2)


def test_an_outline_runs_around_its_object() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:10, 12:20] = True
    points = numbers(outline(mask))
    assert (points.min(0).tolist(), points.max(0).tolist()) == ([12, 5], [20, 10])


def test_an_outline_closes_at_the_border_and_follows_the_tile() -> None:
    mask = np.zeros((640, 640), bool)
    mask[:320, :] = True
    points = numbers(outline(mask))
    assert np.allclose(points.min(0), 0, atol=1)
    assert np.allclose(points.max(0), [320, 160], atol=1)


def test_two_objects_have_two_outlines() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:6, 2:6] = mask[10:16, 10:16] = True
    assert outline(mask).count("M") == 2


def test_spans_touch_both_ends() -> None:
    assert spans(np.array([1, 0, 2, 1]), 1) == [(0.0, 0.25), (0.75, 1.0)]
    assert spans(np.array([0, 0]), 1) == []


def test_a_long_signal_keeps_its_extremes() -> None:
    signal = np.zeros(100_000)
    signal[31_415] = 1
    path = wave(signal, (0.0, 1.0))
    assert path.count("L") < 1000
    assert numbers(path)[:, 1].min() == 0
