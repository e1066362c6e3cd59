"""What samples have in common is said, and above all what they have not."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import soundfile
import tifffile

from labelmend.catalogue.likeness import describe_samples
from labelmend.catalogue.scan import inspect
from labelmend.catalogue.survey import Facts
from labelmend.types import DataSpec, Sample

WAYS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def spec(dims: int, spacing: tuple[float, ...] | None = None) -> DataSpec:
    return DataSpec(
        "segmentation", ("bg", "a"), (0, 1), None, dims, 1, "none", ".npy", spacing=spacing
    )


def said(about: DataSpec, *facts: Facts, suffix: str = ".nii.gz") -> list[str]:
    images = {f"images/{i}{suffix}": each for i, each in enumerate(facts)}
    samples = tuple(
        Sample(path, f"labels/strong/{i}", "strong", "train", str(i), "", "", "")
        for i, path in enumerate(images)
    )
    return describe_samples(about, samples, images)


def volume(
    i: int, order: tuple[int, ...], signs: tuple[int, ...], step: tuple[float, ...]
) -> Facts:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (to, sign) in enumerate(zip(order, signs, strict=True)):
        affine[to, axis] = sign * step[axis]
    return Facts(str(i), shape=(9, 8, 7), channel="none", spacing=step, affine=affine)


@pytest.mark.parametrize("way", WAYS)
def test_volumes_that_lie_otherwise_are_told_apart_and_others_are_not(way: tuple) -> None:
    step = (0.8, 0.8, 3.0)
    first = volume(0, (0, 1, 2), (1, 1, 1), step)
    notes = " ".join(said(spec(3), first, volume(1, *way, step), volume(2, *way, step)))
    letters = ("RL", "AP", "SI")
    code = "".join(letters[to][sign < 0] for to, sign in zip(*way, strict=True))
    assert ("orientations" in notes) == (code != "RAS"), notes
    assert code == "RAS" or f"2 orientations ({code} 2, RAS 1)" in notes


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("factor", [1.0, 1.005, 1.5, 4.0])
def test_spacings_that_differ_are_said_with_the_one_to_take(dims: int, factor: float) -> None:
    step = (0.002, 0.8, 3.0)[-dims:]
    other = (step[0] * factor, *step[1:])
    facts = [Facts(str(i), shape=(9,) * dims, spacing=s) for i, s in enumerate((step, step, other))]
    (note,) = said(spec(dims), *facts, suffix=".tif")
    unlike = factor > 1.1
    assert ("not as many positions" in note) == unlike
    if unlike:
        assert f"Positions lie {step[0]:.4g} to {other[0]:.4g}" in note
        (setting,) = (word for word in note.split() if word.startswith("input.spacing="))
        assert setting == f"input.spacing=[{','.join(f'{v:g}' for v in step)}]"  # the usual one
    assert said(spec(dims, spacing=step), *facts) == []  # data.toml says it


def test_only_what_is_known_is_said() -> None:
    known = Facts("a", shape=(9, 9), spacing=(0.5, 0.5))
    (note,) = said(spec(2), known, Facts("b", shape=(9, 9)))
    assert note == "Positions lie 0.5 x 0.5 mm apart in 1 of 2 images."
    assert said(spec(2), Facts("a", shape=(9, 9)), Facts("b", shape=(9, 9))) == []
    (note,) = said(spec(1), Facts("a", shape=(9,), spacing=(4.0,)), suffix=".csv")
    assert note == "Positions lie 4 apart, in seconds if they are times."


@pytest.mark.parametrize("splits", list(product(("train", "val", "test"), repeat=3)))
def test_one_image_in_two_splits_is_said_to_be(splits: tuple) -> None:
    images = {f"images/{i}.png": Facts("same" if i < 2 else "other") for i in range(3)}
    samples = tuple(
        Sample(path, f"labels/strong/{i}", "strong", split, str(i), "", "", "")
        for i, (path, split) in enumerate(zip(images, splits, strict=True))
    )
    (note,) = describe_samples(spec(2), samples, images)
    assert note.startswith("images/0.png and images/1.png are the same file: give them one group")
    assert ("for they are in" in note) == (splits[0] != splits[1])
    assert splits[0] == splits[1] or all(f" {split}" in note for split in splits[:2])


def test_check_says_it_and_the_setting_it_names_is_one(tmp_path: Path) -> None:
    for i, rate in enumerate((2000, 4000, 4000)):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels/strong").mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(i).uniform(-0.5, 0.5, 50)
        soundfile.write(tmp_path / f"images/{i}.wav", values, rate, subtype="PCM_16")
        np.save(tmp_path / f"labels/strong/{i}.npy", np.arange(50) % 2)
    (note,) = (n for n in inspect(tmp_path).notes if n.startswith("Positions lie"))
    assert "0.00025 to 0.0005 s apart" in note
    assert "--set input.spacing=[0.00025] " in note


def test_check_says_how_volumes_lie(tmp_path: Path) -> None:
    for i, flip in enumerate((1, -1)):
        for folder in ("images", "labels/strong"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5) % (
                2 if "labels" in folder else 9
            )
            affine = np.diag([flip * 0.8, 0.8, 3.0, 1.0])
            nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / folder / f"{i}.nii.gz")
    notes = inspect(tmp_path).notes
    assert "Positions lie 0.8 x 0.8 x 3 mm apart." in notes
    assert any("2 orientations (RAS 1, LAS 1)" in note for note in notes)


@pytest.mark.parametrize(
    ("said", "told"), [("-9999", True), ("-1", False), ("nan", False), ("", False)]
)
def test_values_by_which_a_file_says_that_nothing_was_recorded_are_told(
    tmp_path: Path, said: str, told: bool
) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        image = rng.uniform(0, 1, (16, 12)).astype(np.float32)
        image[0, 0] = -9999 if number < 2 else 0
        for folder, values in (
            ("images", image),
            ("labels/strong", (image > 0.5).astype(np.uint8)),
        ):
            path = tmp_path / folder / f"t{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tag = [(42113, "s", 0, said, True)] if folder == "images" and said else []
            tifffile.imwrite(path, values, extratags=tag)
    seen = inspect(tmp_path)
    assert not seen.problems
    notes = " ".join(seen.notes)
    assert ("2 of 6 images hold -9999 where nothing was recorded" in notes) == told, notes
    assert told or "recorded" not in notes


@pytest.mark.parametrize("said", [False, True])
def test_what_files_say_of_spacing_is_kept_unless_the_data_set_says_it(
    tmp_path: Path, said: bool
) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        image = rng.normal(size=(8, 8, 8)).astype(np.float32)
        for folder, values in (("images", image), ("labels/strong", (image > 0).astype(np.uint8))):
            path = tmp_path / folder / f"v{number}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 2, 3.0, 1])), path)
    if said:
        (tmp_path / "data.toml").write_text("spacing = [9.0, 9.0, 9.0]")
    data = inspect(tmp_path).dataset
    assert data is not None and data.orientations == ("RAS",)
    assert data.spacings == (() if said else ((1.0, 2.0, 3.0),) * 2)
