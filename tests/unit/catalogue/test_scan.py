from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import soundfile
import tifffile
from PIL import Image

from labelmend.catalogue.check import describe_inspection, inspection_values
from labelmend.catalogue.scan import Inspection, inspect, open_data
from labelmend.catalogue.splits import choose_splits, merge_splits
from labelmend.errors import DataError
from labelmend.files.formats import kind_of, split_name
from labelmend.files.readers import hash_file, read_image, read_label, write_label
from labelmend.types import DataSet


def picture(path: Path, value: int = 1, size: tuple[int, int] = (8, 6), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if "images" in path.parts:
        array = np.random.default_rng(seed).integers(0, 99, size).astype(np.uint8)
    else:
        array = np.zeros(size, np.uint8)
        array[2:4, 1:5] = value
    Image.fromarray(array).save(path)


def pictures(root: Path, strong: int = 10, weak: int = 0, value: int = 1) -> Path:
    for i in range(strong + weak):
        picture(root / f"images/p{i}.png", seed=i)
        folder = "strong" if i < strong else "weak"
        picture(root / f"labels/{folder}/p{i}.png", value)
    return root


def found(root: Path, **how: object) -> DataSet:
    seen = inspect(root, **how)
    assert seen.problems == () and seen.dataset is not None, seen.problems
    return seen.dataset


def lines(root: Path, name: str, *rows: str) -> None:
    (root / name).write_text("\n".join(rows) + "\n")


# --- folders and manifest ------------------------------------------------------------------------


def test_folders_give_qualities_annotators_and_hashes(tmp_path: Path) -> None:
    pictures(tmp_path, strong=1, weak=1)
    picture(tmp_path / "labels/weak/ann/p0.png")
    picture(tmp_path / "labels/weak/bob/p0.png")
    data = found(tmp_path)
    assert [(s.id, s.image, s.quality, s.annotator, s.group) for s in data.samples] == [
        ("labels/strong/p0.png", "images/p0.png", "strong", "", "p0"),
        ("labels/weak/ann/p0.png", "images/p0.png", "weak", "ann", "p0"),
        ("labels/weak/bob/p0.png", "images/p0.png", "weak", "bob", "p0"),
        ("labels/weak/p1.png", "images/p1.png", "weak", "", "p1"),
    ]
    for sample in data.samples:
        assert sample.image_sha256 == hash_file(tmp_path / sample.image)
        assert sample.label_sha256 == hash_file(tmp_path / sample.label)


def test_manifest_wins_and_empty_cells_mean_defaults(tmp_path: Path) -> None:
    pictures(tmp_path, strong=3, weak=1)
    lines(
        tmp_path,
        "manifest.csv",
        "\ufefflabel,image,quality,split,group,annotator",
        "labels/strong/p0.png,images/p0.png,weak,test,g,eva",
        "labels/weak/p3.png,images/p3.png,,,,",
        ",images/p1.png,,,,",
        "labels/strong/p2.png,images/p2.png,,,,",
    )
    data = found(tmp_path)
    assert [(s.id, s.quality, s.split, s.group, s.annotator) for s in data.samples] == [
        ("labels/strong/p0.png", "weak", "test", "g", "eva"),
        ("labels/strong/p2.png", "strong", "train", "p2", ""),
        ("labels/weak/p3.png", "weak", "train", "p3", ""),
    ]
    assert any("1 images in manifest.csv have no label" in note for note in data.notes)


def test_images_without_label_and_litter_are_said(tmp_path: Path) -> None:
    pictures(tmp_path, strong=2)
    picture(tmp_path / "images/alone.png")
    (tmp_path / "images/.DS_Store").write_bytes(b"x")
    notes = " ".join(found(tmp_path).notes)
    assert "1 of 3 images have no label" in notes and "images/alone.png" in notes
    assert "images/.DS_Store was passed over" in notes


@pytest.mark.parametrize(
    "path",
    [
        "../x.png",
        "/x.png",
        "images/../../x.png",
        "images/../images/p0.png",
        "link/x.png",
        "out.png",
        ".",
        "images",
        "images\\p0.png",
        "images//p0.png",
        "./images/p0.png",
    ],
)
def test_paths_stay_inside_and_are_written_plainly(tmp_path: Path, path: str) -> None:
    root = pictures(tmp_path / "data", strong=2)
    picture(tmp_path / "x.png")
    (root / "link").symlink_to(tmp_path)
    (root / "out.png").symlink_to(tmp_path / "x.png")
    for row in (f"{path},labels/strong/p0.png", f"images/p0.png,{path}"):
        lines(root, "manifest.csv", "image,label", "images/p1.png,labels/strong/p1.png", row)
        seen = inspect(root)
        assert [problem.file for problem in seen.problems] == ["manifest.csv"]
        assert "line 3: " in seen.problems[0].message


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    pictures(tmp_path, strong=2)
    (tmp_path / "images/p1.png").unlink()
    (tmp_path / "images/p1.png").symlink_to(tmp_path / "images/p0.png")
    assert any("are the same file" in note for note in found(tmp_path).notes)


@pytest.mark.parametrize("listed", [False, True])
def test_links_lead_to_folders_that_the_user_trusts_and_to_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    far, root = pictures(tmp_path / "far", strong=2), pictures(tmp_path / "data", strong=2)
    (root / "images/p1.png").unlink()
    (root / "images/p1.png").symlink_to(far / "images/p1.png")
    if listed:
        rows = [f"images/p{i}.png,labels/strong/p{i}.png" for i in range(2)]
        lines(root, "manifest.csv", "image,label", *rows)
    for trusted in ("", str(tmp_path / "fa"), "far", str(far / "labels"), os.pathsep):
        monkeypatch.setenv("LABELMEND_LINKS", trusted)
        problems = inspect(root).problems
        assert "link leads to in LABELMEND_LINKS" in problems[0].message
    monkeypatch.setenv("LABELMEND_LINKS", os.pathsep.join((str(tmp_path / "fa"), str(far))))
    assert len(found(root).samples) == 2


def test_a_folder_of_images_may_be_a_link_to_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far, root = pictures(tmp_path / "far", strong=3), pictures(tmp_path / "data", strong=3)
    shutil.rmtree(root / "images")
    (root / "images").symlink_to(far / "images")
    monkeypatch.setenv("LABELMEND_LINKS", str(far))
    assert [sample.image for sample in found(root).samples] == [f"images/p{i}.png" for i in "012"]


def test_a_path_that_climbs_out_is_refused_wherever_it_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pictures(tmp_path / "data", strong=2)
    picture(tmp_path / "images/x.png")
    monkeypatch.setenv("LABELMEND_LINKS", str(tmp_path))
    for path in ("../images/x.png", str(tmp_path / "images/x.png")):
        lines(root, "manifest.csv", "image,label", f"{path},labels/strong/p0.png")
        assert "leads out of the data folder" in inspect(root).problems[0].message


def test_double_suffixes_are_part_of_the_format() -> None:
    assert split_name("a.ome.tiff") == ("a", ".ome.tiff") and split_name(".gz") == (".gz", "")
    assert kind_of("A.NII.GZ") == "gzip" and kind_of("b.tar.npy") == "npy"
    with pytest.raises(DataError, match=r"\.gz files are not read"):
        kind_of("a.tar.gz")


# --- what is inferred, what is said --------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "classes", "values"),
    [
        (1, ("background", "class 1"), (0, 1)),
        (255, ("background", "foreground"), (0, 255)),
        (7, ("background", "foreground"), (0, 7)),
    ],
)
def test_two_values_are_background_and_foreground(
    tmp_path: Path, value: int, classes: tuple[str, ...], values: tuple[int, ...]
) -> None:
    data = found(pictures(tmp_path, value=value))
    assert (data.spec.classes, data.spec.values) == (classes, values)
    assert data.spec.suffix == ".png" and data.spec.dims == 2 and data.spec.channels == 1
    assert any(f"background = 0, {classes[1]} = {value}" in note for note in data.notes)


