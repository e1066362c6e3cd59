"""Proposed labels: which images get one, what it holds, and that nothing else is touched."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import Tensor, nn

import labelmend
from labelmend.catalogue.scan import inspect
from labelmend.errors import DataError, RunError, SettingsError, StorageError
from labelmend.inference.predictor import Predictor
from labelmend.inference.propose import Proposed, Threshold, propose
from labelmend.runs.disk import Disk

from ... import made_data

Trained = Callable[[str], Any]
OTSU = Threshold("otsu")


class Brighter(nn.Module):
    """Class 1 where the image, as prepared, is above 0."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.cat([-image, image], 1)


@pytest.fixture
def predictor(trained: Trained) -> Predictor:
    """Finds what is bright."""
    return dataclasses.replace(labelmend.load(trained("gray").run), network=Brighter())


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def unlabelled(root: Path, *stems: str) -> Path:
    """Takes the labels of some images away."""
    for path in [p for p in (root / "labels").rglob("*") if p.name.split(".")[0] in stems]:
        path.unlink()
    return root


def images_only(root: Path) -> Path:
    shutil.rmtree(root / "labels")
    (root / "data.toml").unlink(missing_ok=True)
    return root


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def test_a_side_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="unknown side 'Brighter'; did you mean 'brighter'"):
        Threshold("otsu", side="Brighter")  # type: ignore[arg-type]


def test_images_without_a_label_get_one_and_nothing_else_changes(tmp_path: Path) -> None:
    root = unlabelled(made_data.gray(tmp_path / "d"), "s3", "s7")
    before = contents(root)
    found = propose(root, OTSU)
    assert found.labels == ("labels/weak/otsu/s3.png", "labels/weak/otsu/s7.png")
    assert found.folder == root / "labels/weak/otsu"
    after = contents(root)
    assert {path: after[path] for path in before} == before
    assert sorted(after.keys() - before.keys()) == sorted(found.labels)
    _, place = made_data.thing(3, (20, 24))
    label = np.asarray(Image.open(root / found.labels[0]))
    assert set(np.unique(label)) == {0, 255}
    assert dice(label == 255, place) > 0.9


def test_proposals_are_weak_labels_of_their_own_annotator(tmp_path: Path) -> None:
    root = unlabelled(made_data.gray(tmp_path / "d"), "s3")
    propose(root, OTSU, name="machine 1")
    seen = inspect(root)
    assert not seen.problems
    [sample] = [s for s in seen.dataset.samples if s.annotator == "machine 1"]
    assert (sample.quality, sample.image) == ("weak", "images/s3.png")


def test_all_images_get_one_where_that_is_asked(tmp_path: Path) -> None:
    root = made_data.gray(tmp_path / "d")
    with pytest.raises(DataError, match="every image of .* has a label; --all"):
        propose(root, OTSU)
    assert not (root / "labels/weak/otsu").exists()
    assert len(propose(root, OTSU, every=True).labels) == made_data.IMAGES


@pytest.mark.parametrize("method", ["otsu", "watershed"])
@pytest.mark.parametrize("kind", ["gray", "colour", "volume", "recording", "sixteen"])
def test_images_alone_are_enough(tmp_path: Path, kind: str, method: str) -> None:
    root = images_only(made_data.KINDS[kind](tmp_path / "d"))
    (root / "manifest.csv").unlink(missing_ok=True)
    smooth = 4 if kind == "recording" else None
    found = propose(root, Threshold(method, smooth=smooth, channel=0))
    assert len(found.labels) == made_data.IMAGES
    seen = inspect(root)
    assert not seen.problems
    assert len(seen.dataset.samples) == made_data.IMAGES
    assert len(seen.dataset.spec.classes) == 2
    wanted = {"volume": ".nii.gz", "recording": ".csv", "sixteen": ".tif"}.get(kind, ".png")
    assert seen.dataset.spec.suffix == wanted
    values = {"volume": (0, 1), "recording": (0, 1)}.get(kind, (0, 255))
    assert seen.dataset.spec.values == values


def test_recordings_with_other_files_are_written_alike(tmp_path: Path) -> None:
    """A set cannot hold lists of events and positions at once where nobody named the classes."""
    root = images_only(made_data.recording(tmp_path / "d"))
    samples, _ = soundfile.read(root / "images/r0.wav")
    np.save(root / "images/r9.npy", samples)
    found = propose(root, Threshold("otsu", smooth=4))
    assert {Path(label).suffix for label in found.labels} == {".npy"}
    assert not inspect(root).problems


