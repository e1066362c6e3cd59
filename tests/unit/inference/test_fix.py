"""Labels in their places as files: what is moved, what is kept, and what is never touched."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from labelmend.alignment.affine import rotation_matrix
from labelmend.alignment.aligner import ShiftAligner
from labelmend.catalogue.scan import open_data
from labelmend.config import Settings
from labelmend.data.grid import Grid
from labelmend.data.prepare import Preparation
from labelmend.errors import ChangedDataError, DataError, RunError, SettingsError, StorageError
from labelmend.files.readers import read_as, read_label
from labelmend.inference.fix import fix, open_sample
from labelmend.inference.fixed import Fixed, Fixing, angle_and_scale, drift
from labelmend.inference.moved_labels import filler, target_name, write_moved
from labelmend.inference.places import Place, moved_arrays
from labelmend.inference.predictor import Predictor
from labelmend.inference.search import Search, make_search
from labelmend.progress import Silent
from labelmend.runs import Run
from labelmend.runs.disk import Disk
from labelmend.types import IN_PLACE, MOVED, PARTLY, UNSURE, DataSpec, Raster, Sample

SIZE = 64
RNG = np.random.default_rng


class Bright(nn.Module):
    """The answer read out of the image: class 1 where it is bright, or the image itself."""

    def __init__(self, values: bool = False) -> None:
        super().__init__()
        self.values = values

    def forward(self, image: Tensor) -> Tensor:
        seen = image[:, :1]
        return seen if self.values else torch.cat([-8 * seen, 8 * seen], 1)


def blobs(number: int, many: int = 7, size: int = SIZE) -> np.ndarray:
    """Ellipses anywhere, also across the border: bool ``(size, size)``."""
    rng, place = RNG(number), np.zeros((size, size), bool)
    down, right = np.mgrid[:size, :size]
    for _ in range(many):
        (y, x), (a, b) = rng.uniform(0, size, 2), rng.uniform(3, 8, 2)
        place |= ((down - y) / a) ** 2 + ((right - x) / b) ** 2 < 1
    return place


def shifted(array: np.ndarray, by: tuple[int, ...], outside: float = 0) -> np.ndarray:
    """Nothing wraps around."""
    return ndimage.shift(array, by, order=0, cval=outside, prefilter=False)


def known_after(there: tuple[int, ...]) -> np.ndarray:
    """Where a label that was displaced, and moved back, is known."""
    back = tuple(-v for v in there)
    return shifted(np.ones((SIZE, SIZE), np.uint8), back) > 0


Write = Callable[[Path, np.ndarray], None]


def png(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


def make_predictor(
    root: Path, network: nn.Module, changes: Mapping[str, Any] | None = None
) -> Predictor:
    """A run of the data in ``root/data`` whose network knows the answer; nothing is trained."""
    settings = Settings.make(dict(changes or {}))
    data, _ = open_data(root / "data", val_share=0.0)
    names = ("normalise", "spacing", "size")
    preparation = Preparation(**{name: getattr(settings.input, name) for name in names})
    facts = {
        "patch": [SIZE] * data.spec.dims,
        "preparation": dataclasses.asdict(preparation),
        "out_channels": 2 if data.spec.task == "segmentation" else len(data.spec.classes),
    }
    run = Run.create(root / "run", settings, data, facts)
    cpu = torch.device("cpu")
    return Predictor(run, 3, network.eval(), preparation, (SIZE,) * data.spec.dims, 1, cpu)


PLACES = {"a": (3, -5), "b": (-4, 0), "c": (0, 0), "d": (6, 6)}


def make_data(
    root: Path,
    write: Write = png,
    suffix: str = ".png",
    label_of: Callable[[np.ndarray], np.ndarray] = lambda place: place * np.uint8(255),
    toml: str = "",
    places: Mapping[str, tuple[int, int]] = PLACES,
    outside: float = 0,
    many: int = 7,
) -> dict[str, np.ndarray]:
    """Images of blobs and labels of them that are displaced; the true labels."""
    for folder in ("images", "labels/strong", "labels/weak/ann"):
        (root / "data" / folder).mkdir(parents=True, exist_ok=True)
    truth = {}
    for number, (name, there) in enumerate({**places, "s": (0, 0)}.items()):
        place = blobs(number, many)
        png(root / f"data/images/{name}.png", (60 + 120 * place).astype(np.uint8))
        truth[name] = label_of(place)
        folder = "strong" if name == "s" else "weak/ann"
        write(root / f"data/labels/{folder}/{name}{suffix}", shifted(truth[name], there, outside))
    if toml:
        (root / "data/data.toml").write_text(toml)
    return truth


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    with (out / "fixed.csv").open(newline="") as file:
        return {Path(row["label"]).name.split(".")[0]: row for row in csv.DictReader(file)}


# --- a whole data set -----------------------------------------------------------------------------


def test_labels_equal_the_truth_where_it_is_known(tmp_path: Path) -> None:
    truth = make_data(tmp_path)
    predictor = make_predictor(tmp_path, Bright())
    before, out = hashes(tmp_path), tmp_path / "new" / "out"
    found = fix(predictor, out)
    after = {name: each for name, each in hashes(tmp_path).items() if not name.startswith("new/")}
    assert after == before
    assert sorted(hashes(out)) == ["fixed.csv", *(f"labels/weak/ann/{n}.png" for n in PLACES)]
    table = rows_of(out)
    for name, there in PLACES.items():
        written = np.asarray(Image.open(out / f"labels/weak/ann/{name}.png"))
        known = known_after(there)
        assert np.array_equal(written[known], truth[name][known])
        assert (written[~known] == 0).all()
        row = table[name]
        assert [float(row[f"displacement_{axis}"]) for axis in (0, 1)] == [-v for v in there]
        assert int(row["unknown"]) == (~known).sum()
        assert row["moved"] == ("yes" if any(there) else "no")
        assert float(row["dice_after"]) == 1.0
        assert row["reason"] == ("moved" if any(there) else "in place already")
    same = "labels/weak/ann/c.png"
    assert (out / same).read_bytes() == (tmp_path / "data" / same).read_bytes()
    assert len(found.moved) == 3
    text = found.to_text()
    assert text.startswith(
        "3 of 4 weak labels moved, by 5.83 positions in the median and 8.49 at most\n"
        "1 in place already, 0 unclear: written as they were\n"
    )
    assert "written there: background; an ignore value in data.toml" in text
    assert "moved by (-3, +5), 100 % sure" in text


def test_moved_labels_can_be_trained_on(tmp_path: Path) -> None:
    make_data(tmp_path)
    fix(make_predictor(tmp_path, Bright()), tmp_path / "out")
    for path in (tmp_path / "out/labels/weak/ann").iterdir():
        path.replace(tmp_path / "data/labels/weak/ann" / path.name)
    data, problems = open_data(tmp_path / "data")
    assert len(data.samples) == len(PLACES) + 1 and not problems


def test_unclear_labels_stay_and_are_named(tmp_path: Path) -> None:
    make_data(tmp_path, places={"a": (2, 2), "b": (9, 1)})
    empty = np.zeros((SIZE, SIZE), np.uint8)
    png(tmp_path / "data/labels/weak/ann/b.png", empty)
    out = tmp_path / "out"
    found = fix(make_predictor(tmp_path, Bright()), out)
    assert (out / "labels/weak/ann/b.png").read_bytes() == (
        tmp_path / "data/labels/weak/ann/b.png"
    ).read_bytes()
    row = rows_of(out)["b"]
    assert row["moved"] == "no" and row["reason"] == "the label is the same everywhere"
    assert "0 in place already, 1 unclear" in found.to_text()


def test_labels_of_one_group_are_moved_alike(tmp_path: Path) -> None:
    """None of them is clear by itself, all together are."""
    places = dict.fromkeys("abcdef", (2, -3))
    truth = make_data(tmp_path, places=places, many=3)
    assert not fix(make_predictor(tmp_path, Faint()), tmp_path / "alone").moved
    for per in ("annotator", "set"):
        put_aside(tmp_path)
        predictor = make_predictor(tmp_path, Faint(), {"align": {"per": per}})
        out = tmp_path / per
        assert len(fix(predictor, out).moved) == 6
        known = known_after((2, -3))
        for name in places:
            written = np.asarray(Image.open(out / f"labels/weak/ann/{name}.png"))
            assert np.array_equal(written[known], truth[name][known])


class Faint(nn.Module):
    """What is bright hides in noise."""

    def forward(self, image: Tensor) -> Tensor:
        noise = torch.from_numpy(RNG(5).normal(0, 0.85, tuple(image.shape))).to(image)
        return torch.cat([-(image + noise), image + noise], 1)


def put_aside(root: Path) -> None:
    (root / "run").rename(root / f"run-{len(list(root.glob('run*')))}")


def test_without_an_anchor_the_mean_stays_where_it_is(tmp_path: Path) -> None:
    places = {"a": (2, 4), "b": (2, 0), "c": (2, -4)}
    make_data(tmp_path, places=places)
    held = make_predictor(tmp_path, Bright(), {"align": {"centred": True}})
    fix(held, tmp_path / "held")
    table = rows_of(tmp_path / "held")
    moves = {n: [float(table[n][f"displacement_{a}"]) for a in (0, 1)] for n in places}
    assert moves == {"a": [0, -4], "b": [0, 0], "c": [0, 4]}
    assert table["b"]["reason"] == "in place already" and table["b"]["moved"] == "no"
    # What strong labels say of their place is believed.
    assert not make_search(make_and_forget(tmp_path).run, None, torch.device("cpu")).centred
    put_aside(tmp_path)
    unseen = make_predictor(tmp_path, Bright(), {"batch": {"strong_share": 0}})
    assert make_search(unseen.run, None, torch.device("cpu")).centred
    for path in (tmp_path / "data/labels/strong").iterdir():
        path.unlink()
    (tmp_path / "data/splits.csv").unlink(missing_ok=True)
    assert make_search(make_and_forget(tmp_path).run, None, torch.device("cpu")).centred


def make_and_forget(root: Path) -> Predictor:
    put_aside(root)
    return make_predictor(root, Bright(), {"batch": {"strong_share": None}})


def test_a_coarser_grid_moves_files_by_its_own_positions(tmp_path: Path) -> None:
    places = {"a": (4, -6), "b": (-8, 2), "c": (0, 0)}
    truth = make_data(tmp_path, places=places)
    predictor = make_predictor(tmp_path, Bright(), {"input": {"size": [32, 32]}})
    fix(predictor, tmp_path / "out")
    for name, there in places.items():
        known = known_after(there)
        written = np.asarray(Image.open(tmp_path / f"out/labels/weak/ann/{name}.png"))
        assert np.array_equal(written[known], truth[name][known])


def test_large_images_are_compared_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = make_data(tmp_path)
    monkeypatch.setattr("labelmend.inference.offsets.AT_ONCE", SIZE * SIZE // 4)
    fix(make_predictor(tmp_path, Bright()), tmp_path / "out")
    for name, there in PLACES.items():
        known = known_after(there)
        written = np.asarray(Image.open(tmp_path / f"out/labels/weak/ann/{name}.png"))
        assert np.array_equal(written[known], truth[name][known])


@pytest.mark.parametrize("corner", [(0, 0), (0, 32), (32, 0), (32, 32)])
def test_every_part_of_a_large_image_has_its_say(
    corner: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All there is to compare lies in one of four parts, and then in each of them."""
    search = Search(ShiftAligner(4), None, "sample", centred=False, device=torch.device("cpu"))
    label = np.zeros((SIZE, SIZE), np.int64)
    label[tuple(slice(c + 9, c + 20) for c in corner)] = 1
    there, valid = shifted(label, (2, -1)), label >= 0
    seen = np.stack([-8.0 * there, 8.0 * there]).astype(np.float32)
    monkeypatch.setattr("labelmend.inference.offsets.AT_ONCE", SIZE * SIZE // 4)
    evidence = search.evidence(seen, label, valid)
    assert search.decide(evidence).displacement.tolist() == [2, -1]
    assert (evidence + evidence).edges == 2 * evidence.edges > 0


def test_predictions_that_are_not_kept_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path)
    predictor = make_predictor(tmp_path, Bright())
    fix(predictor, tmp_path / "kept")
    monkeypatch.setattr("labelmend.inference.fix.MOST_KEPT", 0)
    fix(predictor, tmp_path / "again")
    assert hashes(tmp_path / "kept") == hashes(tmp_path / "again")


