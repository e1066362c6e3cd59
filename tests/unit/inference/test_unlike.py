"""New images that lie otherwise than any that a network learned from are said to."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

import labelmend
from labelmend.inference.files import predict_all
from labelmend.inference.predictor import load
from labelmend.inference.unlike import Unlike
from labelmend.runs.sums import make_sums, read_sums
from labelmend.types import DataSet, DataSpec

STEP = (1.0, 1.0, 2.0)


def volume(path: Path, values: np.ndarray, step: tuple[float, ...] = STEP, left: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([left * step[0], *step[1:], 1.0])
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that learned from RAS volumes, positions 1 x 1 x 2 mm apart."""
    root = tmp_path_factory.mktemp("unlike")
    rng = np.random.default_rng(0)
    for number in range(6):
        image = rng.normal(size=(16, 16, 16)).astype(np.float32)
        kind = "strong" if number < 4 else "weak"
        volume(root / f"data/images/s{number}.nii.gz", image)
        volume(root / f"data/labels/{kind}/s{number}.nii.gz", (image > 1).astype(np.uint8))
    small = {"width": 4, "depth": 2}
    labelmend.fit(root / "data", root / "run", steps=2, network=small, batch={"size": 2})
    return root / "run"


def predicted(run: Path, out: Path, **files: dict) -> tuple[str, ...]:
    rng = np.random.default_rng(1)
    for name, how in files.items():
        volume(out / f"new/{name}.nii.gz", rng.normal(size=(16, 16, 16)).astype(np.float32), **how)
    return predict_all(load(run), [out / "new"], out / "labels").warnings


def test_what_lies_as_the_training_did_is_not_said(run: Path, tmp_path: Path) -> None:
    assert predicted(run, tmp_path, a={}, b={"step": (1.2, 0.8, 2.0)}) == ()


def test_each_way_to_lie_otherwise_is_said_once(run: Path, tmp_path: Path) -> None:
    left = {"left": -1}
    told = predicted(run, tmp_path, a=left, b={}, c=left, d={"step": (1.0, 1.0, 6.0)})
    assert len(told) == 2
    assert "2 files (first: " in told[0] and "a.nii.gz) lie in orientation LAS" in told[0]
    assert "learned from RAS" in told[0]
    assert "d.nii.gz lies on a grid unlike" in told[1] and "are 1 x 1 x 2 apart" in told[1]


def test_a_run_that_was_made_before_this_was_kept_says_nothing(run: Path, tmp_path: Path) -> None:
    old = shutil.copytree(run, tmp_path / "old")
    record = json.loads((old / "data.json").read_text())
    assert record.pop("orientations") == ["RAS"] and record.pop("spacings") == [[*STEP], [*STEP]]
    content = json.dumps(record).encode()
    (old / "data.json").write_bytes(content)
    hashes = read_sums(old) | {"data.json": hashlib.sha256(content).hexdigest()}
    (old / "SHA256SUMS").write_bytes(make_sums(hashes))
    assert predicted(old, tmp_path, a={"left": -1, "step": (9.0, 9.0, 9.0)}) == ()


@pytest.mark.parametrize("factor", [0.1, 0.6, 0.7, 1.0, 1.4, 1.6, 10.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_distances_count_along_every_axis_and_not_where_all_are_brought_to_one(
    factor: float, axis: int
) -> None:
    spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 3, 1, "none", ".nii.gz")
    data = DataSet("data", spec, (), spacings=((1.0, 2.0, 3.0), (1.5, 2.5, 3.5)))
    low, high = data.spacings[0][axis], data.spacings[1][axis]
    spacing = [1.2, 2.2, 3.2]
    spacing[axis] = low * factor if factor < 1 else high * factor
    for resampled in (False, True):
        unlike = Unlike(data, resampled=resampled)
        unlike.look("x", None, spacing)
        unlike.look("y", None, None)
        far = not 1 / 1.5 <= factor <= 1.5
        assert bool(unlike.said()) == (far and not resampled)