def test_the_lines_that_a_refusal_prints_help(tmp_path: Path) -> None:
    import tomllib

    pictures(tmp_path)
    label = np.array(Image.open(tmp_path / "labels/strong/p3.png"))
    label[0] = 255
    Image.fromarray(label).save(tmp_path / "labels/strong/p3.png")
    (problem,) = inspect(tmp_path).problems
    first, _, rest = problem.message.partition("put ")[2].partition(" and ")
    line = rest.partition(" into data.toml")[0]
    (tmp_path / "data.toml").write_text(f"{first}\n{line}\n")
    assert tomllib.loads((tmp_path / "data.toml").read_text())["ignore"] == 255
    spec = found(tmp_path).spec
    assert spec.ignore == 255 and spec.values == (0, 1)


def test_instances_are_suspected_when_every_file_counts_on_its_own(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / f"images/p{i}.png")
        label = np.arange(48).reshape(8, 6) % (4 + 2 * i)
        (tmp_path / "labels/strong").mkdir(parents=True, exist_ok=True)
        Image.fromarray(label.astype(np.uint16)).save(tmp_path / f"labels/strong/p{i}.png")
    (problem,) = inspect(tmp_path).problems
    assert "instances = true" in problem.message
    (tmp_path / "data.toml").write_text("instances = true\n[classes]\nglass = 0\ncell = 1\n")
    spec = found(tmp_path).spec
    assert spec.instances and spec.classes == ("glass", "cell") and spec.values == (0, 1)