def test_turned_labels_are_turned_back(tmp_path: Path) -> None:
    make_data(tmp_path, places={"a": (0, 0), "b": (0, 0)})
    there = rotation_matrix(torch.tensor([0.12], dtype=torch.float64), (SIZE, SIZE))[0].numpy()
    true = blobs(0).astype(np.int64)
    turned = moved_arrays(true, true > -1, Place(np.zeros(2), 1, 9, MOVED, there))[0]
    png(tmp_path / "data/labels/weak/ann/a.png", (turned * 255).astype(np.uint8))
    predictor = make_predictor(tmp_path, Bright())
    found = fix(predictor, tmp_path / "out", align="rigid")
    row = rows_of(tmp_path / "out")["a"]
    assert float(row["angle"]) == pytest.approx(-np.degrees(0.12), abs=1)
    assert float(row["scale"]) == pytest.approx(1, abs=1e-6)
    assert float(row["dice_after"]) > 0.95 > float(row["dice_before"]) + 0.05
    assert "and turned or stretched" in found.to_text()
    assert rows_of(tmp_path / "out")["b"]["moved"] == "no"


@pytest.mark.parametrize("window", [16, 7, 6, 5, 4, 3])
def test_labels_that_moved_as_far_as_was_looked_are_said(tmp_path: Path, window: int) -> None:
    make_data(tmp_path)
    fixing = fix(
        make_predictor(tmp_path, Bright(), {"align": {"window": window, "near": 2}}),
        tmp_path / "moved",
    )
    far = [np.abs(row.place.displacement).max() for row in fixing.moved]
    held = sum(int(each == window) for each in far)
    assert (held > 0) == (window <= 6)  # PLACES: one is 6 off, all others less
    said = f"warning: {held} label{'s' * (held != 1)} moved by {window} positions, as far as"
    assert (said in fixing.to_text()) == bool(held)
    assert ("larger align.window" in fixing.to_text()) == bool(held)


