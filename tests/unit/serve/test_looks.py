"""What a page shows of a prediction: right values, for some minutes, in bounded memory."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from labelmend.errors import ShapeError
from labelmend.inference.overlay import Overlay
from labelmend.serve.looks import Look, Looks, colour


def shown(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def volume() -> Look:
    label = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    return Look(label[None] + 100, label)


def test_every_slice_of_every_axis() -> None:
    look = volume()
    for axis, length in enumerate(look.label.shape):
        for index in range(length):
            plane = np.take(look.label, index, axis)
            assert np.array_equal(shown(look.png("label", axis, index)), plane)
            assert np.array_equal(shown(look.png("image", axis, index)), plane + 100)
        middle = np.take(look.label, length // 2, axis)
        assert np.array_equal(shown(look.png("label", axis, None)), middle)
        with pytest.raises(ShapeError, match=f"0 to {length - 1}"):
            look.png("label", axis, length)


def test_pictures_in_grey_and_colours() -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 4, 5)).astype(np.uint8)
    look = Look(image, image[0])
    assert np.array_equal(shown(look.png("image", 0, None)), np.moveaxis(image, 0, -1))
    assert np.array_equal(shown(look.png("label", 0, 7)), image[0])
    with pytest.raises(ShapeError, match="no recording"):
        look.wave("image", 10)


@pytest.mark.parametrize("columns", [1, 3, 10, 99])
def test_a_wave_lies_between_its_columns(columns: int) -> None:
    values = np.random.default_rng(1).normal(size=10).astype(np.float32)
    look = Look(values[None], values > 0)
    found = look.wave("image", columns)
    many = min(columns, 10)
    assert len(found["low"]) == len(found["high"]) == many
    assert min(found["low"]) == values.min() and max(found["high"]) == values.max()
    if many == 10:
        assert found["low"] == found["high"] == values.tolist()
    with pytest.raises(ShapeError, match="no slices"):
        look.png("image", 0, None)


def test_colours_are_those_of_overlays() -> None:
    for index in range(1, 9):
        overlay = Overlay((5, 5))
        label = np.zeros((5, 5), int)
        label[2, 2] = index
        overlay.add(0, np.zeros((1, 5, 5)), label)
        drawn = overlay.draw()[2, 2].tobytes()
        assert colour(index) == f"#{drawn.hex()}"


def make(size: int) -> Look:
    return Look(np.zeros((1, size), np.uint8), np.zeros(size, np.uint8))


def test_the_oldest_go_when_there_are_too_many_or_they_take_too_much() -> None:
    looks = Looks(many=3, size=100)
    names = [looks.keep(make(10)) for _ in range(5)]
    assert [looks.find(str(name)) is not None for name in names] == [False, False, True, True, True]
    large = looks.keep(make(45))
    assert [looks.find(str(name)) is not None for name in names] == [False] * 5
    assert looks.find(str(large)) is not None
    assert looks.keep(make(51)) is None
    assert looks.find(str(large)) is not None


def test_nothing_is_kept_for_ever() -> None:
    now = [0.0]
    looks = Looks(seconds=10, clock=lambda: now[0])
    old = looks.keep(make(1))
    now[0] = 6
    new = looks.keep(make(1))
    now[0] = 11
    assert looks.find(str(old)) is None and looks.find(str(new)) is not None
    now[0] = 17
    assert looks.find(str(new)) is None


def test_names_cannot_be_guessed() -> None:
    looks = Looks()
    names = {looks.keep(make(1)) for _ in range(50)}
    assert len(names) == 50 and all(len(str(name)) == 24 for name in names)
    assert looks.find("") is None
