"""Displacements over one large image, patch by patch, as arrows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from labelmend.alignment.correlation import Places
from labelmend.alignment.parts import PatchAligner
from labelmend.data.grid import Grid
from labelmend.files.readers import load_verified, read_as
from labelmend.inference.fix import Opened, open_sample
from labelmend.inference.predictor import Predictor
from labelmend.inference.search import Search
from labelmend.report.markup import Html, element
from labelmend.report.place_pictures import Arrow, draw_quiver
from labelmend.types import CLEAR, Sample

PATCH = 128
"""Positions of a patch, along both axes, as the network sees them."""

LEAST = 4
"""An image with fewer patches along its longer axis is not shown by patches."""

MOST = 12
"""Of a larger image only so many patches along an axis are shown, those in its middle."""

_TRIED = 3


def make_quiver(predictor: Predictor, search: Search) -> list[Html]:
    """The largest weak image with an arrow per patch; nothing where none is large enough.

    Raises:
        LabelmendError: when a file changed or cannot be predicted.
    """
    found = _largest(predictor)
    if found is None:
        return []
    opened = open_sample(predictor, found)
    cut = _middle(opened.grid.size)
    arrows = patch_arrows(predictor, search, opened, cut)
    if not any(one.clear for one in arrows):
        return []
    shown, inner = _in_file(arrows, opened.grid, cut)
    image = opened.raster.array[(slice(None), *inner)]
    step = min(opened.grid.step)
    alt = f"{found.image} with an arrow for every patch of {found.label}"
    picture, larger = draw_quiver(image, shown, PATCH * step, alt)
    clear = [one for one in arrows if one.clear]
    caption = element(
        "figcaption",
        element("code", found.label),
        element("span", _words(arrows, larger, whole=cut == _every(opened.grid.size))),
    )
    mean = np.mean([one.displacement for one in clear], axis=0)
    spread = np.std([one.displacement for one in clear], axis=0).max()
    text = (
        f"One large label, in patches of {PATCH} × {PATCH} positions that are looked at one by "
        "one. Where arrows agree, one shift puts all of it in place; where they do not, the "
        f"label is bent. Here the mean is {mean[0]:+.1f} down, {mean[1]:+.1f} to the right, and "
        f"patches differ from it by {spread:.1f} positions."
    )
    tile = element("figure", picture, caption, class_="tile slide")
    return [element("h3", "Displacements over one image"), element("p", _minus(text)), tile]


def patch_arrows(
    predictor: Predictor, search: Search, opened: Opened, cut: tuple[slice, ...]
) -> list[Arrow]:
    """Where every patch of a label belongs that says anything, in positions of the grid."""
    seen, label, valid = opened.compared(predictor)
    every: Places = (..., *cut)
    claimed = torch.from_numpy(label[every].copy())[None]
    claimed = claimed if claimed.is_floating_point() else claimed.long()
    known = torch.from_numpy(valid[cut].copy())[None]
    patches = PatchAligner(PATCH, search.shifts)
    found = patches.find(torch.from_numpy(seen[every].copy())[None], claimed, known)
    arrows = []
    for place, region in enumerate(patches.regions(known.shape[1:])):
        reason = int(found.reason[0, place])
        of_patch: Places = (..., *region.slices)
        inside = claimed[of_patch]
        if inside.numel() and bool((inside != inside.flatten()[0]).any()):
            pairs = zip(region.start, region.slices, known.shape[1:], strict=True)
            y, x = ((a + min(s.stop, n)) / 2 for a, s, n in pairs)
            down, right = (float(v) for v in found.displacement[0, place])
            arrows.append(Arrow((y, x), (down, right), reason in CLEAR))
    return arrows


def _in_file(
    arrows: list[Arrow], grid: Grid, cut: tuple[slice, ...]
) -> tuple[list[Arrow], tuple[slice, ...]]:
    """Arrows and the part of the image they lie in, in positions of the file."""
    begins = [round(s.start * step) for s, step in zip(cut, grid.step, strict=True)]
    ends = [round(s.stop * step) for s, step in zip(cut, grid.step, strict=True)]
    down, right = grid.step
    moved = [
        Arrow(
            (one.centre[0] * down, one.centre[1] * right),
            (one.displacement[0] * down, one.displacement[1] * right),
            one.clear,
        )
        for one in arrows
    ]
    return moved, tuple(slice(a, b) for a, b in zip(begins, ends, strict=True))


def _every(size: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in size)


def _middle(size: tuple[int, ...]) -> tuple[slice, ...]:
    cut = []
    for n in size:
        shown = min(n, MOST * PATCH)
        cut.append(slice((n - shown) // 2, (n - shown) // 2 + shown))
    return tuple(cut)


def _largest(predictor: Predictor) -> Sample | None:
    """The weak sample with the largest image, of those whose files are largest."""
    run = predictor.run
    root = Path(run.data.root)
    if run.data.spec.dims != 2:
        return None
    sizes = {
        s.image: (root / s.image).stat().st_size for s in run.weak if (root / s.image).exists()
    }
    names = sorted(sizes, key=lambda name: -sizes[name])[:_TRIED]
    samples = {sample.image: sample for sample in reversed(run.weak)}
    found: list[tuple[int, Sample]] = []
    for name in names:
        content = load_verified(root / name, samples[name].image_sha256)
        raster = read_as(root / name, run.data.spec, content=content)
        grid = predictor.preparation.grid(raster.array.shape[1:], raster.spacing)
        if max(grid.size) >= LEAST * PATCH and min(grid.size) >= PATCH:
            found.append((grid.size[0] * grid.size[1], samples[name]))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _words(arrows: list[Arrow], larger: float, *, whole: bool) -> str:
    unclear = sum(not one.clear for one in arrows)
    text = f" {len(arrows)} patches with something in them, {unclear} unclear (grey dots)"
    if larger > 1.05:
        text += f"; arrows are drawn {larger:.0f} times as long as they are"
    return text + ("." if whole else "; the middle of the image.")


def _minus(text: str) -> str:
    return text.replace(" -", " −")