def test_the_least_certain_come_first(tmp_path: Path) -> None:
    make_data(tmp_path)
    sample = make_predictor(tmp_path, Bright()).run.weak[0]

    def one(name: str, code: int, far: float, sure: float, before: float, after: float) -> Fixed:
        place = Place(np.array([far, 0.0]), sure, 0.0, code)
        return Fixed(dataclasses.replace(sample, label=name), name, place, "dice", before, after, 0)

    rows = (
        one("settled", IN_PLACE, 0, 0.99, 0.9, 0.9),
        one("sure", MOVED, 3, 0.99, 0.5, 0.9),
        one("hardly", MOVED, 3, 0.91, 0.5, 0.9),
        one("unclear", UNSURE, 0, 0.2, 0.6, 0.6),
        one("nothing", UNSURE, 0, 0.2, float("nan"), float("nan")),
        one("worse", MOVED, 1, 0.95, 0.6, 0.5),
    )
    fixing = Fixing(tmp_path, rows, "background", [{"drift_0": 0.9, "drift_1": 0.0}])
    order = [row.written for row in fixing.first()]
    assert order == ["worse", "unclear", "nothing", "hardly", "sure", "settled"]
    text = fixing.to_text()
    assert "strong labels moved by (+0.9, +0.0)" in text and "settled" not in text
    assert "nothing: no place is clearly the best, dice –" in text
    lines = list(csv.DictReader(fixing.to_csv().splitlines()))
    assert [line["label"] for line in lines] == order
    assert lines[2]["dice_before"] == "" and "nan" not in fixing.to_csv()
    assert "warning" not in Fixing(tmp_path, rows, "", [{"drift_0": 0.3}]).to_text()
    assert drift([{"step": 1}]) is None


