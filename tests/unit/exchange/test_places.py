"""Which image a label file belongs to by its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from labelmend.errors import DataError

from . import handmade as made
from .handmade import read


def test_channels_in_files_of_their_own_are_refused(tmp_path: Path) -> None:
    made.nifti(tmp_path)
    for channel in (1, 2):
        first = tmp_path / "imagesTr/a_0000.nii.gz"
        shutil.copy(first, first.with_name(f"a_000{channel}.nii.gz"))
    with pytest.raises(DataError, match=r"labelsTr/a.nii.gz: .* 3 files, .*a_0000.nii.gz.* one"):
        read("nifti", tmp_path)