def test_order_in_data_toml_is_the_class_index(tmp_path: Path) -> None:
    pictures(tmp_path, value=9)
    text = 'spacing = [0.5, 0.25]\nsuffix = ".tif"\n[classes]\nglass = 0\nz = 9\na = 4\n'
    (tmp_path / "data.toml").write_text(text)
    spec = found(tmp_path).spec
    assert spec.classes == ("glass", "z", "a") and spec.values == (0, 9, 4)
    assert spec.spacing == (0.5, 0.25) and spec.suffix == ".tif"


def test_volumes_of_nifti(tmp_path: Path) -> None:
    for folder, top in (("images", 99), ("labels/strong", 3)):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(3):
            array = np.random.default_rng(i).integers(0, top, (4 + i, 5, 6)).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / folder / f"v{i}.nii.gz")
    spec = found(tmp_path).spec
    assert (spec.dims, spec.channels, spec.suffix) == (3, 1, ".nii.gz")
    assert spec.classes == ("background", "class 1", "class 2")


@pytest.mark.parametrize("axis", ["first", "last"])
def test_channel_axis_follows_from_the_labels_sizes(tmp_path: Path, axis: str) -> None:
    shapes = {"first": [(3, 8, 6), (3, 3, 3)], "last": [(8, 6, 3), (3, 3, 3)]}[axis]
    for folder in ("images", "labels/strong"):
        (tmp_path / folder).mkdir(parents=True)
    for i, shape in enumerate(shapes):
        np.save(tmp_path / f"images/p{i}.npy", np.random.default_rng(i).normal(size=shape))
        size = shape[1:] if axis == "first" else shape[:-1]
        np.save(tmp_path / f"labels/strong/p{i}.npy", np.eye(*size, dtype=np.uint8))
    data = found(tmp_path)
    assert data.spec.channel_axis == axis and data.spec.channels == 3 and data.spec.dims == 2
    for sample in data.samples:
        image = read_image(
            tmp_path / sample.image, dims=data.spec.dims, channel_axis=data.spec.channel_axis
        )
        assert image.array.shape[0] == 3
        read_label(tmp_path / sample.label, data.spec, image)


def test_recordings_with_events(tmp_path: Path) -> None:
    for folder in ("images", "labels/strong"):
        (tmp_path / folder).mkdir(parents=True)
    for i in range(3):
        soundfile.write(tmp_path / f"images/s{i}.wav", np.ones(400, np.int16) * i, 100)
        rows = ("onset_s,offset_s,label", f"0.5,1.0,{'ab'[i % 2]}", "2.0,2.5,ignore")
        lines(tmp_path, f"labels/strong/s{i}.csv", *rows)
    data = found(tmp_path)
    assert data.spec.classes == ("background", "a", "b") and data.spec.dims == 1
    assert data.spec.suffix == ".csv"
    image = read_image(tmp_path / data.samples[1].image, dims=1)
    index, valid = read_label(tmp_path / data.samples[1].label, data.spec, image)
    assert (index == 2).sum() == 50 and (~valid).sum() == 50


