"""What comes back is what labelmend predict writes, to the last byte, in one to three axes."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco

import labelmend
from labelmend.errors import DataError, SettingsError
from labelmend.files.readers import read_image
from labelmend.inference.beside import Beside
from labelmend.inference.files import Way, predict_all
from labelmend.inference.predictor import Predictor
from labelmend.serve.answers import File, Prediction, Reply, lengths, read, reply
from labelmend.serve.asked import Question, Wanted
from labelmend.serve.network import Network

Trained = Callable[[str], Any]
LIMIT = 2**26
KINDS = ("gray", "colour", "volume", "recording", "signal")


@dataclass
class Case:
    """A run, one of its images, and what labelmend predict makes of that alone."""

    predictor: Predictor
    source: Path
    out: Path

    @property
    def name(self) -> str:
        return self.source.name

    def answer(self, answer: Wanted = "file", **more: Any) -> Reply:
        question = Question(self.name, answer, **more)
        raster = read(question, self.source.read_bytes(), self.predictor.spec, LIMIT)
        scores = Network(self.predictor)([raster], question.flips)[0]
        assert isinstance(scores, np.ndarray)
        return reply(Prediction(question, raster, scores, self.predictor))

    def file(self, answer: Wanted = "file", **more: Any) -> File:
        body = self.answer(answer, **more).body
        assert isinstance(body, File)
        return body

    def values(self, answer: Wanted = "json", **more: Any) -> dict[str, Any]:
        body = self.answer(answer, **more).body
        assert isinstance(body, dict)
        return json.loads(json.dumps(body, allow_nan=False))


@pytest.fixture(scope="module")
def cases(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """Every kind once, predicted from the command line's own function."""
    made: dict[str, Case] = {}

    def find(kind: str) -> Case:
        if kind not in made:
            run = trained(kind)
            source = sorted((run.data / "images").iterdir())[1]
            predictor, out = (
                labelmend.load(run.run, device="cpu"),
                tmp_path_factory.mktemp(kind),
            )
            tables = Beside(conclusions=out / "conclusions", smallest=2)
            outcome = predict_all(predictor, [source], out, Way(beside=tables))
            assert not outcome.failed
            predict_all(predictor, [source], out / "flips", Way(flips=True))
            made[kind] = Case(predictor, source, outcome.written[0])
        return made[kind]

    return find


Cases = Callable[[str], Case]


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_that_of_predict(kind: str, cases: Cases) -> None:
    case = cases(kind)
    file = case.file()
    assert (file.name, file.content) == (case.out.name, case.out.read_bytes())
    label = case.values()["label"]
    assert base64.b64decode(label["base64"]) == case.out.read_bytes()
    assert (label["name"], label["type"]) == (file.name, file.media)


@pytest.mark.parametrize("kind", KINDS)
def test_mirror_images_are_predicted_alike(kind: str, cases: Cases) -> None:
    case = cases(kind)
    assert case.file(flips=True).content == (case.out.parent / "flips" / case.out.name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_conclusions_are_those_of_predict(kind: str, cases: Cases) -> None:
    case = cases(kind)
    written = json.loads((case.out.parent / "conclusions/conclusions.json").read_text())["files"][0]
    found = case.values(conclusions=True, smallest=2)["conclusions"]
    assert written["objects"], "nothing to compare"
    assert found.pop("file") == case.name and written.pop("file") == str(case.source)
    assert found == written
    assert case.values("rle", conclusions=True, smallest=2)["conclusions"]["objects"]
    assert case.values()["conclusions"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_runs_stand_for_the_same_label(kind: str, cases: Cases) -> None:
    case = cases(kind)
    found = case.values("rle")["label"]
    label = np.load(io.BytesIO(case.file("npy").content))
    assert found["size"] == list(label.shape)
    again = np.full(label.shape, found["background"])
    for one in found["classes"]:
        assert sum(one["counts"]) == label.size
        inside = np.repeat(np.arange(len(one["counts"])) % 2 == 1, one["counts"])
        again[inside.reshape(label.shape, order="F")] = one["value"]
        if label.ndim == 2:
            packed = coco.frPyObjects(
                {"size": found["size"], "counts": one["counts"]}, *label.shape
            )
            assert np.array_equal(coco.decode(packed) == 1, label == one["value"])
    assert np.array_equal(again, label)


def test_lengths_of_runs() -> None:
    for text, expected in (
        ("", [0]),
        ("0", [1]),
        ("1", [0, 1]),
        ("0011101", [2, 3, 1, 1]),
        ("1000", [0, 1, 3]),
    ):
        assert lengths(np.array([c == "1" for c in text], bool)) == expected


def test_one_label_in_every_format(cases: Cases) -> None:
    case = cases("gray")
    expected = np.asarray(Image.open(case.out))
    for wanted, suffix in (
        ("png", ".png"),
        ("tiff", ".tif"),
        ("nifti", ".nii.gz"),
        ("npy", ".npy"),
    ):
        file = case.file(wanted)  # type: ignore[arg-type]
        assert file.name == case.source.stem + suffix
        found = read_image(Path(file.name), content=file.content).array
        assert np.array_equal(found.reshape(expected.shape), expected)
    with pytest.raises(DataError, match=r"s1\.csv: .*events"):
        case.file("csv")


def test_geometry_comes_along(cases: Cases, tmp_path: Path) -> None:
    case = cases("volume")
    about = case.values()
    assert about["spacing"] == [1.5, 1.5, 2.5]
    headers = case.answer().headers
    assert headers["X-Size"] == "9,10,7"
    assert headers["X-Spacing"] == "1.5,1.5,2.5"
    affine = nibabel.load(case.source).affine
    assert np.array_equal(
        np.reshape([float(n) for n in headers["X-Affine"].split(",")], (4, 4)), affine
    )
    (tmp_path / "a.nii.gz").write_bytes(case.file().content)
    assert np.array_equal(nibabel.load(tmp_path / "a.nii.gz").affine, affine)
    assert cases("recording").values()["spacing"] == [1 / 400]
    assert "X-Affine" not in cases("gray").answer().headers


def test_the_place_on_the_map_comes_along(cases: Cases, tmp_path: Path) -> None:
    case = cases("gray")
    place = (33922, 12, 6, (0.0, 0.0, 0.0, 7e5, 4e6, 0.0), True)
    tags = [place, (34735, 3, 8, (1, 1, 0, 1, 3072, 0, 1, 32611), True)]
    image = read_image(case.source).array[0]
    tifffile.imwrite(tmp_path / "on-the-map.tif", image, extratags=tags)
    other = replace(case, source=tmp_path / "on-the-map.tif")
    (tmp_path / "a.tif").write_bytes(other.file("tiff").content)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.geotiff_metadata["ModelTiepoint"][3:5] == [7e5, 4e6]


def test_what_lies_unlike_all_training_images_comes_with_words(
    cases: Cases, tmp_path: Path
) -> None:
    case = cases("volume")
    assert case.values()["warnings"] == [] and case.values("rle")["warnings"] == []
    assert "X-Warnings" not in case.answer().headers
    image = nibabel.load(case.source)
    turned = tmp_path / "gedreht-\N{GREEK SMALL LETTER OMEGA}.nii.gz"
    mirrored = np.diag([-4.0, 1, 1, 1]) @ image.affine
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), mirrored), turned)
    other = replace(case, source=turned)
    lies, apart = other.values()["warnings"]
    assert lies.startswith(f"{turned.name} lies in orientation ") and "grid unlike" in apart
    header = other.answer().headers["X-Warnings"]
    assert header.isascii() and json.loads(header) == [lies, apart]