def test_a_network_that_drifted_in_training_is_warned_of(tmp_path: Path) -> None:
    make_data(tmp_path, places={"a": (3, -5)})
    predictor = make_predictor(tmp_path, Bright())
    predictor.run.log({"step": 1, "kind": "train", "drift_0": 0.9, "drift_1": 0.0})
    predictor.run.log({"step": 1, "kind": "val", "dice": 0.5})
    text = fix(predictor, tmp_path / "out").to_text()
    assert "strong labels moved by (+0.9, +0.0)" in text


# --- what a file holds ----------------------------------------------------------------------------


def test_numbers_of_objects_and_the_ignore_value_are_kept(tmp_path: Path) -> None:
    def numbered(place: np.ndarray) -> np.ndarray:
        return (ndimage.label(place)[0] * 300).astype(np.uint16)

    toml = "instances = true\nignore = 65000\n"
    truth = make_data(tmp_path, tifffile.imwrite, ".tif", numbered, toml, outside=65000)
    fix(make_predictor(tmp_path, Bright()), tmp_path / "out")
    for name, there in PLACES.items():
        written = tifffile.imread(tmp_path / f"out/labels/weak/ann/{name}.tif")
        known = known_after(there)
        assert written.dtype == np.uint16
        assert np.array_equal(written[known], truth[name][known])
        assert (written[~known] == 65000).all()
        assert int(rows_of(tmp_path / "out")[name]["unknown"]) == (~known).sum()


