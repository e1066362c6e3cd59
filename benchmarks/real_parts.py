"""Crops of micrographs and whole small volumes, with their true labels and a margin around."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from displacements import INNER, MARGIN

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SIDE = 96


class Part(NamedTuple):
    """An image ``(*space)``, and its true label, larger by the margin on every side."""

    name: str
    image: np.ndarray
    truth: np.ndarray


def nuclei(rng: np.random.Generator, many: int) -> list[Part]:
    """One crop of each micrograph, 2 to 40 % nuclei."""
    from PIL import Image

    folder, parts, side = DATA / "dsb2018", list[Part](), SIDE + 2 * MARGIN
    for path in rng.permutation(sorted(folder.glob("images/*.png"))):
        image = np.asarray(Image.open(path).convert("L"), float)
        mask = np.asarray(Image.open(folder / "labels" / path.name)) > 0
        for _ in range(20):
            row, column = (rng.integers(0, n - side + 1) for n in image.shape)
            part = (slice(row, row + side), slice(column, column + side))
            if 0.02 <= mask[part][INNER].mean() <= 0.4:
                parts.append(Part(path.stem, image[part][INNER], mask[part].astype(np.uint8)))
                break
        if len(parts) == many:
            return parts
    raise ValueError(f"{many} crops are wanted, and {folder} has {len(parts)} that will do")


def hippocampus(rng: np.random.Generator, many: int) -> list[Part]:
    """Whole volumes; beyond them there is background."""
    import nibabel as nib

    folder, parts = DATA / "hippocampus", list[Part]()
    for path in rng.permutation(sorted(folder.glob("images/*.nii.gz")))[:many]:
        image = np.asarray(nib.load(path).dataobj, float)
        truth = np.asarray(nib.load(folder / "labels" / path.name).dataobj).astype(np.uint8)
        parts.append(Part(path.name.split(".")[0], image, np.pad(truth, MARGIN)))
    return parts