def test_what_data_toml_says_goes_over_what_is_usual(tmp_path: Path) -> None:
    root = images_only(made_data.gray(tmp_path / "d"))
    (root / "data.toml").write_text('suffix = ".tif"\n[classes]\nrest = 3\nnucleus = 7\nrim = 9\n')
    with pytest.raises(DataError, match="classes nucleus, rim, and otsu draws one; say which"):
        propose(root, OTSU)
    with pytest.raises(SettingsError, match="unknown class 'nukleus'; did you mean 'nucleus'"):
        propose(root, Threshold("otsu", object_name="nukleus"))
    found = propose(root, Threshold("otsu", object_name="rim"))
    assert found.labels[0].endswith("otsu/s0.tif")
    assert set(np.unique(np.asarray(Image.open(root / found.labels[0])))) == {3, 9}
    assert not inspect(root).problems


def test_axes_that_do_not_follow_are_asked_for(tmp_path: Path) -> None:
    root = tmp_path
    (root / "images").mkdir()
    np.save(root / "images/a.npy", np.random.default_rng(0).random((3, 30, 40)))
    with pytest.raises(DataError, match="3 x 30 x 40, .* put dims, and channels"):
        propose(root, OTSU)
    (root / "data.toml").write_text("dims = 2\nchannels = 'first'\n")
    found = propose(root, OTSU)
    label = np.load(root / found.labels[0])
    assert label.shape == (30, 40)
    assert set(np.unique(label)) == {0, 1}


def test_the_side_is_decided_over_all_images(tmp_path: Path) -> None:
    """One thing covers more than half of its image; it is still the bright one."""
    (tmp_path / "images").mkdir()
    for number, part in enumerate((0.2, 0.3, 0.8)):
        image = np.zeros((20, 20), np.uint8)
        image[: int(20 * part)] = 200
        Image.fromarray(image).save(tmp_path / f"images/{number}.png")
    found = propose(tmp_path, OTSU)
    assert found.side == "brighter"
    assert "smaller one in 2 of 3 images" in found.to_text()
    np.testing.assert_allclose(found.shares, (0.2, 0.3, 0.8), atol=0.051)
    dark = propose(tmp_path, Threshold("otsu", "darker"), name="dark", every=True)
    np.testing.assert_allclose(np.add(found.shares, dark.shares), 1)
    assert not any("taken for the object" in note for note in dark.notes)


@pytest.mark.parametrize("held", [["x.png"], [".keep"]])
def test_a_folder_that_holds_something_is_never_written_to(tmp_path: Path, held: list[str]) -> None:
    root = unlabelled(made_data.gray(tmp_path / "d"), "s3")
    folder = root / "labels/weak/otsu"
    folder.mkdir()
    assert propose(root, OTSU, name="other").labels  # an empty folder elsewhere is no matter
    shutil.rmtree(root / "labels/weak/other")
    for name in held:
        (folder / name).write_bytes(b"mine")
    with pytest.raises(RunError, match="exists already, and nothing in it is ever replaced"):
        propose(root, OTSU)
    assert sorted(p.name for p in folder.iterdir()) == held
    assert (folder / held[0]).read_bytes() == b"mine"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    root = unlabelled(made_data.gray(tmp_path / "d"), "s3")
    (root / "labels/weak/otsu").mkdir()
    assert len(propose(root, OTSU).labels) == 1


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../x", ".hidden", "a\\b", "a\nb"])
def test_a_name_stays_in_the_folder_of_weak_labels(tmp_path: Path, name: str) -> None:
    root = made_data.gray(tmp_path / "d")
    before = contents(tmp_path)
    with pytest.raises(DataError, match="cannot be the name"):
        propose(root, OTSU, name=name, every=True)
    assert contents(tmp_path) == before


def test_links_out_of_the_data_folder_are_not_followed(tmp_path: Path) -> None:
    root = made_data.gray(tmp_path / "d")
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "labels/weak/otsu").symlink_to(outside)
    with pytest.raises(RunError, match="leads out of"):
        propose(root, OTSU, every=True)
    (root / "manifest.csv").write_text("image,label\n../outside/a.png,\n")
    with pytest.raises(DataError, match="leads out of the data folder"):
        propose(root, OTSU, name="m")
    assert not list(outside.iterdir())


