"""A mixed image is drawn from its own arrays, each where its name says, whatever the dimension."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from labelmend.report.mixed_pictures import MixedPainter
from labelmend.report.views import as_pixels, display_range
from labelmend.training.assembly.examples import MixedExample
from labelmend.types import DataSpec

NAMES = ["first image", "second image", "mixed image", "pseudo-label", "main model"]


def spec(dims: int, channels: int = 1, classes: int = 2) -> DataSpec:
    names = ("rest", "thing", "other")[:classes]
    return DataSpec("segmentation", names, (0, 1, 2)[:classes], None, dims, channels, "none", "")


def example(*size: int, channels: int = 1, names: tuple[str, ...] = ("main", "auxiliary")):
    """Arrays that differ everywhere, and boxes at places of their own."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, channels, *size)).astype(np.float32)

    def box(at: int) -> np.ndarray:
        found = np.zeros(size, np.int64)
        found[tuple(slice(at, at + 3) for _ in size)] = 1
        return found

    teaches = np.ones(size, bool)
    teaches[(0,) * len(size)] = False
    return MixedExample(
        step=60,
        samples=("labels/strong/<a>.npy", "labels/weak/b.npy"),
        cut=1,
        weights=(1.0, 0.25),
        images=(images[0], images[1]),
        mask=box(1) > 0,
        mixed=images[2],
        target=box(4),
        teaches=teaches,
        predicted={name: box(6 + place) for place, name in enumerate(names)},
        differ=0.125,
        spacing=None,
        affine=None,
    )


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def corner(frame: str, style: str) -> list[float]:
    """The place of a line's first corner: the least of its coordinates."""
    (line,) = re.findall(rf'<path class="{style}" d="([^"]+)"', frame)
    return np.array(re.findall(r"[-\d.]+", line), float).reshape(-1, 2).min(0).tolist()


def frames(html: str) -> dict[str, str]:
    """What is drawn under each name."""
    parts = re.split(r"<span>([^<]+)</span>", html)
    return dict(zip(parts[1::2], parts[::2], strict=False))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_shows_its_own_array(channels: int) -> None:
    made = example(12, 16, channels=channels)
    html, note = MixedPainter(spec(2, channels), "pseudo-label", "gated").draw(made)
    assert note == ""
    # Three channels are colour; both images decide what is black and white.
    limits = display_range(np.stack(made.images))
    arrays = [*made.images, *[made.mixed] * 4]
    assert len(pictures(html)) == len(arrays)
    for picture, array in zip(pictures(html), arrays, strict=True):
        assert np.array_equal(picture, as_pixels(array, limits))


def test_every_line_is_drawn_where_it_belongs() -> None:
    html, _ = MixedPainter(spec(2), "pseudo-label", "gated").draw(example(12, 16))
    found = frames(html)
    assert list(found) == [*NAMES, "auxiliary model"]
    assert corner(found["first image"], "label k1") == [1, 1]
    assert "<path" not in found["second image"]
    assert corner(found["mixed image"], "label k1") == [1, 1]
    assert corner(found["pseudo-label"], "label k1") == [4, 4]
    assert '<path class="gated" d="M0 0h1v1h-1z">' in found["pseudo-label"]
    assert corner(found["main model"], "prediction k1") == [6, 6]
    assert corner(found["auxiliary model"], "prediction k1") == [7, 7]
    assert html.count("gated") == 1


def test_every_picture_has_words_of_its_own() -> None:
    html, _ = MixedPainter(spec(2), "pseudo-label", "gated").draw(example(12, 16))
    alts = re.findall(r'alt="([^"]+)"', html)
    assert len(set(alts)) == len(alts) == 6
    assert "first image, of labels/strong/&lt;a&gt;.npy, with what is thing in" in alts[0]
    assert alts[3].startswith("pseudo-label, with what teaches nothing marked, for ")
    assert alts[5].startswith("what auxiliary model says, for ")