def test_outlines_are_drawn_over_images(cases: Cases) -> None:
    case = cases("colour")
    file = case.file("overlay")
    picture = np.asarray(Image.open(io.BytesIO(file.content)))
    assert picture.shape == (20, 24, 3)
    assert (picture == (230, 159, 0)).all(-1).any()
    with pytest.raises(SettingsError, match="overlay"):
        cases("recording").answer("overlay")


def test_names_may_hold_anything(cases: Cases) -> None:
    case = cases("gray")
    question = Question('a "b";\r\n\u00e4 \ud800.png')
    raster = read(question, case.source.read_bytes(), case.predictor.spec, LIMIT)
    scores = case.predictor.scores(raster)
    said = reply(Prediction(question, raster, scores, case.predictor)).headers[
        "Content-Disposition"
    ]
    assert said.isascii() and said.isprintable()
    assert said.startswith("attachment; filename*=UTF-8''a%20%22b%22%3B%0D%0A%C3%A4%20")


def test_arrays_say_where_their_channels_are(cases: Cases) -> None:
    case = cases("colour")
    image = np.asarray(Image.open(case.source))
    content = io.BytesIO()
    np.save(content, np.moveaxis(image, -1, 0))
    with pytest.raises(DataError, match="24 channels"):
        read(Question("a.npy"), content.getvalue(), case.predictor.spec, LIMIT)
    found = read(
        Question("a.npy", channels="first"), content.getvalue(), case.predictor.spec, LIMIT
    )
    assert np.array_equal(found.array, np.moveaxis(image, -1, 0))


def test_other_channels_than_in_training_are_refused(cases: Cases) -> None:
    content = cases("colour").source.read_bytes()
    with pytest.raises(DataError, match=r"c\.png has 3 channels.* on 1;"):
        read(Question("c.png"), content, cases("gray").predictor.spec, LIMIT)


def test_what_promises_more_than_may_be_is_refused(cases: Cases) -> None:
    case = cases("gray")
    content = case.source.read_bytes()
    assert read(Question("a.png"), content, case.predictor.spec, 20 * 24).array.size == 480
    with pytest.raises(DataError, match=r"a\.png: .*more than the limit"):
        read(Question("a.png"), content, case.predictor.spec, 20 * 24 - 1)


def test_what_data_toml_says_of_the_spacing_goes_first(cases: Cases) -> None:
    case = cases("volume")
    spec = replace(case.predictor.spec, spacing=(9.0, 8.0, 7.0))
    content = case.source.read_bytes()
    assert read(Question("a.nii.gz"), content, spec, LIMIT).spacing == (9.0, 8.0, 7.0)


# --- regression -----------------------------------------------------------------------------------


def test_numbers_come_as_numbers(trained: Trained, tmp_path: Path) -> None:
    run = trained("continuous")
    source = sorted((run.data / "images").iterdir())[1]
    predictor = labelmend.load(run.run, device="cpu")
    written = predict_all(predictor, [source], tmp_path).written[0]
    case = Case(predictor, source, written)
    assert case.file().content == written.read_bytes()
    for answer, more in (("rle", {}), ("overlay", {}), ("json", {"conclusions": True})):
        with pytest.raises(SettingsError):
            case.answer(answer, **more)  # type: ignore[arg-type]