def test_labels_stay_on_the_map_of_their_images(tmp_path: Path) -> None:
    make_data(tmp_path, tifffile.imwrite, ".tif")
    place = (33922, 12, 6, (0.0, 0.0, 0.0, 7e5, 4e6, 0.0), True)
    tags = [place, (34735, 3, 8, (1, 1, 0, 1, 3072, 0, 1, 32611), True)]
    for file in sorted((tmp_path / "data/images").iterdir()):
        tifffile.imwrite(file.with_suffix(".tif"), np.asarray(Image.open(file)), extratags=tags)
        file.unlink()
    fix(make_predictor(tmp_path, Bright()), tmp_path / "out")
    for name in [name for name, there in PLACES.items() if any(there)]:
        with tifffile.TiffFile(tmp_path / f"out/labels/weak/ann/{name}.tif") as tiff:
            assert tiff.geotiff_metadata["ModelTiepoint"][3:5] == [7e5, 4e6]


def test_values_continue_at_the_edge_or_are_ignored(tmp_path: Path) -> None:
    def value(place: np.ndarray) -> np.ndarray:
        return (ndimage.gaussian_filter(place * 2.5, 1) - 1).astype(np.float32)

    toml = 'task = "regression"\nclasses = ["height"]\n'
    settings = {"loss": "l2"}
    truth = make_data(tmp_path, tifffile.imwrite, ".tif", value, toml)
    fix(make_predictor(tmp_path, Bright(values=True), settings), tmp_path / "out")
    table = rows_of(tmp_path / "out")
    for name, there in PLACES.items():
        written = tifffile.imread(tmp_path / f"out/labels/weak/ann/{name}.tif")
        known = known_after(there)
        assert np.array_equal(written[known], truth[name][known])
        nearest = ndimage.distance_transform_edt(
            ~known, return_distances=False, return_indices=True
        )
        assert np.array_equal(written, truth[name][tuple(nearest)])
        assert float(table[name]["psnr_after"]) >= float(table[name]["psnr_before"])
    (tmp_path / "data/data.toml").write_text(f"{toml}ignore = 99\n")
    put_aside(tmp_path)
    fix(make_predictor(tmp_path, Bright(values=True), settings), tmp_path / "ignored")
    written = tifffile.imread(tmp_path / "ignored/labels/weak/ann/a.tif")
    assert (written[~known_after(PLACES["a"])] == 99).all()


EVENTS = b"onset_s,offset_s,label\n0.5,1.0,b\n2.0,3.5,a\n4.5,5.0,ignore\n"
SPEC = DataSpec("segmentation", ("rest", "a", "b"), (0, 1, 2), None, 1, 1, "none", ".csv")


@pytest.mark.parametrize("by", [-2, -1, 0, 1, 3, 9])
def test_events_move_as_their_positions_do(by: int, tmp_path: Path) -> None:
    recording = Raster(np.zeros((1, 12), np.float32), (0.5,))
    before = read_label(tmp_path / "a.csv", SPEC, recording, content=EVENTS)
    place = Place(np.array([float(by)]), 1, 9, MOVED)
    many = write_moved(tmp_path / "b.csv", tmp_path / "a.csv", EVENTS, place, SPEC, recording)
    label, valid = read_label(tmp_path / "b.csv", SPEC, recording)
    there, known = moved_arrays(*before, place)
    assert np.array_equal(label[known], there[known]) and np.array_equal(valid, known)
    assert many == abs(by)


@pytest.mark.parametrize("begin", [0.5, 1.5, 2.5, 3.5])
def test_an_event_of_one_sample_is_not_lost_by_where_it_lies(begin: float, tmp_path: Path) -> None:
    recording = Raster(np.zeros((1, 12), np.float32), (0.1,))
    content = f"onset_s,offset_s,label\n{begin * 0.1!r},{(begin + 1) * 0.1!r},b\n".encode()
    place = Place(np.array([2.0]), 1, 9, MOVED)
    write_moved(tmp_path / "b.csv", tmp_path / "a.csv", content, place, SPEC, recording)
    label, _ = read_label(tmp_path / "b.csv", SPEC, recording)
    assert np.flatnonzero(label).tolist() == [begin + 2.5]


def test_half_a_sample_that_nobody_knows_is_rounded_alike_everywhere(tmp_path: Path) -> None:
    recording = Raster(np.zeros((1, 12), np.float32), (0.1,))
    for shift in (0.5, 1.5, 2.5):
        place = Place(np.array([0.0]), 1, 9, MOVED, np.array([[1.0, shift]]))
        many = write_moved(tmp_path / "b.csv", tmp_path / "a.csv", EVENTS, place, SPEC, recording)
        assert many == shift + 0.5


