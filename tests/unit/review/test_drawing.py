"""Pictures show every position where it is, and no extreme of a recording is lost."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from labelmend.errors import ShapeError
from labelmend.review.drawing import (
    LABEL,
    MOST_COLUMNS,
    PREDICTION,
    SMALL,
    as_bytes,
    as_grey,
    as_pixels,
    colour,
    draw_plane,
    draw_recording,
    draw_spectrogram,
    encode_png,
    envelope,
    shrink,
    suggest_contrast,
)

RNG = np.random.default_rng


def test_classes_have_colours_of_their_own() -> None:
    colours = [colour(index) for index in range(255)]
    assert len(set(colours)) >= 250
    assert all(len(one) == 7 and int(one[1:], 16) >= 0 for one in colours)
    assert len(set(colours[:30])) == 30


def test_every_class_and_unknown_is_a_byte_of_its_own() -> None:
    label = np.arange(-1, 255, dtype=np.int16)
    assert as_bytes(label).tolist() == [255, *range(255)]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_contrast_leaves_out_what_is_rare(kind: type) -> None:
    image = RNG(0).integers(20, 90, (1, 50, 50)).astype(kind)
    image[0, 0, 0] = 120
    low, high = suggest_contrast(image)
    assert 20 <= low < 24
    assert 86 < high < 90


def test_contrast_of_colours_is_left_alone_and_of_flat_images_is_some() -> None:
    assert suggest_contrast(np.full((3, 4, 4), 7, np.uint8)) == (0.0, 255.0)
    for value in (0.0, 5.0, -1e6):
        low, high = suggest_contrast(np.full((1, 4, 4), value))
        assert low <= value < high
    rare = np.zeros((1, 100, 100))
    rare[0, 3, 3] = 8
    assert suggest_contrast(rare) == (0.0, 8.0)


def test_contrast_of_large_images_is_that_of_all_their_parts() -> None:
    image = np.linspace(0, 1, 3_000_001)[None]
    assert suggest_contrast(image) == pytest.approx((0.005, 0.995), abs=1e-3)


@given(
    arrays(np.float64, (2, 3, 4), elements=st.floats(-1e300, 1e300)),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_pixels_rise_with_values_and_stay_in_bounds(
    plane: np.ndarray, low: float, width: float
) -> None:
    pixels = as_pixels(plane, (low, low + width))
    assert pixels.shape == (3, 4)
    order = np.argsort(plane[0], axis=None)
    assert (np.diff(pixels.ravel()[order].astype(int)) >= 0).all()
    assert (pixels[plane[0] <= low] == 0).all()
    assert (pixels[plane[0] >= low + width] == 255).all()


@pytest.mark.parametrize("kind", ["u1", "i1", "<u2", ">u2", "<i2"])
@pytest.mark.parametrize("limits", [(0.0, 255.0), (-3.5, 90.25), (1e4, 5e4), (7.0, 7.5)])
def test_whole_numbers_are_shown_as_the_same_ones_with_a_point(
    kind: str, limits: tuple[float, float]
) -> None:
    of = np.iinfo(np.dtype(kind))
    plane = np.random.default_rng(0).integers(of.min, of.max, (3, 9, 7), endpoint=True)
    plane[0, 0, :2] = of.min, of.max
    wanted = as_pixels(plane.astype(np.float64), limits)
    assert np.array_equal(as_pixels(plane.astype(kind), limits), wanted)


def test_channels() -> None:
    plane = np.stack([np.full((2, 2), value) for value in (0, 128, 255)])
    assert as_pixels(plane, (0, 255))[0, 0].tolist() == [0, 128, 255]
    assert as_pixels(plane, (0, 255), channel=1).tolist() == [[128, 128], [128, 128]]
    assert as_pixels(plane[:2], (0, 255)).tolist() == [[0, 0], [0, 0]]


def test_grey_levels_leave_a_byte_for_unknown() -> None:
    values = np.array([-5.0, 0.0, 1.0, 2.0, 1e308, np.nan])
    assert as_grey(values, (0.0, 2.0)).tolist() == [0, 0, 127, 254, 254, 255]


@pytest.mark.parametrize("shape", [(5, 9), (5, 9, 3), (1, 1)])
def test_pictures_come_back_bit_by_bit(shape: tuple[int, ...]) -> None:
    pixels = RNG(0).integers(0, 256, shape, dtype=np.uint8)
    found = np.asarray(Image.open(io.BytesIO(encode_png(pixels[::-1]))))
    assert np.array_equal(found, pixels[::-1])


# --- small pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "small"),
    [((20, 24), (120, 144)), ((160, 40), (160, 40)), ((161, 40), (160, 40)), ((3000, 2), (160, 1))],
)
def test_small_pictures_keep_their_shape(size: tuple[int, int], small: tuple[int, int]) -> None:
    for pixels in (np.zeros(size, np.uint8), np.zeros((*size, 3), np.uint8)):
        assert shrink(pixels).shape[:2] == small


@pytest.mark.parametrize("size", [(16, 16), (400, 300)])
def test_outlines_lie_where_labels_end(size: tuple[int, int]) -> None:
    label = np.zeros(size, np.int16)
    label[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
    drawn = draw_plane(np.zeros(size, np.uint8), label, np.roll(label, size[0] // 4, 0))
    rows, columns = np.nonzero((drawn == LABEL).all(-1))
    height, width = drawn.shape[:2]
    assert abs(rows.min() - height / 4) <= 1
    assert abs(columns.min() - width / 4) <= 1
    assert abs(columns.max() - width / 2) <= 1
    below = np.nonzero((drawn == PREDICTION).all(-1))[0]
    assert abs(below.max() - height * 3 / 4) <= 1
    assert not (draw_plane(np.zeros(size, np.uint8), label, None) == PREDICTION).all(-1).any()


def test_strips_of_recordings_say_class_and_place() -> None:
    label = np.zeros(320, np.int16)
    label[160:] = 2
    label[:16] = -1
    drawn = draw_recording(np.sin(np.arange(320.0)), label, None)
    strip = drawn[-1]
    assert drawn.shape[1] == SMALL
    assert (strip[:8] == 0).all()
    assert (strip[8:80] == [int(colour(0)[i : i + 2], 16) for i in (1, 3, 5)]).all()
    assert (strip[80:] == [int(colour(2)[i : i + 2], 16) for i in (1, 3, 5)]).all()


@pytest.mark.parametrize("length", [1, 2, 7, 159, 160, 161, 5000])
def test_recordings_of_any_length_are_drawn(length: int) -> None:
    label = np.zeros(length, np.int16)
    flat = draw_recording(np.ones(length), label, label)
    assert flat.shape == draw_recording(np.arange(length), label, label).shape == (64, 160, 3)


# --- recordings -----------------------------------------------------------------------------------


@given(
    arrays(np.int32, st.tuples(st.integers(1, 3), st.integers(1, 60))),
    st.data(),
)
def test_an_envelope_holds_every_value_of_its_part(signal: np.ndarray, data: st.DataObject) -> None:
    length = signal.shape[1]
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    columns = data.draw(st.integers(1, 80))
    low, high = envelope(signal, start, stop, columns)
    assert low.shape == high.shape == (len(signal), min(columns, stop - start))
    part = signal[:, start:stop]
    assert (low.min(1) == part.min(1)).all()
    assert (high.max(1) == part.max(1)).all()
    many = low.shape[1]
    for column in range(many):
        first = column * (stop - start) // many
        last = (column + 1) * (stop - start) // many
        assert (low[:, column] == part[:, first:last].min(1)).all()
        assert (high[:, column] == part[:, first:last].max(1)).all()


@pytest.mark.parametrize(
    ("start", "stop", "columns"),
    [(0, 0, 5), (3, 2, 5), (-1, 4, 5), (0, 11, 5), (0, 10, 0), (0, 10, MOST_COLUMNS + 1)],
)
def test_parts_that_are_none_are_refused(start: int, stop: int, columns: int) -> None:
    with pytest.raises(ShapeError):
        envelope(np.zeros((1, 10)), start, stop, columns)


@pytest.mark.parametrize("hertz", [50.0, 300.0, 900.0])
@pytest.mark.parametrize("length", [500, 8000, 2_000_000])
def test_a_tone_is_bright_at_its_frequency(hertz: float, length: int) -> None:
    rate = 2000.0
    drawn = draw_spectrogram(np.sin(2 * np.pi * hertz * np.arange(length) / rate), 1 / rate)
    rows, columns = drawn.shape
    assert columns <= 1024
    brightest = np.median(drawn.argmax(0))
    assert brightest == pytest.approx((rows - 1) * (1 - hertz / (rate / 2)), abs=1.5)


def test_a_short_sound_in_a_long_recording_is_seen_where_it_is() -> None:
    signal = np.zeros(3_000_000)
    signal[1_500_000:1_500_400] = np.sin(np.arange(400.0))
    drawn = draw_spectrogram(signal, 1 / 8000)
    assert abs(int(drawn.max(0).argmax()) - drawn.shape[1] // 2) <= 1


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_the_shortest_recordings_have_a_spectrogram(length: int) -> None:
    assert draw_spectrogram(np.arange(float(length)), 1.0).size >= 1
