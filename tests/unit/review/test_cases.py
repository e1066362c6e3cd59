"""What is shown of a case is what the files and the network say, and is made once."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelmend.audit import Ranked
from labelmend.errors import ChangedDataError, DataError, RunError, SettingsError, ShapeError
from labelmend.files.readers import read_as, read_label
from labelmend.inference.fix import fix
from labelmend.review.cases import Cases, contrast_of

from ...made_data import KINDS
from ..inference import test_fix as made
from .made_cases import first, make_cases, make_predictor, ranked

SEGMENTED = [kind for kind in KINDS if kind != "continuous"]


def read(cases: Cases, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, label and valid, straight from the files."""
    sample = cases.samples[number]
    raster = read_as(cases.root / sample.image, cases.spec)
    return raster.array, *read_label(cases.root / sample.label, cases.spec, raster)


@pytest.mark.parametrize("kind", SEGMENTED)
def test_labels_are_those_of_the_files_and_of_the_network(kind: str, tmp_path: Path) -> None:
    cases = make_cases(tmp_path, kind)
    assert len(cases) == len(cases.predictor.run.data.samples)
    for number in (first(cases, "strong"), first(cases, "weak")):
        image, label, valid = read(cases, number)
        shown = cases.label(number)
        assert shown.dtype == np.int16
        assert np.array_equal(shown, np.where(valid, label, -1))
        predicted = cases.label(number, "prediction")
        assert predicted.dtype == np.int16
        assert np.array_equal(predicted, cases.predictor.predict(image))
        about = cases.about(number)
        assert (about.size, about.channels) == (label.shape, len(image))
        assert about.display[0] < about.display[1]
        assert cases.base(cases.samples[number].label)[0] is shown
        assert cases.base(cases.samples[number].label)[1] == cases.samples[number].label_sha256


def test_continuous_labels_are_shown_and_count_as_nothing_drawn(tmp_path: Path) -> None:
    cases = make_cases(tmp_path, "continuous")
    number = first(cases, "weak")
    image, label, valid = read(cases, number)
    shown = cases.label(number)
    assert shown.dtype == np.float32
    assert np.array_equal(np.where(valid, label, np.nan), shown, equal_nan=True)
    assert np.array_equal(cases.label(number, "prediction"), cases.predictor.predict(image))
    base, _ = cases.base(cases.samples[number].label)
    assert (base.dtype, base.shape, base.any()) == (np.int16, label.shape[1:], False)


def test_unknown_positions_stay_unknown(tmp_path: Path) -> None:
    cases = make_cases(tmp_path, "signal")
    number = first(cases, "strong")
    assert (cases.label(number) == -1).sum() == 3


# --- moved labels ---------------------------------------------------------------------------------


IGNORE = "ignore = 9\n[classes]\nrest = 0\ncell = 1\n"


@pytest.mark.parametrize("ignore", [False, True])
def test_moved_labels_are_those_that_fix_writes(ignore: bool, tmp_path: Path) -> None:
    options = {"toml": IGNORE, "outside": 9} if ignore else {}
    made.make_data(tmp_path, label_of=lambda place: place * np.uint8(1), **options)
    cases = make_cases(tmp_path)
    fix(cases.predictor, tmp_path / "fixed")
    moved = set()
    for number, sample in enumerate(cases.samples):
        if sample.quality == "strong":
            assert np.array_equal(cases.label(number, "moved"), cases.label(number))
            continue
        with Image.open(tmp_path / "fixed" / sample.label) as written:
            there = np.asarray(written).astype(np.int16)
        assert np.array_equal(cases.label(number, "moved"), np.where(there == 9, -1, there))
        assert ((cases.label(number, "moved") == -1).any()) == (ignore and sample.name != "c")
        if not np.array_equal(cases.label(number, "moved"), cases.label(number)):
            moved.add(sample.name)
    assert moved == {"a", "b", "d"}


def test_labels_that_move_together_move_by_what_the_audit_found(tmp_path: Path) -> None:
    alike = {"align": {"per": "annotator"}}
    cases = make_cases(tmp_path, "gray", alike, displacement=(1.0, -2.0), confidence=0.9)
    number = first(cases, "weak")
    original, moved = cases.label(number), cases.label(number, "moved")
    assert np.array_equal(moved[1:, :-2], original[:-1, 2:])
    assert cases.predictor.network.asked == 0


def test_labels_that_move_together_stay_where_the_audit_found_nothing(tmp_path: Path) -> None:
    cases = make_cases(tmp_path, "gray", {"align": {"per": "set"}})
    number = first(cases, "weak")
    assert np.array_equal(cases.label(number, "moved"), cases.label(number))


