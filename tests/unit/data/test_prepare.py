"""Normalising, de-noising, spectrograms, measuring and what is refused."""

import numpy as np
import pytest

from labelmend.data.prepare import Preparation, measure
from labelmend.errors import DataError, NonFiniteError, SettingsError, ShapeError
from labelmend.types import Raster


def raster(*shape, dtype=np.float32, spacing=None, seed=0):
    values = np.random.default_rng(seed).uniform(0, 200, size=shape).astype(dtype)
    return Raster(values, spacing)


@pytest.mark.parametrize("shape", [(1, 7), (2, 5, 6), (1, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16, np.int16])
def test_nothing_changes_when_nothing_is_asked(shape, dtype):
    source = raster(*shape, dtype=dtype)
    before = source.array.copy()
    prepare = Preparation(normalise="none", size=shape[1:])
    image, grid = prepare.image(source)
    assert image.dtype == np.float32 and np.array_equal(image, before) and grid.identity
    assert prepare.restore(image, grid) is image
    label, valid = np.arange(np.prod(shape[1:])).reshape(shape[1:]), np.ones(shape[1:], bool)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(prepare.label(label, valid, grid), (label, valid), strict=True)
    )


def test_zscore_is_per_channel_and_survives_a_large_offset():
    array = np.stack([np.arange(8.0), 1e7 + 4 * np.arange(8.0)])
    image, _ = Preparation().image(Raster(array))
    assert image.mean(1) == pytest.approx([0, 0], abs=1e-6)
    assert image.std(1) == pytest.approx([1, 1], abs=1e-6)


@pytest.mark.parametrize("normalise", ["zscore", "percentile"])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e30, 65535])
def test_a_constant_image_becomes_zeros(normalise, value):
    image, _ = Preparation(normalise=normalise).image(Raster(np.full((2, 9, 9), value)))
    assert not image.any()


def test_percentiles_become_0_and_1_and_outliers_are_clipped():
    array = np.concatenate([np.linspace(0, 100, 101), [1e9]])[None]
    image, _ = Preparation(normalise="percentile", percentiles=(0, 90)).image(Raster(array))
    assert image.min() == 0 and image.max() == 1
    assert image[0, 50] == pytest.approx(50 / np.percentile(array, 90), rel=1e-5)


def test_few_bright_positions_on_black_are_not_lost():
    array = np.zeros((1, 1000))
    array[0, 3] = 7
    image, _ = Preparation(normalise="percentile").image(Raster(array))
    assert image[0, 3] == 1 and image.sum() == 1


def test_denoising_removes_noise_per_channel():
    array = np.zeros((2, 15, 15), np.float32)
    array[0, 7, 7] = 100
    for kind, left in (("median", 0.0), ("gaussian", 100 / (2 * np.pi))):
        image, _ = Preparation(normalise="none", denoise=kind).image(Raster(array))
        assert image[0].max() == pytest.approx(left, rel=0.05) and not image[1].any()


def test_size_and_spacing_ask_for_the_same_grid():
    source = raster(1, 20, 30, spacing=(2.0, 1.0))
    by_size = Preparation(normalise="none", size=(40, 15)).image(source)
    by_spacing = Preparation(normalise="none", spacing=(1.0, 2.0)).image(source)
    assert np.array_equal(by_size[0], by_spacing[0]) and by_size[1] == by_spacing[1]
    assert by_size[1].grid_spacing == (1.0, 2.0)


def test_shrinking_keeps_the_mean_and_skips_nothing():
    array = np.zeros((1, 64), np.float32)
    array[0, 37] = 8
    image, _ = Preparation(normalise="none", size=(8,)).image(Raster(array))
    assert image[0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]