def test_images_that_cannot_be_divided_are_refused_or_left_out(tmp_path: Path) -> None:
    root = images_only(made_data.gray(tmp_path / "d"))
    Image.fromarray(np.full((20, 24), 7, np.uint8)).save(root / "images/s2.png")
    (root / "images/s5.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    with pytest.raises(DataError, match=r"2 of 8 images .* images/s2.png: .* --allow-bad 2"):
        propose(root, OTSU, allow_bad=1)
    assert not (root / "labels/weak/otsu").exists()
    found = propose(root, OTSU, allow_bad=2)
    assert [p.file for p in found.problems] == ["images/s2.png", "images/s5.png"]
    assert len(found.labels) == 6
    assert "left out: images/s2.png: is 7 throughout" in found.to_text()


def test_a_set_of_which_nothing_can_be_divided_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((20, 24), 7, np.uint8)).save(tmp_path / "images/a.png")
    with pytest.raises(DataError, match="1 of 1 images cannot get a label"):
        propose(tmp_path, OTSU, allow_bad=5)
    assert propose(tmp_path, Threshold(3.0)).shares == (0.0,)  # the larger part is none


def test_a_disk_that_refuses_once_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails at the first, second, third … operation, until none is left to fail at."""
    root = unlabelled(made_data.gray(tmp_path / "d"), "s3", "s4")
    before = sorted(root.rglob("*"))
    names = [name for name in vars(Disk) if not name.startswith("_")]
    whole = {name: getattr(Disk, name) for name in names}
    left = 0

    def counted(name: str) -> Callable[..., Any]:
        def operation(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(28, "No space left on device")
            return whole[name](*arguments)

        return operation

    for name in names:
        monkeypatch.setattr(Disk, name, staticmethod(counted(name)))
    for failing in range(1, 99):
        left = failing
        try:
            found = propose(root, OTSU)
        except StorageError as error:
            assert "No space left" in str(error)
            if (root / "labels/weak/otsu").exists():  # all was written, only not yet for certain
                assert len(list((root / "labels/weak/otsu").iterdir())) == 2
                shutil.rmtree(root / "labels/weak/otsu")
            assert sorted(root.rglob("*")) == before
        else:
            assert len(found.labels) == 2
            break
    assert failing > 8


def test_a_manifest_gets_lines_and_keeps_its_bytes(tmp_path: Path) -> None:
    root = made_data.colour(tmp_path / "d")
    manifest = root / "manifest.csv"
    rows = [r for r in manifest.read_text().splitlines() if "s4.png" not in r]
    manifest.write_bytes("\r\n".join([*rows, "images/s4.png,,,val,g4,"]).encode())
    before = manifest.read_bytes()
    found = propose(root, OTSU, name="a, b")
    assert found.labels == ("labels/weak/a, b/s4.png",)
    added = manifest.read_bytes().removeprefix(before)
    line = b'images/s4.png,"labels/weak/a, b/s4.png",weak,val,g4,"a, b"'
    assert added == b"\r\n" + line + b"\r\n"
    seen = inspect(root)
    assert not seen.problems
    [sample] = [s for s in seen.dataset.samples if s.annotator == "a, b"]
    assert (sample.quality, sample.split, sample.group) == ("weak", "val", "g4")
    with pytest.raises(DataError, match="every image"):
        propose(root, OTSU, name="again")


def test_all_images_of_a_manifest_keep_their_split_and_group(tmp_path: Path) -> None:
    root = made_data.colour(tmp_path / "d")
    groups = {s.image: (s.split, s.group) for s in inspect(root).dataset.samples}
    found = propose(root, OTSU, every=True)
    seen = inspect(root)
    assert not seen.problems
    added = [s for s in seen.dataset.samples if s.annotator == "otsu"]
    assert len(added) == len(found.labels) == made_data.IMAGES
    assert {s.image: (s.split, s.group) for s in added} == groups


def test_labels_that_the_manifest_cannot_list_do_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made_data.colour(tmp_path / "d")
    before = contents(root)

    def refuse(path: Path, _: bytes) -> None:
        raise StorageError(f"{path}: no room")

    monkeypatch.setattr("labelmend.inference.propose.write_atomically", refuse)
    with pytest.raises(StorageError, match=r"manifest.csv: no room"):
        propose(root, OTSU, every=True)
    assert contents(root) == before


def test_a_manifest_with_two_columns_is_enough(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder in ("one", "two"):
        image, _ = made_data.thing(1, (20, 24))
        np.save(tmp_path / folder / "a.npy", image)
    (tmp_path / "manifest.csv").write_text("image,label\none/a.npy,\ntwo/a.npy,\n")
    found = propose(tmp_path, OTSU)
    assert found.labels == ("labels/weak/otsu/one/a.npy", "labels/weak/otsu/two/a.npy")
    seen = inspect(tmp_path)
    assert not seen.problems
    assert [s.quality for s in seen.dataset.samples] == ["weak", "weak"]


def test_a_network_labels_in_the_values_of_the_set(tmp_path: Path, predictor: Predictor) -> None:
    root = unlabelled(made_data.gray(tmp_path / "d"), "s3")
    found = propose(root, predictor)
    assert found.labels == (f"labels/weak/{predictor.run.path.name}/s3.png",)
    image = np.asarray(Image.open(root / "images/s3.png"))
    label = np.asarray(Image.open(root / found.labels[0]))
    np.testing.assert_array_equal(label, 255 * predictor.predict(image))
    assert 0 < found.shares[0] < 1


def test_a_network_labels_like_its_own_set_where_there_is_no_label(
    tmp_path: Path, predictor: Predictor
) -> None:
    root = images_only(made_data.gray(tmp_path / "d"))
    found = propose(root, predictor, name="first")
    assert len(found.labels) == made_data.IMAGES
    assert inspect(root).dataset.spec.values == (0, 255)


def test_classes_of_a_network_are_found_by_name(tmp_path: Path, predictor: Predictor) -> None:
    root = images_only(made_data.gray(tmp_path / "d"))
    (root / "data.toml").write_text("[classes]\nrest = 1\nrim = 5\nforeground = 9\n")
    found = propose(root, predictor)
    assert set(np.unique(np.asarray(Image.open(root / found.labels[0])))) == {1, 9}
    shutil.rmtree(root / "labels")
    (root / "data.toml").write_text("[classes]\nrest = 1\nrim = 5\ncore = 9\n")
    with pytest.raises(DataError, match="the run knows background, foreground, and this set rest"):
        propose(root, predictor)
    (root / "data.toml").write_text("[classes]\nrest = 1\nrim = 5\n")
    assert "foreground is written as rim" in propose(root, predictor).to_text()


def test_thresholds_draw_no_continuous_values(tmp_path: Path, predictor: Predictor) -> None:
    root = made_data.continuous(tmp_path / "d")
    with pytest.raises(DataError, match="continuous values, and otsu draws classes"):
        propose(root, OTSU, every=True)
    with pytest.raises(DataError, match="the run is for segmentation, and this set for regression"):
        propose(root, predictor, every=True)


def test_files_that_are_no_data_are_passed_over(tmp_path: Path) -> None:
    root = images_only(made_data.gray(tmp_path / "d"))
    for name in (".DS_Store", "Thumbs.db", "._s0.png"):
        (root / "images" / name).write_bytes(b"x")
    assert len(propose(root, OTSU).labels) == made_data.IMAGES
    (root / "images/notes.txt").write_bytes(b"x")
    with pytest.raises(DataError, match=r"images/notes.txt: .txt files are not read"):
        propose(root, OTSU, name="other")


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither a folder images/ nor a manifest"):
        propose(tmp_path, OTSU)
    with pytest.raises(DataError, match="no/such is not a folder"):
        propose(Path("no/such"), OTSU)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no image; put images"):
        propose(tmp_path, OTSU)


def test_what_is_said_of_one_label_is_said_in_the_singular() -> None:
    said = Proposed(Path("d/labels/weak/otsu"), ("a.png",), "darker", (0.0,)).to_text()
    assert said.splitlines() == [
        "1 weak label written to d/labels/weak/otsu (annotator otsu)",
        "the object is the darker part: 0.0% of an image on average",
        "1 label is one class throughout, such as a.png",
    ]
