"""LabelMe files hold their images, and these are not kept."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

from . import handmade as made
from .handmade import read

IMAGE, COUNT = 2 * 10**6, 10


def test_images_in_the_files_are_not_kept(tmp_path: Path) -> None:
    made.labelme(tmp_path)
    document = json.loads((tmp_path / "a.json").read_text()) | {"imageData": "A" * IMAGE}
    for place in range(COUNT):
        made.write_json(tmp_path / f"{place}.json", document)
    tracemalloc.start()
    try:
        assert len(read("labelme", tmp_path).items) == COUNT + 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < COUNT * IMAGE / 2
