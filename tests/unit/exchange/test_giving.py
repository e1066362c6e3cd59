"""What cannot be given out, and is said before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelmend.errors import DataError
from labelmend.exchange.giving import export_labels

from . import handmade as made


@pytest.mark.parametrize("name", ["png", "coco", "labelme"])
def test_images_that_would_have_one_name_are_refused(name: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = []
    for place, image in enumerate(("images/a.png", "a.png")):
        made.picture(data / image)
        (data / "l").mkdir(exist_ok=True)
        Image.fromarray(np.eye(*made.SIZE, dtype=np.uint8)).save(data / f"l/{place}.png")
        rows.append(f"{image},l/{place}.png\n")
    (data / "manifest.csv").write_text("image,label\n" + "".join(rows))
    with pytest.raises(DataError, match=r"a\.png and images/a\.png would both be called a\.png"):
        export_labels(data, tmp_path / "out", name)
    assert not (tmp_path / "out").exists()
