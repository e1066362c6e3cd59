"""TIFF compressions that need a package which is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from labelmend.errors import DataError
from labelmend.files.readers import read_image
from labelmend.files.tiled import open_strips
from labelmend.types import DataSpec

SPEC = DataSpec("segmentation", ("none", "one"), (0, 1), None, 2, 1, "none", ".tif")


@pytest.fixture
def without_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)


@pytest.mark.usefixtures("without_codecs")
@pytest.mark.parametrize(("how", "shown"), [("tiff_lzw", "LZW"), ("jpeg", "JPEG")])
def test_a_compression_that_cannot_be_read_here_is_no_damage(
    how: str, shown: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(path, compression=how)
    said = rf"a.tif: a TIFF compressed with {shown} needs .*pip install .labelmend\[tiff\]."
    for read in (read_image, lambda path: open_strips(path, SPEC)):
        with pytest.raises(DataError, match=said):
            read(path)


def test_other_compressions_need_nothing(tmp_path: Path) -> None:
    values = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    tifffile.imwrite(tmp_path / "a.tif", values, compression="zlib", predictor=True)
    code = (  # a process of its own: here, tifffile knows the package already
        "import sys; sys.modules['imagecodecs'] = None; from pathlib import Path\n"
        "from labelmend.files.readers import read_image\n"
        "sys.exit(int(read_image(Path(sys.argv[1])).array.sum()) != sum(range(1024)))"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.tif"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_16_bit_colours_need_the_same_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codecs = pytest.importorskip("imagecodecs")
    (tmp_path / "a.png").write_bytes(codecs.png_encode(np.ones((6, 5, 3), np.uint16)))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(DataError, match=r"a.png: 16-bit .* pip install .labelmend\[tiff\]."):
        read_image(tmp_path / "a.png")
