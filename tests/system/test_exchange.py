"""Labels from and to other tools as users have them: whole folders, damaged and hostile files."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
import soundfile
from PIL import Image

from labelmend.catalogue.scan import inspect
from labelmend.cli import exchange as commands
from labelmend.errors import DataError, LabelmendError, RunError, SettingsError, StorageError
from labelmend.exchange.annotated import Source, paint
from labelmend.exchange.classes import all_numbers
from labelmend.exchange.formats import FORMATS, find_format
from labelmend.exchange.giving import export_labels
from labelmend.exchange.places import find_image
from labelmend.exchange.taking import Wish, import_labels
from labelmend.files.readers import read_as, read_image, read_label
from labelmend.progress import Silent
from labelmend.runs.disk import Disk

from ..unit.exchange import handmade

COUNT = 3
NAMES = sorted(FORMATS)


def hash_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def label_of(number: int, size: tuple[int, ...]) -> np.ndarray:
    """Two classes, a hole, an island in it, two parts that meet at a corner, unknown ones."""
    label = np.zeros(size, np.uint8)
    every = (slice(None),) * (len(size) - 1)
    label[(*every, slice(2, 9))] = 1
    label[(*every, slice(4, 7))] = number % 3
    label[(*(slice(3, 6),) * (len(size) - 1), slice(8, 11))] = 2
    label[(*(slice(1, 2),) * (len(size) - 1), slice(0, 2))] = 255
    return label


def make_data(root: Path, dims: int, *, unknown: bool = True) -> Path:
    """A data folder of a few labels, with two classes."""
    (root / "images").mkdir(parents=True)
    (root / "labels/strong").mkdir(parents=True)
    for i in range(COUNT):
        size = {1: (60,), 2: (10, 13), 3: (6, 7, 12)}[dims]
        label = label_of(i, size)
        if not unknown:
            label[label == 255] = 0
        if dims == 1:
            soundfile.write(root / f"images/s{i}.wav", np.arange(60, dtype=np.int16), 100)
            write_events(root / f"labels/strong/s{i}.csv", label)
        elif dims == 2:
            noise = np.random.default_rng(i).integers(0, 255, (*size, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / f"images/s{i}.png")
            Image.fromarray(label).save(root / f"labels/strong/s{i}.png")
        else:
            affine = np.diag([1.5, 0.7, 2.0, 1.0])
            volume = np.random.default_rng(i).normal(size=size).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(volume, affine), root / f"images/s{i}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(label, affine), root / f"labels/strong/s{i}.nii.gz")
    ignore = "ignore = 255\n" if unknown and dims > 1 else ""
    classes = '[classes]\nbackground = 0\ncell = 1\n"big: cell" = 2\n'
    (root / "data.toml").write_text(f"dims = {dims}\n{ignore}{classes}")
    return root


def write_events(path: Path, label: np.ndarray) -> None:
    rows = ["onset_s,offset_s,label"]
    edges = [0, *(np.flatnonzero(np.diff(label)) + 1).tolist(), len(label)]
    for a, b in pairwise(edges):
        if label[a]:
            name = {1: "cell", 2: "big: cell", 255: "ignore"}[int(label[a])]
            rows.append(f"{a / 100},{b / 100},{name}")
    path.write_text("\n".join(rows) + "\n")


def indices(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image → class indices and where they are known, for a folder that must be without fault."""
    seen = inspect(root)
    assert not seen.problems
    assert seen.dataset is not None
    found = {}
    for sample in seen.dataset.samples:
        image = read_as(root / sample.image, seen.dataset.spec)
        found[sample.image] = read_label(root / sample.label, seen.dataset.spec, image)
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """An export in every format, images beside it; not to be changed."""
    made: dict[str, Path] = {}
    sets: dict[tuple[int, bool], Path] = {}

    def export(name: str) -> Path:
        if name not in made:
            kind = FORMATS[name].dims, FORMATS[name].unknown
            if kind not in sets:
                folder = tmp_path_factory.mktemp("data") / "data"
                sets[kind] = make_data(folder, kind[0], unknown=kind[1])
            made[name] = tmp_path_factory.mktemp(name) / "out"
            export_labels(sets[kind], made[name], name, copy_images=True)
        return made[name]

    return export


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_data_folder_comes_back_from_every_format(name: str, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", FORMATS[name].dims, unknown=FORMATS[name].unknown)
    before = hash_of(data)
    given = export_labels(data, tmp_path / "out", name, copy_images=True)
    assert (given.labels, given.images) == (COUNT, COUNT)
    shutil.move(data, tmp_path / "away")
    taken = import_labels(tmp_path / "out", tmp_path / "back")
    assert FORMATS[taken.format].read is FORMATS[name].read
    assert taken.classes == ("background", "cell", "big: cell")
    assert hash_of(tmp_path / "away") == before
    here, there = indices(tmp_path / "back"), indices(tmp_path / "away")
    assert len(here) == COUNT
    for path, (index, known) in there.items():
        [same] = [p for p in here if Path(p).name == Path(path).name]
        np.testing.assert_array_equal(here[same][0], index)
        np.testing.assert_array_equal(here[same][1], known)
        copied, original = tmp_path / "back" / same, tmp_path / "away" / path
        assert copied.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_images_may_lie_elsewhere(name: str, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", FORMATS[name].dims, unknown=FORMATS[name].unknown)
    export_labels(data, tmp_path / "out", name)
    with pytest.raises(DataError, match="--images|no image"):
        import_labels(tmp_path / "out", tmp_path / "back", format=name)
    assert not (tmp_path / "back").exists()
    wish = Wish(images=data / "images", quality="weak", annotator="ann")
    import_labels(tmp_path / "out", tmp_path / "back", format=name, wish=wish)
    here, there = indices(tmp_path / "back"), indices(data)
    for path, (index, known) in there.items():
        np.testing.assert_array_equal(here[path][0], index)
        np.testing.assert_array_equal(here[path][1], known)
    assert (tmp_path / "back/labels/weak/ann").is_dir()


# --- damage ---------------------------------------------------------------------------------------

_JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    1e300,
    "",
    "x",
    "../../etc/passwd",
    "\x00",
    [],
    [[]],
    [None],
    {},
    {"a": 1},
]


def read_all(name: str, source: Path) -> None:
    """All that import does before it writes."""
    found = find_format(name, source).read(Source(source))
    numbers = all_numbers(found.classes, found.items)
    for item in found.items:
        path, _ = find_image(item, found.folders, source)
        paint(item, read_image(path, dims=found.dims), numbers)


def text_files(folder: Path) -> list[Path]:
    """The files that hold labels or their classes."""
    wanted = (".json", ".geojson", ".xml", ".txt", ".csv", ".yaml")
    found = [p for p in sorted(folder.rglob("*")) if p.suffix in wanted and "images" not in p.parts]
    pictures = [
        p
        for p in sorted(folder.rglob("*"))
        if {"labels", "masks", "labelsTr", "SegmentationClass"} & {*p.parts}
    ]
    return found or [p for p in pictures if p.is_file()]


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs = enumerate(value) if isinstance(value, list) else ()
    for key, inner in value.items() if isinstance(value, dict) else pairs:
        yield from nodes(inner, (*path, key))


def spoil_json(text: str, rng: random.Random) -> str:
    value = json.loads(text)
    places = [path for path in nodes(value) if path]
    for _ in range(rng.randint(1, 2)):
        *way, last = rng.choice(places)
        at = value
        try:
            for key in way:
                at = at[key]
            if rng.random() < 0.3:
                del at[last]
            else:
                at[last] = rng.choice(_JUNK)
        except (KeyError, IndexError, TypeError):
            continue  # the first change took the place of the second
    return json.dumps(value)


def spoil_xml(text: str, rng: random.Random) -> str:
    root = ElementTree.fromstring(text)
    element = rng.choice([e for e in root.iter() if e.attrib] or [root])
    if element.attrib and rng.random() < 0.8:
        key = rng.choice(sorted(element.attrib))
        junk = ["", "x", "-1", "1e400", "nan", "1,2", "1,2;x", ";", "9" * 30, "../../a", "0.5"]
        element.set(key, rng.choice(junk))
        if rng.random() < 0.3:
            del element.attrib[key]
    else:
        element.tag = rng.choice(["mask", "box", "ellipse", "image", "cuboid", "points"])
    return ElementTree.tostring(root, "unicode")


def spoil_words(text: str, rng: random.Random) -> str:
    lines = text.splitlines() or [""]
    place = rng.randrange(len(lines))
    mark = next((m for m in "\t, :" if m in lines[place]), " ")
    words = lines[place].split(mark)
    junk = ["", "nan", "-1", "1e400", "x", "9" * 5000, "[", '"', "'", "\x00", "é", "1e15"]
    words[rng.randrange(len(words))] = rng.choice(junk)
    lines[place] = mark.join(words)
    return "\n".join(lines)


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place:place] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            del data[place : place + rng.randint(1, 40)]
        else:
            del data[place:]
    return bytes(data)


def spoil(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    kinds = {".json": spoil_json, ".geojson": spoil_json, ".xml": spoil_xml}
    words = {".txt": spoil_words, ".csv": spoil_words, ".yaml": spoil_words}
    change = (kinds | words).get(path.suffix)
    if change is None or rng.random() < 0.3:
        path.write_bytes(spoil_bytes(content, rng))
    else:
        path.write_text(change(content.decode(), rng), encoding="utf-8", errors="replace")


def spoiled(good: Path, name: str, tmp_path: Path, count: int) -> int:
    """Reads so many spoilt copies; how many of them were refused."""
    folder = tmp_path / "spoilt"
    shutil.copytree(good, folder)
    files = text_files(folder)
    contents = {path: path.read_bytes() for path in files}
    refused = 0
    for seed in range(count):
        rng = random.Random(f"{name} {seed}")
        path = rng.choice(files)
        spoil(path, rng)
        try:
            read_all("auto" if seed % 4 == 0 else name, folder)
        except LabelmendError as error:
            refused += 1
            text = str(error)
            assert "\n" not in text, seed
            assert str(folder) in text, (seed, text)
            assert len(text) < 1000, (seed, text)
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}, {path.name}") from error
        path.write_bytes(contents[path])
    return refused


@pytest.mark.parametrize("name", NAMES)
def test_damaged_exports_end_in_one_clear_error_or_none(
    name: str, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    assert spoiled(exported(name), name, tmp_path, 100) > 20


@pytest.mark.parametrize("name", sorted(handmade.MAKERS))
def test_damaged_files_of_other_tools_end_in_one_clear_error_or_none(
    name: str, tmp_path: Path
) -> None:
    good = tmp_path / "good"
    good.mkdir()
    assert spoiled(handmade.MAKERS[name](good), name, tmp_path, 200) > 40


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", NAMES)
def test_ten_thousand_damaged_exports(
    name: str, exported: Callable[[str], Path], tmp_path: Path
) -> None:
    assert spoiled(exported(name), name, tmp_path, 10_000) > 2_000


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", sorted(handmade.MAKERS))
def test_ten_thousand_damaged_files_of_other_tools(name: str, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    assert spoiled(handmade.MAKERS[name](good), name, tmp_path, 10_000) > 2_000


# --- what is kept where ---------------------------------------------------------------------------


def test_names_in_folders_of_their_own_and_splits_are_kept_by_a_manifest(tmp_path: Path) -> None:
    source = handmade.yolo(tmp_path / "yolo")
    taken = import_labels(source, tmp_path / "data")
    assert (taken.labels, taken.images) == (2, 2)
    assert (tmp_path / "data/manifest.csv").read_text().splitlines()[1:] == [
        "images/train/a.png,labels/strong/train/a.png,strong,train,,",
        "images/val/b.png,labels/strong/val/b.png,strong,val,,",
    ]
    assert not inspect(tmp_path / "data").problems
    export_labels(tmp_path / "data", tmp_path / "again", "yolo", copy_images=True)
    import_labels(tmp_path / "again", tmp_path / "data2")
    first, second = indices(tmp_path / "data"), indices(tmp_path / "data2")
    assert [index.tolist() for index, _ in first.values()] == [
        index.tolist() for index, _ in second.values()
    ]


def test_images_that_differ_only_in_their_suffix_get_labels_of_their_own(tmp_path: Path) -> None:
    source = handmade.coco(tmp_path / "source")
    path = source / "annotations/instances.json"
    document = json.loads(path.read_text())
    other = document["images"][0] | {"id": 8, "file_name": "a.tif"}
    document["images"].append(other)
    Image.open(source / "images/a.png").save(source / "images/a.tif")
    handmade.write_json(path, document)
    import_labels(source, tmp_path / "data")
    labels = sorted(p.name for p in (tmp_path / "data/labels/strong").iterdir())
    assert labels == ["a.png.png", "a.tif.png"]
    assert (indices(tmp_path / "data")["images/a.tif"][0] == 0).all()
    for name in ("coco", "labelme", "cvat"):
        export_labels(tmp_path / "data", tmp_path / name, name, copy_images=True)
        import_labels(tmp_path / name, tmp_path / f"{name} data")
        for image, (index, known) in indices(tmp_path / "data").items():
            same = indices(tmp_path / f"{name} data")[image]
            np.testing.assert_array_equal(same[0] * same[1], index * known)


def test_labels_by_several_people_go_to_label_studio_and_come_back(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", 2)
    for who in ("ann", "bob"):
        folder = data / "labels/weak" / who
        shutil.copytree(data / "labels/strong", folder)
    with pytest.raises(DataError, match=r"images/s0.png: has 3 labels, and coco holds one per"):
        export_labels(data, tmp_path / "out", "coco")
    assert export_labels(data, tmp_path / "bob", "coco", annotator="bob").labels == COUNT
    assert export_labels(data, tmp_path / "strong", "coco", quality="strong").labels == COUNT
    given = export_labels(data, tmp_path / "all", "label-studio", quality="weak", copy_images=True)
    assert (given.labels, given.images) == (2 * COUNT, COUNT)
    with pytest.raises(DataError, match="has a second label; .* --quality weak"):
        import_labels(tmp_path / "all", tmp_path / "back")
    taken = import_labels(tmp_path / "all", tmp_path / "back", wish=Wish(quality="weak"))
    assert (taken.labels, taken.images) == (2 * COUNT, COUNT)
    assert sorted(p.name for p in (tmp_path / "back/labels/weak").iterdir()) == ["ann", "bob"]
    assert not inspect(tmp_path / "back").problems


def test_values_of_classes_may_be_any_and_names_stay(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", 2, unknown=False)
    for path in (data / "labels/strong").iterdir():
        Image.fromarray(np.array([0, 255, 100], np.uint8)[np.asarray(Image.open(path))]).save(path)
    (data / "data.toml").write_text("[classes]\nnone = 0\n'b' = 255\n'a' = 100\n")
    export_labels(data, tmp_path / "out", "png", copy_images=True)
    taken = import_labels(tmp_path / "out", tmp_path / "back")
    assert taken.classes == ("none", "b", "a")
    for path, (index, _) in indices(data).items():
        np.testing.assert_array_equal(indices(tmp_path / "back")[path][0], index)


def test_more_classes_than_a_byte_holds(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", 2)
    names = [f"class {i}" for i in range(300)]
    values = np.arange(300, dtype=np.uint16).reshape(10, 30)
    Image.fromarray(np.where(values == 7, 65535, values).astype(np.uint16)).save(
        data / "labels/strong/s0.png"
    )
    Image.fromarray(np.zeros((10, 30), np.uint8)).save(data / "images/s0.png")
    for i in (1, 2):
        (data / f"labels/strong/s{i}.png").unlink()
        (data / f"images/s{i}.png").unlink()
    rows = "".join(f'"{name}" = {i}\n' for i, name in enumerate(names))
    (data / "data.toml").write_text(f"ignore = 65535\n[classes]\n{rows}")
    for name in ("png", "coco", "geojson"):
        export_labels(data, tmp_path / name, name, copy_images=True)
        import_labels(tmp_path / name, tmp_path / f"{name} data")
        index, known = indices(tmp_path / f"{name} data")["images/s0.png"]
        np.testing.assert_array_equal(
            np.where(known, index, 65535), np.where(values == 7, 65535, values)
        )
    with pytest.raises(DataError, match="voc holds at most 255 classes, not 300; choose png"):
        export_labels(data, tmp_path / "voc", "voc")
    assert not (tmp_path / "voc").exists()


# --- what cannot be -------------------------------------------------------------------------------


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    pictures = make_data(tmp_path / "data", 2)
    with pytest.raises(DataError, match=r"s0.png: 2 positions are unknown, which yolo cannot say"):
        export_labels(pictures, tmp_path / "out", "yolo")
    with pytest.raises(DataError, match="have 2 space axes, which nifti cannot hold; choose coco"):
        export_labels(pictures, tmp_path / "out", "nifti")
    with pytest.raises(DataError, match="has no such label"):
        export_labels(pictures, tmp_path / "out", "coco", quality="weak")
    with pytest.raises(SettingsError, match="unknown format 'coko'; did you mean 'coco'"):
        export_labels(pictures, tmp_path / "out", "coko")
    with pytest.raises(RunError, match="lies in"):
        export_labels(pictures, pictures / "out", "coco")
    text = (pictures / "data.toml").read_text()
    (pictures / "data.toml").write_text(text.replace("cell = 1", "ignore = 1"))
    with pytest.raises(DataError, match="the class 'ignore' would be taken for"):
        export_labels(pictures, tmp_path / "out", "coco")
    volumes = make_data(tmp_path / "volumes", 3)
    for path in (volumes / "images").iterdir():
        array = np.asarray(nibabel.load(path).dataobj)
        path.unlink()
        np.save(volumes / "images" / f"{path.name[:2]}.npy", array)
    with pytest.raises(DataError, match=r"s0.npy: nifti holds labels of NIfTI images only"):
        export_labels(volumes, tmp_path / "out", "nifti")
    assert not (tmp_path / "out").exists()


def test_wishes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source, out = handmade.geojson(tmp_path / "source"), tmp_path / "out"
    for wish, said in (
        (Wish(annotator="x/../ann"), "holds a slash"),
        (Wish(annotator=".ann"), "cannot be the name of a folder"),
        (Wish(classes=("a", "a")), "different names"),
        (Wish(band=-1), "0 or more positions"),
        (Wish(band=float("nan")), "0 or more positions"),
    ):
        with pytest.raises(SettingsError, match=said):
            import_labels(source, out, wish=wish)
    with pytest.raises(SettingsError, match="unknown format 'kvat'; did you mean 'cvat'"):
        import_labels(source, out, format="kvat")
    with pytest.raises(DataError, match="does not exist"):
        import_labels(tmp_path / "nowhere", out)
    with pytest.raises(DataError, match="is not a folder; --images"):
        import_labels(source, out, wish=Wish(images=source / "a.geojson"))
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        import_labels(source, out)
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_what_shows_no_format_or_several_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"shows no format that is known \(coco, labelme.*--format"):
        import_labels(tmp_path / "empty", tmp_path / "out")
    both = handmade.coco(tmp_path / "both")
    handmade.geojson(both)
    with pytest.raises(DataError, match="may be coco or geojson; say which: --format coco"):
        import_labels(both, tmp_path / "out")
    data = make_data(tmp_path / "data", 2)
    with pytest.raises(DataError, match="is a data folder already"):
        import_labels(data, tmp_path / "out")
    twice = handmade.coco(tmp_path / "twice")
    shutil.copy(twice / "annotations/instances.json", twice / "annotations/other.json")
    with pytest.raises(DataError, match=r"holds 2 .* COCO file \(instances.json, other.json\)"):
        import_labels(twice, tmp_path / "out")
    import_labels(twice / "annotations/other.json", tmp_path / "out", wish=Wish(twice / "images"))


# --- a disk that fails, a process that is killed --------------------------------------------------

_CHANGES = ("create", "write", "sync", "rename", "mkdir")


class Failing:
    """Counts what changes the disk, and does something else at one of them."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, instead: Callable[[], None]) -> None:
        self.count, self.at, self.instead = 0, at, instead
        for name in _CHANGES:
            patch.setattr(Disk, name, self._around(getattr(Disk, name)))

    def _around(self, real: Callable[..., Any]) -> Any:
        def call(*arguments: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                self.instead()
            return real(*arguments)

        return staticmethod(call)


def _refuse() -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("which", ["import", "export"])
def test_a_disk_that_fails_leaves_nothing(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _work(which, tmp_path)
    before = hash_of(tmp_path)
    with monkeypatch.context() as patch:
        counting = Failing(patch, -1, _refuse)
        work(tmp_path / "all")
    shutil.rmtree(tmp_path / "all")
    assert counting.count > 10
    for at in range(1, counting.count + 1):
        with monkeypatch.context() as patch:
            Failing(patch, at, _refuse)
            with pytest.raises(StorageError, match="No space left"):
                work(tmp_path / "out")
        last = at == counting.count  # the folder was there, only its name may not last
        assert (tmp_path / "out").exists() == last
    shutil.rmtree(tmp_path / "out")
    assert hash_of(tmp_path) == before


@pytest.mark.parametrize("which", ["import", "export"])
def test_a_killed_process_leaves_nothing_or_all(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_child: Callable[..., int]
) -> None:
    work = _work(which, tmp_path)
    work(tmp_path / "all")
    whole = hash_of(tmp_path / "all")
    with monkeypatch.context() as patch:
        counting = Failing(patch, -1, _refuse)
        work(tmp_path / "count")
    for at in {1, 2, 5, counting.count // 2, counting.count - 2, counting.count}:

        def killed(at: int = at) -> None:
            with monkeypatch.context() as patch:
                Failing(patch, at, lambda: os.kill(os.getpid(), signal.SIGKILL))
                work(tmp_path / "out")

        assert in_child(killed) == 128 + signal.SIGKILL
        if (tmp_path / "out").exists():
            assert hash_of(tmp_path / "out") == whole
            shutil.rmtree(tmp_path / "out")
        work(tmp_path / "out")
        assert hash_of(tmp_path / "out") == whole
        shutil.rmtree(tmp_path / "out")
        assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def _work(which: str, tmp_path: Path) -> Callable[[Path], Any]:
    if which == "import":
        source = handmade.png(tmp_path / "source")
        return lambda out: import_labels(source, out)
    data = make_data(tmp_path / "data", 2)
    return lambda out: export_labels(data, out, "png")


# --- the command line -----------------------------------------------------------------------------


def test_the_commands_say_what_they_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = handmade.geojson(tmp_path / "source")
    out = tmp_path / "data"
    status = commands.import_(source, out=out, quality="weak", annotator="ann", band=1)
    assert status == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"1 label of 1 image taken from geojson into {out}"
    assert said[1].startswith("classes: background = 0, line = 1, parts = 2")
    assert said[2].endswith("positions are unknown and count nowhere.")
    assert said[3] == f"next: labelmend check {out}"
    assert commands.export_labels(out, format="coco", out=tmp_path / "coco", quality="weak") == 0
    assert capsys.readouterr().out == (
        f"1 label of 1 image written as coco to {tmp_path / 'coco'}\n"
    )
    named = "line,parts,point,points,polygon"
    commands.import_(source, out=tmp_path / "q", classes=named, quiet=True)
    assert capsys.readouterr().out == ""


def test_the_commands_do_without_torch(tmp_path: Path) -> None:
    source = handmade.coco(tmp_path / "source")
    code = (
        "import sys; from pathlib import Path; from labelmend.cli.exchange import *\n"
        "source, out = map(Path, sys.argv[1:])\n"
        "import_(source, out=out / 'data')\n"
        "export_labels(out / 'data', format='cvat', out=out / 'cvat')\n"
        "sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, source, tmp_path / "made"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr or "torch was imported"


def test_the_progress_is_shown(tmp_path: Path) -> None:
    class Watching(Silent):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def start(self, total: int, done: int) -> None:
            self.seen.append((total, done))

        def step(self, step: int, figures: Any) -> None:
            self.seen.append(step)

        def finish(self) -> None:
            self.seen.append("end")

    first, second = Watching(), Watching()
    data = make_data(tmp_path / "data", 2)
    export_labels(data, tmp_path / "out", "voc", copy_images=True, watcher=first)
    import_labels(tmp_path / "out", tmp_path / "back", watcher=second)
    assert first.seen == second.seen == [(COUNT, 0), 1, 2, 3, "end"]
