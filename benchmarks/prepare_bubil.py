"""Phase-contrast cells (BU-BIL 1-3): seven crowd outlines per image, experts' majority as truth.

``python benchmarks/prepare_bubil.py SOURCE OUT``. Nothing is simulated. A few training images get
the experts' majority as a strong label; every training image keeps its seven crowd labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from data_folder import DataFolder, dice, divide, fail, options

ANNOTATORS = tuple(f"turk{i}" for i in range(1, 8))
SPEC = {
    "task": "segmentation",
    "dims": 2,
    "suffix": ".png",
    "classes": {"background": 0, "cell": 255},
}


def _mask(path: Path) -> np.ndarray:
    return (np.asarray(Image.open(path)) == 255).astype(np.int64)


def _add_weak(folder: DataFolder, source: Path, name: str, truth: str) -> None:
    stem, expert = Path(name).stem, _mask(source / "labels" / name)
    for annotator in ANNOTATORS:
        path = source / "labels_weak" / annotator / name
        label = folder.copy(path, f"labels/weak/{annotator}/{name}")
        folder.add(f"images/{name}", label, "weak", stem, annotator)
        folder.note_truth(label, truth, dice(_mask(path), expert))


def main() -> None:
    given = options(__doc__.splitlines()[0], strong=0.1, val=0.25).parse_args()
    names = {path.stem: path.name for path in sorted((given.source / "images").glob("*.png"))}
    if not names:
        fail(f"no PNG images in {given.source / 'images'}")
    folder = DataFolder(given.out)
    parts = divide({stem: stem.split("_")[0] for stem in names}, given)
    for stem in sorted(parts):
        name, part = names[stem], parts[stem]
        folder.copy(given.source / "images" / name, f"images/{name}")
        expert = given.source / "labels" / name
        if part != "weak":
            strong = folder.copy(expert, f"labels/strong/{name}")
            folder.add(f"images/{name}", strong, part, stem)
        if part in ("strong", "weak"):
            truth = folder.copy(expert, f"truth/{name}")
            _add_weak(folder, given.source, name, truth)
    folder.finish(SPEC)


if __name__ == "__main__":
    main()