def test_labels_that_nobody_vouches_for_do_not_leak():
    prepare = Preparation(size=(3,))
    grid = prepare.grid((6,))
    valid = np.array([True, True, False, True, True, True])
    label = np.array([[1.0, 3.0, np.nan, 5.0, 7.0, 9.0]])
    moved, known = prepare.label(label, valid, grid)
    assert known.tolist() == [True, False, True] and np.isfinite(moved).all()
    assert moved[0, [0, 2]].tolist() == [2.0, 8.0]
    indices, known = prepare.label(np.array([1, 1, 9, 0, 2, 2]), valid, grid)
    assert indices[known].tolist() == [1, 2] and indices.dtype == np.int64


def test_growing_marks_what_touches_an_invalid_position():
    prepare = Preparation(size=(8,))
    valid = np.array([True, False, True, True])
    _, known = prepare.label(np.zeros(4, int), valid, prepare.grid((4,)))
    assert known.tolist() == [True, False, False, False, False, True, True, True]


def click(length, at):
    array = np.zeros((1, length), np.float32)
    array[0, at] = 1
    return Raster(array, (1 / 8000,))


@pytest.mark.parametrize("frame", [0, 3, 17])
def test_a_click_lands_in_the_frame_centred_on_it(frame):
    prepare = Preparation(normalise="none", spectrogram=True, window=64, hop=50)
    image, grid = prepare.image(click(1001, frame * 50))
    assert image.shape == (33, 21) == (prepare.channels(1), *grid.size)
    assert image.sum(0).argmax() == frame
    # symmetric about its frame: neither early nor late
    if frame:
        assert image[:, frame - 1] == pytest.approx(image[:, frame + 1], abs=1e-4)
    assert grid.grid_spacing == pytest.approx((50 / 8000,))


def test_frames_take_the_label_at_their_centre_and_scores_go_back_there():
    prepare = Preparation(spectrogram=True, window=64, hop=10)
    _, grid = prepare.image(click(100, 0))
    label = (np.arange(100) >= 30).astype(int)
    valid = np.arange(100) != 40
    frames, known = prepare.label(label, valid, grid)
    assert frames.tolist() == [0] * 3 + [1] * 7
    assert np.flatnonzero(~known).tolist() == [4]
    scores = prepare.restore(np.stack([1.0 - frames, frames]), grid)
    # the onset is known to half a hop
    assert abs(int(scores.argmax(0).argmax()) - 30) <= 5
    assert scores.shape == (2, 100)


def test_a_spectrogram_of_a_resampled_recording_keeps_its_times():
    prepare = Preparation(
        normalise="none", spectrogram=True, window=64, hop=16, spacing=(2 / 8000,)
    )
    source = click(4000, 2017)  # in the cell of sample 1008 of 4000 Hz, the centre of frame 63
    image, grid = prepare.image(source)
    centres = grid.origin[0] + grid.step[0] * np.arange(grid.size[0])
    loudest = int(image.sum(0).argmax())
    assert centres[loudest] == 2016.5 and loudest == 63
    assert grid.step == (32.0,) and grid.origin == (0.5,)