def test_regression_with_named_channels(tmp_path: Path) -> None:
    for folder in ("images", "labels/strong"):
        (tmp_path / folder).mkdir(parents=True)
    for i in range(2):
        picture(tmp_path / f"images/p{i}.png")
        tifffile.imwrite(
            tmp_path / f"labels/strong/p{i}.tif",
            np.full((2, 8, 6), i / 3, np.float32),
            metadata={"axes": "CYX"},
            photometric="minisblack",
        )
    (tmp_path / "data.toml").write_text("task = 'regression'\nclasses = ['dapi', 'actin']\n")
    data = found(tmp_path)
    assert data.spec.task == "regression" and data.spec.classes == ("dapi", "actin")
    assert data.spec.values == () and data.spec.suffix == ".tif" and data.spec.dims == 2


def test_21_class_palette_from_file_to_file(tmp_path: Path) -> None:
    for folder in ("images", "labels/strong"):
        (tmp_path / folder).mkdir(parents=True)
    label = np.arange(21, dtype=np.uint8).repeat(2).reshape(6, 7)
    picture(tmp_path / "images/p.png", size=(6, 7))
    indexed = Image.fromarray(label).convert("P")
    indexed.putdata(label.ravel().tolist())
    indexed.putpalette(np.random.default_rng(0).integers(0, 255, 63).tolist())
    indexed.save(tmp_path / "labels/strong/p.png")
    data = found(tmp_path)
    image = read_image(tmp_path / "images/p.png")
    index, valid = read_label(tmp_path / "labels/strong/p.png", data.spec, image)
    assert valid.all()
    write_label(tmp_path / "out.png", index, data.spec, image)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out.png")), label)


# --- splits --------------------------------------------------------------------------------------


def splits(data: DataSet) -> dict[str, str]:
    return {sample.group: sample.split for sample in data.samples}


def test_a_share_of_strong_groups_is_held_out_with_all_their_samples(tmp_path: Path) -> None:
    pictures(tmp_path, strong=20, weak=20)
    for i in range(20):
        picture(tmp_path / f"labels/weak/ann/p{i}.png")
    data = found(tmp_path, val_share=0.2, test_share=0.1)
    by_split = {s: {x.group for x in data.of(s)} for s in ("train", "val", "test")}
    assert len(by_split["val"]) == 4 and len(by_split["test"]) == 2
    assert not by_split["val"] & by_split["train"] and not by_split["test"] & by_split["train"]
    assert {s.group for s in data.of("val", "weak")} == by_split["val"]
    assert {s.group for s in data.of("val", "strong")} == by_split["val"]
    assert splits(found(tmp_path, val_share=0.2, test_share=0.1)) == splits(data)
    assert splits(found(tmp_path, val_share=0.2, test_share=0.1, seed=1)) != splits(data)


@pytest.mark.parametrize(("strong", "held_out"), [(4, 0), (5, 1), (9, 2)])
def test_too_few_strong_groups_are_left_whole(tmp_path: Path, strong: int, held_out: int) -> None:
    data = found(pictures(tmp_path, strong=strong, weak=5))
    assert len(data.of("val")) == held_out
    assert any("No val split" in note for note in data.notes) == (held_out == 0)


def test_a_new_group_hardly_reshuffles() -> None:
    groups = [f"g{i}" for i in range(40)]
    before, _ = choose_splits(groups, {}, {"val": 0.25}, 0)
    after, _ = choose_splits([*groups, "new"], {}, {"val": 0.25}, 0)
    assert len(before.keys() ^ after.keys()) <= 2 and len(after) == 10


def test_splits_are_kept_obeyed_and_appended(tmp_path: Path) -> None:
    pictures(tmp_path, strong=10)
    data, problems = open_data(tmp_path)
    kept = dict(list(csv.reader((tmp_path / "splits.csv").open()))[1:])
    assert problems == () and kept == splits(data) and list(kept.values()).count("val") == 2
    assert splits(open_data(tmp_path, seed=5)[0]) == kept
    pictures(tmp_path, strong=20)
    grown = splits(open_data(tmp_path)[0])
    assert {group: grown[group] for group in kept} == kept
    assert list(grown.values()).count("val") == 4
    assert dict(list(csv.reader((tmp_path / "splits.csv").open()))[1:]) == grown