def test_events_stretch_and_those_outside_are_dropped(tmp_path: Path) -> None:
    recording = Raster(np.zeros((1, 12), np.float32), (0.5,))
    matrix = np.array([[1.25, 2.0]])
    place = Place(np.array([3.0]), 1, 9, MOVED, matrix)
    write_moved(tmp_path / "b.csv", tmp_path / "a.csv", EVENTS, place, SPEC, recording)
    with (tmp_path / "b.csv").open(newline="") as file:
        rows = [
            (float(r["onset_s"]), float(r["offset_s"]), r["label"]) for r in csv.DictReader(file)
        ]
    # Boundary e lies at position e - 1/2, and goes to 1.25 (e - 1/2) + 2 + 1/2.
    assert rows == [(0.0, 1.0, "ignore"), (1.5625, 2.1875, "b"), (3.4375, 5.3125, "a")]


def test_events_that_nothing_is_left_of_are_dropped(tmp_path: Path) -> None:
    recording = Raster(np.zeros((1, 12), np.float32), (0.5,))
    place = Place(np.array([0.0]), 1, 9, MOVED, np.array([[0.2, 0.0]]))
    write_moved(tmp_path / "b.csv", tmp_path / "a.csv", EVENTS, place, SPEC, recording)
    label, valid = read_label(tmp_path / "b.csv", SPEC, recording)
    assert label.tolist() == [0, 1, *[0] * 10] and valid.sum() == 3


def test_where_ignore_is_a_class_nobody_is_told_what_came_from_outside(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, classes=("rest", "b", "ignore"))
    recording = Raster(np.zeros((1, 12), np.float32), (0.5,))
    place = Place(np.array([3.0]), 1, 9, MOVED)
    content = b"onset_s,offset_s,label\n0.5,1.0,b\n"
    many = write_moved(tmp_path / "b.csv", tmp_path / "a.csv", content, place, spec, recording)
    label, _ = read_label(tmp_path / "b.csv", spec, recording)
    assert many == 3 and label.tolist() == [0, 0, 0, 0, 1, *[0] * 7]
    assert filler(spec).startswith("rest;")


def test_a_format_that_is_not_written_gives_way(tmp_path: Path) -> None:
    flat = DataSpec("segmentation", ("a", "b"), (0, 1), None, 2, 1, "none", ".png")
    values = dataclasses.replace(flat, task="regression", values=())
    assert target_name("labels/x.y.TIF", b"", flat) == "labels/x.y.TIF"
    assert target_name("labels/x.jpg", b"", flat) == "labels/x.png"
    assert target_name("labels/x.png", b"", values) == "labels/x.tif"
    assert target_name("labels/x.csv", EVENTS, SPEC) == "labels/x.csv"
    assert target_name("labels/x.csv", b"0\n1\n0\n", SPEC) == "labels/x.npy"
    assert filler(flat).startswith("a;") and filler(SPEC) == "an event called ignore"
    assert filler(values).startswith("the nearest value")