@pytest.mark.parametrize("length", [1, 5, 63, 64, 65])
def test_recordings_shorter_than_a_window_have_frames(length):
    image, grid = Preparation(spectrogram=True, window=64, hop=16).image(click(length, 0))
    assert image.shape[1:] == grid.size == ((length - 1) // 16 + 1,)


def test_long_spectrograms_are_the_same_in_pieces(monkeypatch):
    source = raster(1, 5000 * 4)
    image, _ = Preparation(normalise="none", spectrogram=True, window=16, hop=4).image(source)
    part = Raster(source.array[:, 4096 * 4 - 400 :])
    tail, _ = Preparation(normalise="none", spectrogram=True, window=16, hop=4).image(part)
    assert image[:, 4096 - 90 :] == pytest.approx(tail[:, 10:], abs=1e-3)


def test_the_volume_of_a_recording_does_not_matter():
    loud = raster(1, 3000)
    quiet = Raster(loud.array / 1024)
    prepare = Preparation(spectrogram=True, window=64, hop=16)
    assert prepare.image(loud)[0] == pytest.approx(prepare.image(quiet)[0], abs=1e-4)


def test_a_silent_recording_is_zeros():
    image, _ = Preparation(spectrogram=True, window=64, hop=16).image(Raster(np.zeros((1, 500))))
    assert not image.any()


def test_measuring_equals_all_positions_at_once():
    sources = [raster(2, 5 + n, 9, seed=n) for n in range(4)]
    measured = measure(Preparation(normalise="set"), iter(sources))
    together = np.concatenate([s.array.reshape(2, -1) for s in sources], axis=1).astype(np.float64)
    assert measured.mean == pytest.approx(together.mean(1))
    assert measured.deviation == pytest.approx(together.std(1))
    image, _ = measured.image(sources[0])
    wanted = (sources[0].array[1] - together[1].mean()) / together[1].std()
    assert image[1] == pytest.approx(wanted, abs=1e-5)


def test_measuring_sees_what_the_network_sees():
    prepare = Preparation(normalise="set", spectrogram=True, window=64, hop=16)
    sources = [raster(1, 900, seed=n) for n in range(2)]
    measured = measure(prepare, sources)
    both = np.concatenate([measured.image(s)[0] for s in sources], axis=1)
    assert both.mean(1) == pytest.approx(np.zeros(33), abs=1e-4)
    assert both.std(1) == pytest.approx(np.ones(33), abs=1e-4)


def test_measuring_refuses_what_it_cannot():
    with pytest.raises(DataError, match="at least one"):
        measure(Preparation(normalise="set"), [])
    with pytest.raises(DataError, match="2 channels"):
        measure(Preparation(normalise="set"), [raster(2, 4), raster(1, 4)])
    with pytest.raises(SettingsError, match="measure"):
        Preparation(normalise="set").image(raster(1, 4))
    with pytest.raises(DataError, match="this image has 2"):
        measure(Preparation(normalise="set"), [raster(1, 4)]).image(raster(2, 4))
    plain = Preparation()
    assert measure(plain, iter([])) is plain


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_bad_numbers_are_named(bad):
    array = np.zeros((2, 3, 3))
    array[1, 2, 0] = bad
    with pytest.raises(NonFiniteError, match=r"channel 1, position \(2, 0\)") as caught:
        Preparation().image(Raster(array))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"normalise": "minmax"},
        {"denoise": "tv"},
        {"percentiles": (50.0, 50.0)},
        {"percentiles": (-1.0, 50.0)},
        {"denoise_size": 0.0},
        {"spacing": (1.0, 0.0)},
        {"size": (0,)},
        {"size": (4,), "spacing": (1.0,)},
        {"window": 1},
        {"hop": 600},
        {"hop": 0},
    ],
)
def test_settings_that_cannot_be_used_are_refused(wrong):
    with pytest.raises(SettingsError, match=r"input\."):
        Preparation(**wrong)


def test_settings_and_files_that_do_not_fit():
    with pytest.raises(SettingsError, match="wants 2 numbers"):
        Preparation(size=(4,)).image(raster(1, 4, 4))
    with pytest.raises(SettingsError, match="one axis"):
        Preparation(spectrogram=True).image(raster(1, 4, 4))
    with pytest.raises(DataError, match="spacing"):
        Preparation(spacing=(1.0,)).image(raster(1, 4))
    with pytest.raises(DataError, match="complex"):
        Preparation().image(Raster(np.zeros((1, 4), complex)))
    prepare = Preparation(size=(2,))
    grid = prepare.grid((4,))
    with pytest.raises(ShapeError, match="positions are wanted"):
        prepare.label(np.zeros(3, int), np.ones(3, bool), grid)
    with pytest.raises(ShapeError, match="positions are wanted"):
        prepare.restore(np.zeros((2, 4)), grid)
    with pytest.raises(ShapeError, match="at least 0"):
        prepare.label(np.full(4, -1), np.ones(4, bool), grid)
