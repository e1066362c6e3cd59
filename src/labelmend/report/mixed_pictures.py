"""A mixed image as pictures: the two it is made of, what it teaches, what models say of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from labelmend.report.legend import colour
from labelmend.report.markup import Html, element, join
from labelmend.report.pictures import (
    make_boxes,
    make_canvas,
    make_cells,
    make_frame,
    make_lane,
    make_outline,
    make_outlines,
    make_shade,
)
from labelmend.report.views import Loaded, View, as_pixels, display_range, encode, wave
from labelmend.training.assembly.examples import MixedExample
from labelmend.types import DataSpec, Raster


@dataclass(frozen=True, slots=True)
class MixedPainter:
    """Draws the mixed images of one run.

    ``taught`` is what their target is called, ``shaded`` the style of what teaches nothing;
    ``spectrogram`` says whether patches of recordings are spectrograms.
    """

    spec: DataSpec
    taught: str
    shaded: str
    spectrogram: bool = False

    def draw(self, example: MixedExample) -> tuple[Html, str]:
        """The pictures, and a note on what part of the patch they show."""
        if self.spec.dims == 1:
            return self._strip(example), _note_on_time(example)
        view = _view(example)
        planes = [view.plane(array) for array in (*example.images, example.mixed)]
        # On one scale, so that what was cut out looks the same where it was put.
        limits = display_range(np.stack([_shown(plane) for plane in planes[:2]]))
        first, second, mixed = (as_pixels(plane, limits) for plane in planes)
        cut = make_outline("label", view.plane(example.mask), example.cut)
        teaches = view.plane(example.teaches)
        target = make_outlines("label", view.plane(example.target), teaches)
        said = [
            (name, mixed, make_outlines("prediction", view.plane(classes)))
            for name, classes in self._models(example)
        ]
        panels = [
            ("first image", first, cut),
            ("second image", second, None),
            ("mixed image", mixed, cut),
            (self.taught, mixed, join(self._left_out(~teaches), target)),
            *said,
        ]
        frames = [
            element(
                "div",
                make_frame(pixels, layers, self._alt(name, example), view.aspect),
                element("span", name),
            )
            for name, pixels, layers in panels
        ]
        return element("div", *frames, class_=f"row of{len(frames)}"), view.note

    def _left_out(self, mask: np.ndarray) -> Html | None:
        """Colour over what teaches nothing: a gate leaves out one position here, one there."""
        return make_cells(mask, self.shaded) if self.shaded == "gated" else make_shade(mask)

    # ------------------------------------------------------------------ recordings and spectra

    def _strip(self, example: MixedExample) -> Html:
        """Both images, then the mixed one with what it teaches above and what is said below."""
        cut = make_boxes(f"tint {colour(example.cut)}", example.mask)
        first, second, mixed = self._waves(example, (cut, None, cut))
        everywhere = np.ones_like(example.mask)
        rows = [
            ("first image", first),
            ("second image", second),
            (self.taught, make_lane("label", example.target, example.teaches, self.shaded)),
            ("mixed image", mixed),
        ]
        for name, classes in self._models(example):
            rows.append((name, make_lane("prediction", classes, everywhere)))
        parts = [element("div", element("span", name), drawing) for name, drawing in rows]
        alt = "; ".join(self._alt(name, example) for name, _ in rows)
        return element("div", *parts, class_="strip named", role="img", aria_label=alt)

    def _waves(self, example: MixedExample, tints: tuple[Html | None, ...]) -> list[Html]:
        """Both images and the mixed one on one scale, each with its tint."""
        arrays = (*example.images, example.mixed)
        if self.spectrogram:
            # A spectrogram has a channel for every frequency, those of the first channel first.
            bins = example.mixed.shape[0] // self.spec.channels
            planes = [array[None, bins - 1 :: -1] for array in arrays]
            limits = display_range(np.stack(planes[:2]))
            return [
                _picture(as_pixels(plane, limits), tint)
                for plane, tint in zip(planes, tints, strict=True)
            ]
        limits = (
            min(float(image[0].min()) for image in example.images),
            max(float(image[0].max()) for image in example.images),
        )
        lines = [element("path", class_="signal", d=wave(array[0], limits)) for array in arrays]
        return [
            element("div", make_canvas(join(tint, line)), class_="wave")
            for line, tint in zip(lines, tints, strict=True)
        ]

    # ------------------------------------------------------------------ words

    def _models(self, example: MixedExample) -> Iterator[tuple[str, np.ndarray]]:
        for name, classes in example.predicted.items():
            yield (f"{name} model" if len(example.predicted) > 1 else "the model"), classes

    def _alt(self, name: str, example: MixedExample) -> str:
        """What is to be seen in one of the pictures."""
        first, second = example.samples
        cut = f"what is {self.spec.classes[example.cut]} in {first}"
        if name == "first image":
            return f"first image, of {first}, with {cut} marked"
        if name == "second image":
            return f"second image, of {second}"
        if name == "mixed image":
            return f"mixed image: {cut}, put into the image of {second}"
        left_out = "" if example.teaches.all() else ", with what teaches nothing marked"
        what = f"{name}{left_out}" if name == self.taught else f"what {name} says"
        return f"{what}, for {first} in {second}"


def _view(example: MixedExample) -> View:
    """Which plane is shown: of a volume the slice that holds most of what is cut out."""
    raster = Raster(example.images[0], example.spacing, example.affine)
    everywhere = np.ones_like(example.mask)
    return View.of(Loaded(raster, example.mask.astype(int), everywhere), task="segmentation")


def _shown(plane: np.ndarray) -> np.ndarray:
    """The channels of a plane that become pixels."""
    return plane if len(plane) == 3 else plane[:1]


def _picture(pixels: np.ndarray, tint: Html | None) -> Html:
    address, _, _ = encode(pixels)
    image = element("img", src=address, alt="spectrogram", loading="lazy")
    return element("div", image, make_canvas(join(tint)), class_="wave")


def _note_on_time(example: MixedExample) -> str:
    length, spacing = example.mask.shape[0], example.spacing
    return f"{length * spacing[0]:.3g} s" if spacing else f"{length:,} positions"