def test_nothing_that_is_known_is_no_label(tmp_path: Path) -> None:
    spec = DataSpec("regression", ("h",), (), None, 1, 1, "none", ".npy")
    np.save(tmp_path / "a.npy", np.arange(4, dtype=np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    image, far = Raster(np.zeros((1, 4), np.float32)), Place(np.array([9.0]), 1, 9, MOVED)
    with pytest.raises(DataError, match="nothing of the label is left"):
        write_moved(tmp_path / "b.npy", tmp_path / "a.npy", content, far, spec, image)


@pytest.mark.parametrize(("values", "ignore"), [((0, 300), None), ((0, 1), 65000)])
def test_all_labels_of_a_data_set_have_one_number_type(
    values: tuple[int, int], ignore: int | None, tmp_path: Path
) -> None:
    spec = DataSpec("segmentation", ("a", "b"), values, ignore, 1, 1, "none", ".npy")
    np.save(tmp_path / "a.npy", np.zeros(4, np.uint8))
    content, image = (tmp_path / "a.npy").read_bytes(), Raster(np.zeros((1, 4), np.float32))
    bent = Place(np.zeros(1), 1, 9, MOVED, field=np.zeros((1, 4), np.float32), bent_by=1.0)
    write_moved(tmp_path / "b.npy", tmp_path / "a.npy", content, bent, spec, image)
    assert np.load(tmp_path / "b.npy").dtype == np.uint16


@pytest.mark.parametrize("by", [-3, -2, 1, 3])
def test_what_came_from_outside_is_counted_whatever_is_ignored(by: int, tmp_path: Path) -> None:
    spec = DataSpec("regression", ("h",), (), 99, 1, 1, "none", ".npy")
    np.save(tmp_path / "a.npy", np.array([99, 99, 2, 3, 99, 5, 6, 7], dtype=np.float32))
    content, image = (tmp_path / "a.npy").read_bytes(), Raster(np.zeros((1, 8), np.float32))
    place = Place(np.array([float(by)]), 1, 9, MOVED)
    many = write_moved(tmp_path / "b.npy", tmp_path / "a.npy", content, place, spec, image)
    assert many == abs(by)
    before, after = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    assert np.array_equal(after, shifted(before, (by,), 99))


# --- places ---------------------------------------------------------------------------------------


def test_a_matrix_means_the_same_on_grid_and_file() -> None:
    rng = RNG(0)
    grid = Grid((40, 60), (20, 20), (0.5, 1.0), (2.0, 3.0))
    matrix = np.concatenate([np.eye(2) + rng.normal(0, 0.1, (2, 2)), rng.normal(size=(2, 1))], 1)
    inside = Place(np.zeros(2), 1, 9, MOVED, matrix).in_file(grid).matrix
    assert inside is not None
    step, origin = np.array(grid.step), np.array(grid.origin)
    for point in rng.uniform(0, 20, (5, 2)):
        moved = matrix @ [*point, 1]
        assert inside @ [*(origin + step * point), 1] == pytest.approx(origin + step * moved)


def test_what_is_taken_off_all_moves_only_what_is_clear_and_by_whole_positions() -> None:
    offset, there = np.array([1.6, -1.0]), np.array([2.0, -1.0])
    for left in (Place(there, 1, 9, UNSURE), Place(there, 1, 9, MOVED, np.eye(2, 3))):
        assert left.less(offset) is left
    for there, reason, wanted, why in (
        ((2.0, 1.0), MOVED, (0.0, 2.0), MOVED),
        ((2.0, -1.0), MOVED, (0.0, 0.0), IN_PLACE),
        ((2.0, 0.0), PARTLY, (0.0, 1.0), PARTLY),
        ((0.0, 0.0), IN_PLACE, (-2.0, 1.0), MOVED),
    ):
        found = Place(np.array(there), 1, 9, reason).less(offset)
        assert (*found.displacement, found.reason) == (*wanted, why)
    bent = Place(np.array([2.0, 1.0]), 1, 9, MOVED, field=np.ones((2, 1, 1)), bent_by=1.0)
    assert bent.less(offset).displacement == pytest.approx([0.4, 2.0])


def test_angle_and_scale_of_volumes() -> None:
    turn, stretch = np.radians(20), 1.1
    matrix = np.zeros((3, 4))
    matrix[:, :3] = np.eye(3)
    matrix[1:, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:, :3] *= stretch
    assert angle_and_scale(matrix) == pytest.approx((20, 1.1))
    assert angle_and_scale(None) == (0, 1)
    assert angle_and_scale(np.array([[1.3, 4.0]])) == pytest.approx((0, 1.3))


# --- what must not happen -------------------------------------------------------------------------


def test_refused_before_anything_is_written(tmp_path: Path) -> None:
    make_data(tmp_path)
    predictor = make_predictor(tmp_path, Bright())
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").touch()
    for out, words in (
        (tmp_path / "full", "is not empty"),
        (tmp_path / "full/a/b", "is a file"),
        (tmp_path / "data", "is not empty"),
        (tmp_path / "data/labels/mended", "lies in the data set"),
    ):
        with pytest.raises(RunError, match=words):
            fix(predictor, out)
    with pytest.raises(SettingsError, match="did you mean 'rigid'"):
        fix(predictor, tmp_path / "out", align="rgid")  # type: ignore[arg-type]
    per = make_and_group(tmp_path)
    with pytest.raises(SettingsError, match="take --align shift"):
        fix(per, tmp_path / "out", align="rigid")
    with (tmp_path / "data/labels/weak/ann/a.png").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ChangedDataError, match=r"ann/a\.png"):
        fix(predictor, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize("name", ["labels/weak/ann/a.png", "images/a.png"])
def test_a_file_that_changed_since_training_is_not_looked_at(name: str, tmp_path: Path) -> None:
    make_data(tmp_path, places={"a": (3, -5)})
    predictor = make_predictor(tmp_path, Bright())
    with (tmp_path / "data" / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ChangedDataError, match=re.escape(name)):
        open_sample(predictor, predictor.run.weak[0])


@pytest.mark.parametrize("name", ["labels/weak/ann/a.png", "labels/weak/ann/c.png", "images/a.png"])
def test_a_file_that_changes_after_it_was_looked_at_is_refused(name: str, tmp_path: Path) -> None:
    """Else a label would be moved to where another one belongs, or copied unseen."""
    make_data(tmp_path, places={"a": (3, -5), "c": (0, 0)})

    class Meddling(Silent):
        def finish(self) -> None:  # all was looked at, or all is written
            with (tmp_path / "data" / name).open("ab") as file:
                file.write(b"x")

    with pytest.raises(ChangedDataError, match=re.escape(name)):
        fix(make_predictor(tmp_path, Bright()), tmp_path / "out", watcher=Meddling())
    assert not (tmp_path / "out").exists()


def make_and_group(root: Path) -> Predictor:
    put_aside(root)
    return make_predictor(root, Bright(), {"align": {"per": "group"}})


def test_a_run_without_weak_labels_has_nothing_to_fix(tmp_path: Path) -> None:
    make_data(tmp_path, places={})
    with pytest.raises(DataError, match="no weak label"):
        fix(make_predictor(tmp_path, Bright()), tmp_path / "out")


def test_paths_stay_inside_the_folder(tmp_path: Path) -> None:
    from labelmend.inference.fix import _inside

    assert _inside(tmp_path, "labels/a.png") == tmp_path / "labels/a.png"
    for name in ("../a.png", "/etc/a.png", "labels/../../a.png", ""):
        with pytest.raises(DataError, match="does not lie in the data set"):
            _inside(tmp_path, name)


@pytest.mark.parametrize("name", ["create", "write", "rename", "sync", "mkdir"])
def test_a_refusing_disk_leaves_no_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_data(tmp_path, places={"a": (3, -5), "c": (0, 0)})
    predictor = make_predictor(tmp_path, Bright())
    there = sorted(path.name for path in tmp_path.iterdir())
    calls, real = [0], getattr(Disk, name)

    def refuse(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise OSError(28, "No space left on device")
        return real(*given)

    monkeypatch.setattr(Disk, name, staticmethod(refuse))
    at = 0
    fix(predictor, tmp_path / "whole")
    total, at = calls[0], 1
    assert total
    while at <= total:
        calls[0] = 0
        if name == "sync" and at == total:  # all is there; only its name may not last
            break
        with pytest.raises(StorageError, match="No space left"):
            fix(predictor, tmp_path / "out")
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*there, "whole"])
        at += 1


def test_the_progress_is_shown_for_looking_and_writing(tmp_path: Path) -> None:
    make_data(tmp_path)
    seen: list[tuple[str, int]] = []

    class Watching(Silent):
        def start(self, total: int, done: int) -> None:
            seen.append(("start", total))

        def finish(self) -> None:
            seen.append(("finish", 0))

    fix(make_predictor(tmp_path, Bright()), tmp_path / "out", watcher=Watching())
    assert seen == [("start", 4), ("finish", 0)] * 2


def test_what_is_compared_is_on_the_grid_of_the_network(tmp_path: Path) -> None:
    make_data(tmp_path)
    predictor = make_predictor(tmp_path, Bright(), {"input": {"size": [32, 16]}})
    opened = open_sample(predictor, predictor.run.weak[0])
    seen, label, valid = opened.compared(predictor)
    assert seen.shape == (2, 32, 16) and label.shape == valid.shape == (32, 16)
    assert opened.case(predictor).scores.shape == (2, SIZE, SIZE)
    assert read_as(tmp_path / "data/images/a.png", predictor.spec).array.shape == (1, SIZE, SIZE)
    assert predictor.run.settings.align.window_in(predictor.run.facts["patch"]) == 16


def test_labels_that_nobody_is_named_for_move_by_themselves() -> None:
    search = Search(ShiftAligner(4), None, "annotator", centred=False, device=torch.device("cpu"))
    people = ("", "", "ann", "ann")
    samples = [
        Sample(f"{n}.png", f"labels/{n}.png", "weak", "train", f"g{n}", annotator=person)
        for n, person in enumerate(people)
    ]
    assert len({search.whose(sample) for sample in samples}) == 3
    assert search.whose(samples[2]) == search.whose(samples[3])