def test_one_network_is_the_model_and_labels_are_mixed_labels() -> None:
    made = example(12, 16, names=("main",))
    html, _ = MixedPainter(spec(2), "mixed label", "ignored").draw(made)
    assert list(frames(html)) == [*NAMES[:3], "mixed label", "the model"]
    assert '<path class="ignored"' in html


def test_what_a_label_leaves_open_has_no_line() -> None:
    made = replace(example(12, 16), teaches=np.zeros((12, 16), bool))
    html, _ = MixedPainter(spec(2), "mixed label", "ignored").draw(made)
    assert '"label' not in frames(html)["mixed label"]


def test_a_cut_background_has_a_colour() -> None:
    html, _ = MixedPainter(spec(2), "pseudo-label", "gated").draw(replace(example(12, 16), cut=0))
    assert corner(frames(html)["first image"], "label k0") == [1, 1]


def test_a_volume_is_cut_through_the_mask() -> None:
    made = example(9, 10, 11)
    made.mask[:] = False
    made.mask[3, 2:4, 2:4] = made.mask[4, 1:6, 1:6] = True
    html, note = MixedPainter(spec(3), "pseudo-label", "gated").draw(made)
    assert note == "slice 5 of 9 along the first axis"
    limits = display_range(np.stack([image[:, 4] for image in made.images]))
    shown = [*(image[:, 4] for image in made.images), made.mixed[:, 4]]
    for picture, plane in zip(pictures(html), shown, strict=False):
        assert np.array_equal(picture, as_pixels(plane, limits))


def test_a_scan_lies_as_other_pictures_of_it_do() -> None:
    made = replace(example(9, 10, 11), spacing=(1.0, 1.0, 4.0), affine=np.eye(4))
    html, note = MixedPainter(spec(3), "pseudo-label", "gated").draw(made)
    assert note == "slice 2 of 11 along the third axis"
    limits = display_range(np.stack([image[..., 1] for image in made.images]))
    upright = made.mixed[0, :, :, 1].T[::-1]
    assert np.array_equal(pictures(html)[2], as_pixels(upright[None], limits))


def test_a_recording_is_a_strip_of_waves_and_bands() -> None:
    html, note = MixedPainter(spec(1), "pseudo-label", "gated").draw(example(40))
    assert note == "40 positions"
    names = re.findall(r"<span>([^<]+)</span>", html)
    models = ["main model", "auxiliary model"]
    assert names == ["first image", "second image", "pseudo-label", "mixed image", *models]
    drawn = dict(zip(names, re.split(r"<span>[^<]+</span>", html)[1:], strict=True))
    boxes = {
        name: re.findall(r'class="([^"]+)" x="([\d.]+)"', part) for name, part in drawn.items()
    }
    assert boxes == {
        "first image": [("tint k1", "25")],
        "second image": [],
        "pseudo-label": [("gated", "0"), ("band label k1", "100")],
        "mixed image": [("tint k1", "25")],
        "main model": [("band prediction k1", "150")],
        "auxiliary model": [("band prediction k1", "175")],
    }
    waves = re.findall(r'class="signal" d="([^"]+)"', html)
    assert len(set(waves)) == 3
    (alt,) = re.findall(r'aria-label="([^"]+)"', html)
    assert alt.startswith("first image, of labels/strong/&lt;a&gt;.npy")
    assert "what auxiliary model says" in alt


def test_a_spectrogram_shows_the_first_channel_with_low_tones_below() -> None:
    made = replace(example(40, channels=6), spacing=(0.5,))
    html, note = MixedPainter(spec(1, channels=2), "pseudo-label", "gated", True).draw(made)
    assert note == "20 s"
    limits = display_range(np.stack([image[2::-1] for image in made.images]))
    arrays = [*made.images, made.mixed]
    for picture, array in zip(pictures(html), arrays, strict=True):
        assert np.array_equal(picture, as_pixels(array[None, 2::-1], limits))