def test_inspecting_writes_nothing_unless_asked(tmp_path: Path) -> None:
    pictures(tmp_path)
    inspect(tmp_path)
    open_data(tmp_path, keep_splits=False)
    assert not (tmp_path / "splits.csv").exists()
    inspect(tmp_path, keep_splits=True)
    assert (tmp_path / "splits.csv").exists()


def test_a_folder_that_cannot_be_written_gives_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labelmend.catalogue import splits
    from labelmend.errors import StorageError

    def refuse(path: Path, data: bytes) -> None:
        raise StorageError("read-only")

    monkeypatch.setattr(splits, "write_atomically", refuse)
    data, _ = open_data(pictures(tmp_path))
    assert any("could not be kept in splits.csv" in note for note in data.notes)
    assert len(data.of("val")) == 2


def test_manifest_without_val_gives_a_share_of_its_strong_train_groups(tmp_path: Path) -> None:
    pictures(tmp_path, strong=12)
    rows = [
        f"images/p{i}.png,labels/strong/p{i}.png,strong,{'test' if i < 2 else 'train'}"
        for i in range(12)
    ]
    lines(tmp_path, "manifest.csv", "image,label,quality,split", *rows)
    data, _ = open_data(tmp_path)
    assert {s.group for s in data.of("test")} == {"p0", "p1"} and len(data.of("val")) == 2
    again, _ = open_data(tmp_path, seed=3)
    assert splits(again) == splits(data)


def test_manifest_with_val_is_obeyed(tmp_path: Path) -> None:
    pictures(tmp_path, strong=12)
    rows = [f"images/p{i}.png,labels/strong/p{i}.png,{'val' if i == 3 else ''}" for i in range(12)]
    lines(tmp_path, "manifest.csv", "image,label,split", *rows)
    data, _ = open_data(tmp_path)
    assert [s.group for s in data.of("val")] == ["p3"] and not (tmp_path / "splits.csv").exists()


def test_kept_and_given_splits_may_differ_only_where_chosen() -> None:
    assert merge_splits({"a": "train"}, {"a": "val"}) == {"a": "val"}
    with pytest.raises(DataError, match="'a'"):
        merge_splits({"a": "train", "b": "val"}, {"a": "val"})


def test_group_pattern(tmp_path: Path) -> None:
    for i in range(6):
        for side in "lr":
            picture(tmp_path / f"images/p{i}_{side}.png", seed=i)
            picture(tmp_path / f"labels/strong/p{i}_{side}.png")
    (tmp_path / "data.toml").write_text("group = '^(p[0-9])_'\n")
    data = found(tmp_path)
    assert {s.group for s in data.samples} == {f"p{i}" for i in range(6)}
    assert len(data.of("val")) == 2


# --- problems and allowances ---------------------------------------------------------------------


