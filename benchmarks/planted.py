"""Images whose labels are known to be right or wrong: what every judge of labels is tried on.

Right labels are the truth with a border that wanders by a position or two, as drawn by a quick
but honest hand. What is wrong with a bad one is known: it lies elsewhere, belongs to another
image, is empty, or is far too large or too small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

SCENES = {
    "mixed mistakes": (1 / 3, ("shifted", "wrong", "empty", "too large", "too small")),
    "same mistake": (3 / 5, ("too large",)),
}
"""What share of the weak labels is bad, and what is wrong with them in turn."""

SIDE = 96


@dataclass(frozen=True)
class Planted:
    """Images with strong labels first, then weak ones.

    Attributes:
        image: ``(samples, channels, rows, columns)`` float32, each with mean 0 and deviation 1.
        truth: ``(samples, rows, columns)`` bool.
        label: ``(samples, rows, columns)`` bool; the truth for strong samples.
        fault: what is wrong with each label; empty where nothing is.
        strong: how many samples are strong.
    """

    image: np.ndarray
    truth: np.ndarray
    label: np.ndarray
    fault: tuple[str, ...]
    strong: int

    @property
    def bad(self) -> np.ndarray:
        """``(weak,)`` bool: which weak labels are bad."""
        return np.array([fault != "" for fault in self.fault[self.strong :]])


def plant(image: np.ndarray, truth: np.ndarray, strong: int, seed: int, scene: str) -> Planted:
    """Make the labels of all but the first ``strong`` samples rough or bad."""
    rng = np.random.default_rng([seed, 1])
    weak = len(image) - strong
    share, faults = SCENES[scene]
    kinds = [faults[i % len(faults)] for i in range(round(weak * share))]
    fault = ["" for _ in range(strong)] + [
        *rng.permutation([*kinds, *[""] * (weak - len(kinds))]).tolist()
    ]
    label = truth.copy()
    for place in range(strong, len(image)):
        others = [i for i in range(len(image)) if i != place]
        label[place] = _claimed(truth, place, fault[place], others, rng)
    return Planted(image.astype(np.float32), truth, label, tuple(fault), strong)


def _claimed(
    truth: np.ndarray, place: int, fault: str, others: list[int], rng: np.random.Generator
) -> np.ndarray:
    mask = truth[place]
    if fault == "empty":
        return np.zeros_like(mask)
    if fault == "wrong":
        for other in rng.permutation(others):
            if overlap(truth[other], mask) < 0.4:
                return truth[other]
    if fault == "too large":
        return _resized(mask, 2.2)
    if fault == "too small":
        return _resized(mask, 0.35)
    if fault in ("shifted", "wrong"):
        return _shifted(mask, rng)
    return _wandering(mask, rng)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Positions to the border, above 0 inside."""
    if not mask.any():
        return np.full(mask.shape, -float(max(mask.shape)))
    return distance_transform_edt(mask) - distance_transform_edt(~mask)


def _wandering(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    waves = gaussian_filter(rng.normal(size=mask.shape), 6.0)
    return _distance(mask) + 1.2 * waves / waves.std() > 0


def _resized(mask: np.ndarray, times: float) -> np.ndarray:
    """The mask grown or shrunk from its border to ``times`` its area."""
    distance = _distance(mask)
    wanted = min(int(mask.sum() * times), mask.size)
    bar = np.sort(distance, axis=None)[::-1][max(wanted - 1, 0)]
    return distance >= bar


def _shifted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    for size in range(6, max(mask.shape)):
        angle = rng.uniform(0, 2 * np.pi)
        move = np.round([size * np.sin(angle), size * np.cos(angle)]).astype(int)
        moved = _moved(mask, move)
        if overlap(moved, mask) < 0.4 and moved.any():
            return moved
    return np.zeros_like(mask)


def _moved(mask: np.ndarray, by: np.ndarray) -> np.ndarray:
    out = np.zeros_like(mask)
    (down, right), (rows, columns) = by, mask.shape
    out[max(down, 0) : rows + min(down, 0), max(right, 0) : columns + min(right, 0)] = mask[
        max(-down, 0) : rows + min(-down, 0), max(-right, 0) : columns + min(-right, 0)
    ]
    return out


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union, 1 where both are empty."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0


# ---------------------------------------------------------------------- the images


def lesions(strong: int, weak: int, seed: int, scene: str) -> Planted:
    """The demo's images: one lobed lesion in each, among look-alikes."""
    from labelmend.demo import make_case

    cases = [make_case(np.random.default_rng([seed, 7, n])) for n in range(strong + weak)]
    image = np.stack([standard(case.image)[None] for case in cases])
    return plant(image, np.stack([case.truth for case in cases]), strong, seed, scene)


def nuclei(strong: int, weak: int, seed: int, scene: str) -> Planted:
    """Crops of real micrographs with 2 to 40 % of nuclei, one crop of each image."""
    from PIL import Image

    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "dsb2018"
    rng = np.random.default_rng([seed, 3])
    images, truths = [], []
    for path in rng.permutation(sorted(folder.glob("images/*.png"))):
        image = np.asarray(Image.open(path).convert("L"), float)
        mask = np.asarray(Image.open(folder / "labels" / path.name)) > 0
        for _ in range(20):
            row, column = (rng.integers(0, n - SIDE + 1) for n in image.shape)
            part = (slice(row, row + SIDE), slice(column, column + SIDE))
            if 0.02 <= mask[part].mean() <= 0.4:
                images.append(standard(image[part])[None])
                truths.append(mask[part])
                break
        if len(images) == strong + weak:
            break
    return plant(np.stack(images), np.stack(truths), strong, seed, scene)


def standard(image: np.ndarray) -> np.ndarray:
    """An image with mean 0 and deviation 1."""
    return (image - image.mean()) / (image.std() + 1e-6)


SETS: dict[str, Callable[[int, int, int, str], Planted]] = {"lesions": lesions, "nuclei": nuclei}
"""Made-up and real images: ``(strong, weak, seed, scene) -> Planted``."""


def write(planted: Planted, folder: Path, test: int = 0) -> Path:
    """The case as a data set on disk; its labels are named by their place, s0.npy and on.

    The first ``test`` samples, strong ones, are kept to test on.
    """
    rows = ["image,label,quality,split,group"]
    for place, (image, label) in enumerate(zip(planted.image, planted.label, strict=True)):
        quality = "strong" if place < planted.strong else "weak"
        split = "test" if place < test else "train"
        for name, array in (
            (f"images/s{place}.npy", image[0]),
            (f"labels/{quality}/s{place}.npy", label.astype(np.uint8)),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(folder / name, array)
        rows.append(f"images/s{place}.npy,labels/{quality}/s{place}.npy,{quality},{split},g{place}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder
