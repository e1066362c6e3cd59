"""Labels come back bit for bit: label → file of another tool → label, for every format."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from labelmend.errors import DataError
from labelmend.exchange.annotated import UNKNOWN, Annotated, Labelled, Source, paint
from labelmend.exchange.brush import pack_brush, unpack_brush
from labelmend.exchange.class_yaml import names_as_yaml, read_names
from labelmend.exchange.classes import all_numbers
from labelmend.exchange.corners import inward
from labelmend.exchange.formats import FORMATS
from labelmend.exchange.places import find_image
from labelmend.exchange.runs_of_values import mask_of_runs, runs_of_mask, unpack_runs
from labelmend.exchange.yolo import _one_ring
from labelmend.files.readers import read_image
from labelmend.labels.outlines import find_outlines
from labelmend.labels.shapes import polygon, scribble
from labelmend.types import Raster

CLASSES = ("background", "cell", "a b: c")
PICTURES = [name for name, each in FORMATS.items() if each.dims == 2]
AFFINE = np.diag([1.5, 0.7, 2.0, 1.0])
RATE = 400

sizes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14).filter(
    lambda size: max(size) > 1
)
pictures = hnp.arrays(np.int32, sizes, elements=st.sampled_from([0, 0, 1, 1, 2, UNKNOWN]))
blocks = st.tuples(pictures, st.integers(1, 4)).map(
    lambda drawn: np.repeat(np.repeat(drawn[0], drawn[1], 0), drawn[1], 1)
)
masks = hnp.arrays(bool, sizes)


def back(name: str, label: np.ndarray, suffix: str = ".png") -> np.ndarray:
    """Write one label in a format and read it again, as import does."""
    each = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        images, out = Path(folder) / "images", Path(folder) / "out"
        images.mkdir(), out.mkdir()
        path = images / f"a{suffix}"
        write_image(path, label.shape)
        image = read_image(path, dims=each.dims)
        each.write(out, iter([Labelled(path.name, "a", label, image)]), CLASSES)
        found = each.read(Source(out, images))
        assert found.classes == CLASSES
        [item] = found.items
        assert find_image(item, found.folders, images) == (path, path.name)
        return paint(item, image, all_numbers(found.classes, found.items))


def write_image(path: Path, size: tuple[int, ...]) -> None:
    if path.suffix == ".wav":
        soundfile.write(path, np.zeros(size, np.int16), RATE)
    elif path.suffix == ".nii":
        nibabel.save(nibabel.Nifti1Image(np.zeros(size, np.uint8), AFFINE), path)
    else:
        Image.fromarray(np.zeros(size, np.uint8)).save(path)


@pytest.mark.parametrize("name", PICTURES)
@settings(max_examples=25)
@given(label=st.one_of(pictures, blocks))
def test_a_label_of_a_picture_comes_back_bit_for_bit(name: str, label: np.ndarray) -> None:
    if not FORMATS[name].unknown:
        label = np.maximum(label, 0)
    np.testing.assert_array_equal(back(name, label), label)


@settings(max_examples=15)
@given(
    hnp.arrays(
        np.int32,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=4).filter(lambda n: n[-1] > 1),
        elements=st.sampled_from([0, 1, 2, UNKNOWN]),
    )
)
def test_a_label_of_a_volume_comes_back_bit_for_bit(label: np.ndarray) -> None:
    np.testing.assert_array_equal(back("nifti", label, ".nii"), label)


@pytest.mark.parametrize("name", ["events", "audacity"])
@settings(max_examples=25)
@given(label=hnp.arrays(np.int32, st.integers(2, 300), elements=st.sampled_from([0, 1, 2, -1])))
def test_a_label_of_a_recording_comes_back_bit_for_bit(name: str, label: np.ndarray) -> None:
    np.testing.assert_array_equal(back(name, label, ".wav"), label)


# --- the parts of it ------------------------------------------------------------------------------


@given(masks)
def test_brushes_give_the_mask_back(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(unpack_brush(pack_brush(mask), mask.shape), mask)


@given(masks)
def test_runs_give_the_mask_back(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(mask_of_runs(runs_of_mask(mask), mask.shape, "C"), mask)


@given(masks)
def test_runs_are_those_of_the_coco_library(mask: np.ndarray) -> None:
    packed = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    found = mask_of_runs(unpack_runs(packed["counts"].decode()), mask.shape, "F")
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_array_equal(found, coco_mask.decode(packed).astype(bool))


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30))
def test_any_lengths_of_runs_are_unpacked_as_the_coco_library_packs_them(runs: list[int]) -> None:
    assert unpack_runs(_packed(runs)) == runs


def _packed(runs: list[int]) -> str:
    """COCO's text of runs, number by number: slow and obvious."""
    text = ""
    for place, length in enumerate(runs):
        value = length - (runs[place - 2] if place > 2 else 0)
        while True:
            low, value = value & 31, value >> 5
            last = value == (-1 if low & 16 else 0)
            text += chr(48 + low + (0 if last else 32))
            if last:
                break
    return text


@settings(max_examples=40)
@given(blocks)
def test_the_coco_library_draws_what_we_wrote(label: np.ndarray) -> None:
    """Polygons along borders of positions are the one kind on which both rules agree."""
    like = Raster(np.zeros((1, *label.shape), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        FORMATS["coco"].write(Path(folder), iter([Labelled("a.png", "a", label, like)]), CLASSES)
        document = json.loads((Path(folder) / "annotations.json").read_text())
    library = COCO()
    library.dataset = document
    library.createIndex()
    found = np.zeros_like(label)
    for annotation in library.loadAnns(library.getAnnIds(imgIds=1)):
        drawn = library.annToMask(annotation).astype(bool)
        assert annotation["area"] == drawn.sum()
        rows, columns = np.nonzero(drawn)
        left, top, width, height = annotation["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
        found[drawn] = UNKNOWN if annotation["iscrowd"] else annotation["category_id"]
    np.testing.assert_array_equal(found, label)


@settings(max_examples=60)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(3, 9), st.just(2)),
        elements=st.floats(-3, 35, width=16),
    )
)
def test_the_coco_library_differs_from_us_only_at_the_border(points: np.ndarray) -> None:
    """Its own rule rounds to a fifth of a position: what differs is near a line."""
    size = (32, 32)
    pieces = coco_mask.frPyObjects([points.ravel().tolist()], *size)
    theirs = coco_mask.decode(coco_mask.merge(pieces)).astype(bool)
    ours = polygon(size, [inward(points)])
    near = scribble(size, inward(np.concatenate([points, points[:1]])), 2.0)
    assert not ((theirs != ours) & ~near).any()


@given(st.one_of(masks, blocks.map(lambda label: label > 0)))
def test_holes_joined_by_cuts_stay_holes(mask: np.ndarray) -> None:
    found = np.zeros(mask.shape, dtype=bool)
    for outline in find_outlines(mask):
        found |= polygon(mask.shape, [_one_ring(outline)])
    np.testing.assert_array_equal(found, mask)


names = st.lists(
    st.text(min_size=1, max_size=12).map(str.strip).filter(lambda t: t and t.isprintable()),
    min_size=1,
    max_size=6,
    unique=True,
)


@given(names)
def test_names_in_yaml_come_back(listed: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.yaml"
        path.write_text(f"path: .\nnames:\n{names_as_yaml(listed)}nc: 3\n", encoding="utf-8")
        assert read_names(path) == dict(enumerate(listed))


# --- paths ----------------------------------------------------------------------------------------

parts = st.sampled_from(
    ["..", ".", "", "a.png", "b", "in", "out", "loop", "images", "C:", "etc", "~", "...", "a.png/"]
)
paths = st.lists(parts, min_size=1, max_size=6).flatmap(
    lambda listed: st.sampled_from(["/", "\\", "//"]).map(lambda mark: mark.join(listed))
)


@settings(max_examples=1000)
@given(paths)
def test_no_path_leads_out_of_its_folder(
    tmp_path_factory: pytest.TempPathFactory, path: str
) -> None:
    root = tmp_path_factory.getbasetemp() / "paths" / "root"
    if not root.exists():
        (root / "images/b").mkdir(parents=True)
        outside = root.parent / "outside"
        outside.mkdir()
        for folder in (root / "images", root / "images/b", outside, root):
            (folder / "a.png").write_bytes(b"")
        (root / "images/out").symlink_to(outside)
        (root / "images/in").symlink_to(root / "images/b")
        (root / "images/loop").symlink_to(root / "images/loop")
    try:
        found, name = find_image(Annotated(path, Path("x")), (root / "images", root), root)
    except DataError:
        return
    assert found.resolve().is_relative_to(root.resolve())
    assert ".." not in Path(name).parts and not Path(name).is_absolute()
    assert found.name == "a.png"