def test_one_problem_is_said_without_a_count(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/none: is not a folder; a data set is [^;]*$"):
        open_data(tmp_path / "none")
    pictures(tmp_path, strong=8)
    (tmp_path / "images/p1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r": images/p1\.png: .*; or leave it out with --allow-bad"):
        open_data(tmp_path)


def test_a_smoothed_mask_among_plain_ones_is_named(tmp_path: Path) -> None:
    pictures(tmp_path, strong=6, value=255)
    grey = np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8)
    Image.fromarray(grey).save(tmp_path / "labels/strong/p2.png")
    seen = inspect(tmp_path)
    assert [problem.file for problem in seen.problems] == ["labels/strong/p2.png"]
    assert "48 grey levels" in seen.problems[0].message
    for i in range(6):  # where all are so, nothing says that they were masks
        Image.fromarray(grey).save(tmp_path / f"labels/strong/p{i}.png")
    assert "as if every object had its own" in inspect(tmp_path).problems[0].message


def test_one_group_was_chosen_and_labels_by_nobody_are_counted(tmp_path: Path) -> None:
    pictures(tmp_path, strong=5)
    picture(tmp_path / "labels/weak/ann/p1.png")
    seen = inspect(tmp_path)
    assert "1 of 5 strong groups was chosen for val with seed 0." in seen.notes
    assert "; by ann 1\n" in describe_inspection(seen)
    picture(tmp_path / "labels/weak/p2.png")
    assert "; by ann 1, 1 by nobody named\n" in describe_inspection(inspect(tmp_path))


def test_bad_files_are_left_out_only_when_allowed(tmp_path: Path) -> None:
    pictures(tmp_path, strong=8)
    picture(tmp_path / "labels/weak/ann/p1.png")
    for i in (1, 2):
        (tmp_path / f"images/p{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 problems, the first: images/p1\.png: .*--allow-bad 2"):
        open_data(tmp_path, allow_bad=1)
    assert not (tmp_path / "splits.csv").exists()
    data, problems = open_data(tmp_path, allow_bad=2)
    assert [p.file for p in problems] == ["images/p1.png", "images/p2.png"]
    assert {s.group for s in data.samples} == {f"p{i}" for i in (0, 3, 4, 5, 6, 7)}


def test_no_allowance_helps_a_set_that_is_wrong_as_a_whole(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "data.toml").write_text("ingore = 2\n")
    with pytest.raises(DataError, match="data.toml") as error:
        open_data(tmp_path, allow_bad=10**6)
    assert "--allow-bad" not in str(error.value)
    with pytest.raises(DataError, match="gone"):
        open_data(tmp_path / "gone", allow_bad=10**6)


def test_several_problems_are_all_found_and_sorted(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "images/p3.png").write_bytes(b"")
    (tmp_path / "labels/strong/p1.png").write_bytes(b"?")
    picture(tmp_path / "labels/strong/p2.png", size=(8, 7))
    seen = inspect(tmp_path)
    files = ["images/p3.png", "labels/strong/p1.png", "labels/strong/p2.png"]
    assert [problem.file for problem in seen.problems] == files
    assert seen.dataset is not None and len(seen.dataset.samples) == 7


def test_what_a_scan_accepts_can_be_read_and_what_it_refuses_cannot(tmp_path: Path) -> None:
    pictures(tmp_path, strong=6)
    picture(tmp_path / "labels/strong/p2.png", size=(8, 7))
    picture(tmp_path / "labels/strong/p4.png", value=2)
    (tmp_path / "data.toml").write_text("[classes]\nbackground = 0\ncell = 1\n")
    seen = inspect(tmp_path)
    assert seen.dataset is not None
    bad = {problem.file: problem.message for problem in seen.problems}
    assert len(bad) == 2
    for i in range(6):
        label, image = f"labels/strong/p{i}.png", read_image(tmp_path / f"images/p{i}.png")
        if label not in bad:
            read_label(tmp_path / label, seen.dataset.spec, image)
            continue
        with pytest.raises(DataError) as error:
            read_label(tmp_path / label, seen.dataset.spec, image)
        assert str(error.value) == f"{tmp_path / label}: {bad[label]}"


def test_every_file_is_read_once_and_progress_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labelmend.catalogue import survey

    pictures(tmp_path, strong=5)
    for name in ("ann", "bob"):
        picture(tmp_path / f"labels/weak/{name}/p0.png")
    reads: list[str] = []
    plain = survey.read_bytes

    def count(path: Path) -> bytes:
        reads.append(path.name)
        return plain(path)

    monkeypatch.setattr(survey, "read_bytes", count)
    told: list[tuple[int, int]] = []
    seen = inspect(tmp_path, progress=lambda done, of: told.append((done, of)))
    assert seen.problems == () and len(reads) == 12
    assert told == [(i, 12) for i in range(1, 13)]


def test_reports_for_people_and_programs(tmp_path: Path) -> None:
    pictures(tmp_path, strong=6, weak=2)
    (tmp_path / "images/p7.png").write_bytes(b"")
    seen = inspect(tmp_path)
    text = describe_inspection(seen)
    assert "strong: 5 train, 1 val, 0 test" in text and "problem: images/p7.png: " in text
    values = json.loads(json.dumps(inspection_values(seen)))
    assert values["ok"] is False and values["problems"][0]["file"] == "images/p7.png"
    assert values["samples"]["strong"] == {"train": 5, "val": 1, "test": 0}
    assert values["spec"]["classes"] == ["background", "class 1"]
    nothing = Inspection(None, (), ())
    assert inspection_values(nothing)["spec"] is None


def test_a_file_that_may_not_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path)
    plain = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "p1.png" and path.parent.name == "images":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (problem,) = inspect(tmp_path).problems
    assert problem.file == "images/p1.png" and "may not be read" in problem.message
