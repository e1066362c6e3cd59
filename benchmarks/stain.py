"""A made-up stain of real micrographs with fine detail: what virtual staining is asked to learn.

The stain shows what is brighter than its surroundings, relative to how much brightness varies
there: rims, grains and gaps a few positions wide. It lies within 0..1 and depends on nothing but
the image around a position, whatever the image's brightness and contrast: the product makes every
image's mean 0 and deviation 1, so no network can know a stain that follows absolute brightness.
Fluorescence only; on white ground the same formula would be another stain. All data is of few
plates, so test images have look-alikes among those to train on: compare ways, not figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

from displacements import INNER, MARGIN, field_of, moved

if TYPE_CHECKING:
    from labelmend.inference.predictor import Predictor

SIDE, TEST, STRONG, WEAK = 96, 30, 6, 120
DARK, CONTRAST = 64, 40
"""Grey levels: the median of fluorescence is below the first, its range at least the second."""
SETTINGS: dict[str, Any] = {
    "steps": 400,
    # Values are about 0 to 1 as they are; what was measured before labels were scaled stays true.
    "input": {"patch": (SIDE, SIDE), "val_share": 0.0, "scale_labels": False},
    # One convolution per level, as the default network has, leaves a chequered pattern in
    # continuous values, which hides every other difference.
    "network": {"name": "dynunet", "width": 8, "depth": 3},
    "optimiser": {"learning_rate": 3e-3},
    "augment": {"flip": 0.0},
}
"""With these and true labels PSNR reaches 27 in a minute."""


def stained(image: np.ndarray) -> np.ndarray:
    """The stain of an image, both ``(rows, columns)``."""
    detail = gaussian_filter(image, 1.0) - gaussian_filter(image, 3.5)
    usual = np.sqrt(gaussian_filter(detail**2, 5.0) + detail.var())
    return np.clip(detail / (1.8 * usual) - 0.1, 0, 1).astype(np.float32)


def write(source: Path, out: Path, seed: int, fault: str) -> Path:
    """Write a data set in the product's format, if it is not there; return its folder.

    The strong labels are true. The weak ones are moved by ``fault``, a name of
    ``displacements.FAULTS``; what they should be lies in ``truth`` under the same name.

    Args:
        source: the folder of images/, as published.
        out: the folder to write.
        seed: which images, and what is cut of them; alike for every fault.
        fault: what is wrong with weak labels.
    """
    if out.exists():
        return out
    rows = ["image,label,quality,split,group"]
    for number, image in enumerate(_parts(source, seed)):
        stain, weak = stained(image), number >= TEST + STRONG
        field = field_of(fault, (SIDE, SIDE), [seed, 19, number])
        label = moved(stain, field, order=1) if weak else stain[INNER]
        name, quality = f"s{number}.npy", "weak" if weak else "strong"
        parts = {
            f"images/{name}": image[INNER],
            f"labels/{quality}/{name}": label,
            f"truth/{name}": stain[INNER],
        }
        for file, array in parts.items():
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            np.save(out / file, array.astype(np.float32))
        split = "test" if number < TEST else "train"
        rows.append(f"images/{name},labels/{quality}/{name},{quality},{split},g{number}")
    (out / "manifest.csv").write_text("\n".join(rows) + "\n")
    (out / "data.toml").write_text(
        'task = "regression"\ndims = 2\nchannels = "none"\nclasses = ["stain"]\n'
    )
    return out


def sharpness(predictor: Predictor, data: Path) -> float:
    """Mean steepness of predictions on test images, relative to that of the true stain."""
    found = []
    for number in range(TEST):
        truth = np.load(data / f"truth/s{number}.npy")
        given = predictor.predict(np.load(data / f"images/s{number}.npy"))[0]
        found.append(_steepness(given) / _steepness(truth))
    return float(np.mean(found))


def _steepness(array: np.ndarray) -> float:
    return float(np.hypot(*np.gradient(array)).mean())


def _parts(source: Path, seed: int) -> list[np.ndarray]:
    """One part of each of as many images as are needed, with the margin around it."""
    from PIL import Image

    rng, parts = np.random.default_rng([seed, 17]), list[np.ndarray]()
    side = SIDE + 2 * MARGIN
    for path in rng.permutation(sorted(source.glob("images/*.png"))):
        image = np.asarray(Image.open(path).convert("L"), float)
        if np.median(image) > DARK or np.ptp(image) < CONTRAST:
            continue
        for _ in range(20):
            row, column = (int(rng.integers(0, n - side + 1)) for n in image.shape)
            part = image[row : row + side, column : column + side] / 255
            if (stained(part)[INNER] > 0.5).mean() >= 0.02:
                parts.append(part)
                break
        if len(parts) == TEST + STRONG + WEAK:
            break
    return parts