# --- what is kept ---------------------------------------------------------------------------------


def test_what_many_ask_for_at_once_is_made_once(tmp_path: Path) -> None:
    cases = make_cases(tmp_path, "gray")
    found: list[np.ndarray] = []

    def ask() -> None:
        found.append(cases.label(0, "prediction"))
        found.append(cases.label(0, "moved"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert cases.predictor.network.asked == 1


def test_labels_of_one_image_share_its_prediction(tmp_path: Path) -> None:
    cases = make_cases(tmp_path, "gray")
    image = cases.samples[0].image
    same = [n for n, sample in enumerate(cases.samples) if sample.image == image]
    assert len(same) == 3
    shown = [cases.label(number, "prediction") for number in same]
    assert shown[0] is shown[1] is shown[2]


def test_with_no_memory_everything_is_made_again(tmp_path: Path) -> None:
    cases = make_cases(tmp_path, "gray", memory=100)
    shown = [cases.label(0, "prediction") for _ in range(2)]
    assert np.array_equal(shown[0], shown[1])
    assert cases.predictor.network.asked == 2


# --- what is refused ------------------------------------------------------------------------------


def test_a_file_that_changed_is_named(tmp_path: Path) -> None:
    cases = make_cases(tmp_path, "gray")
    sample = cases.samples[0]
    (cases.root / sample.image).write_bytes(b"other")
    with pytest.raises(ChangedDataError, match=sample.image):
        cases.label(0)


def test_data_that_is_gone_is_named(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="does not exist any more"):
        Cases(predictor, ranked(predictor))


def test_an_audit_of_other_labels_is_refused(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path)
    order: list[Ranked] = [replace(ranked(predictor)[0], label="labels/other.png")]
    with pytest.raises(RunError, match=r"labels/other\.png"):
        Cases(predictor, order)


def test_more_classes_than_bytes_can_say_are_refused(tmp_path: Path) -> None:
    predictor = make_predictor(tmp_path)
    data = predictor.run.data
    many = replace(data.spec, classes=tuple(map(str, range(256))), values=tuple(range(256)))
    description = replace(predictor.run._description, data=replace(data, spec=many))
    predictor.run._description = description
    with pytest.raises(SettingsError, match="255 classes"):
        Cases(predictor, ranked(predictor))


# --- planes and small pictures --------------------------------------------------------------------


def test_slices_of_volumes(tmp_path: Path) -> None:
    cases = make_cases(tmp_path, "volume")
    image, label = cases.image(0).array, cases.label(0)
    size = label.shape
    for axis in range(3):
        for index in (0, size[axis] - 1):
            assert np.array_equal(cases.plane(label, axis, index), label.take(index, axis))
            assert np.array_equal(cases.plane(image, axis, index), image.take(index, axis + 1))
    assert np.array_equal(cases.plane(label, None, None), label[size[0] // 2])
    assert np.array_equal(cases.plane(label, 2, None), label[:, :, size[2] // 2])


@pytest.mark.parametrize(("axis", "index"), [(3, 0), (-1, 0), (0, 99), (0, -1), (None, 10**9)])
def test_slices_that_are_not_there_are_refused(
    axis: int | None, index: int | None, tmp_path: Path
) -> None:
    cases = make_cases(tmp_path, "volume")
    with pytest.raises(ShapeError):
        cases.plane(cases.label(0), axis, index)


def test_a_picture_has_no_slices(tmp_path: Path) -> None:
    cases = make_cases(tmp_path)
    assert cases.plane(cases.label(0), None, None) is cases.label(0)
    for axis, index in ((0, None), (None, 0)):
        with pytest.raises(ShapeError, match="only volumes"):
            cases.plane(cases.label(0), axis, index)


@pytest.mark.parametrize("kind", KINDS)
def test_small_pictures_of_every_kind_of_data(kind: str, tmp_path: Path) -> None:
    cases = make_cases(tmp_path, kind)
    picture = Image.open(io.BytesIO(cases.thumbnail(first(cases, "weak"))))
    assert picture.format == "PNG"
    assert max(picture.size) <= 160
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 2


def test_small_pictures_show_the_label_that_is_given(tmp_path: Path) -> None:
    cases = make_cases(tmp_path)
    number = first(cases, "weak")
    empty = np.zeros_like(cases.label(number))
    assert cases.thumbnail(number) == cases.thumbnail(number, cases.label(number))
    assert cases.thumbnail(number) != cases.thumbnail(number, empty)


def test_continuous_values_that_nobody_knows_have_some_contrast() -> None:
    assert contrast_of(np.full((1, 3, 3), np.nan, np.float32)) == (0.0, 1.0)
