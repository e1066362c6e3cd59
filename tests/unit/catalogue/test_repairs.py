from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelmend.catalogue.repairs import (
    TABLE,
    Repair,
    original_of,
    read_repairs,
    repaired_name,
    write_repairs,
)
from labelmend.catalogue.scan import inspect
from labelmend.errors import DataError
from labelmend.types import Sample

from ... import made_data

LABEL = "labels/weak/ann/s7.png"  # its image has no strong label
FIXED = "labels/repaired/weak/ann/s7.3f2a9c1b.png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_data.gray(tmp_path / "data")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def repaired(root: Path, quality: str = "strong") -> Repair:
    """A label redrawn, as a review writes it."""
    (root / FIXED).parent.mkdir(parents=True)
    Image.fromarray(np.zeros((20, 24), np.uint8)).save(root / FIXED)
    hashes = sha256(root / LABEL), sha256(root / FIXED)
    return Repair(LABEL, "accepted", quality, FIXED, "3f2a9c1b-1", "Eva, Ω", "t", *hashes)  # type: ignore[arg-type]


def samples(root: Path, **options: bool) -> dict[str, Sample]:
    found = inspect(root, **options)  # type: ignore[arg-type]
    assert found.dataset is not None and not found.problems
    return {sample.label: sample for sample in found.dataset.samples}


def test_a_repaired_label_stands_in_for_the_original(root: Path) -> None:
    before = samples(root)
    write_repairs(root, [repaired(root)])
    after = samples(root)
    assert set(before) - set(after) == {LABEL} and set(after) - set(before) == {FIXED}
    one, was = after[FIXED], before[LABEL]
    assert one.quality == "strong" and one.label_sha256 == sha256(root / FIXED)
    assert (one.image, one.annotator, one.group) == (was.image, was.annotator, was.group)
    assert samples(root, repairs=False) == before


def test_a_weak_one_may_stay_weak(root: Path) -> None:
    write_repairs(root, [repaired(root, "weak")])
    assert samples(root)[FIXED].quality == "weak"


def test_what_is_right_as_it_is_may_become_strong(root: Path) -> None:
    write_repairs(root, [Repair(LABEL, "accepted", "strong")])
    assert samples(root)[LABEL].quality == "strong"


def test_a_rejected_label_is_left_out_and_said(root: Path) -> None:
    write_repairs(root, [Repair(LABEL, "rejected", "weak")])
    assert LABEL not in samples(root)
    notes = inspect(root).notes
    assert any("1 label was looked at" in n and "1 rejected" in n for n in notes), notes


def test_what_was_repaired_is_learned_from_not_held_out(root: Path) -> None:
    before = inspect(root, val_share=0.9).dataset
    assert before is not None
    held_out = {s.group for s in before.of("val", "strong")}
    write_repairs(root, [repaired(root), Repair("labels/weak/bob/s6.png", "accepted", "strong")])
    after = inspect(root, val_share=0.9).dataset
    assert after is not None
    assert {s.group for s in after.of("val", "strong")} == held_out
    assert {"s6", "s7"} <= {s.group for s in after.of("train", "strong")}


def test_where_only_repaired_labels_are_strong_some_are_held_out(root: Path) -> None:
    for path in (root / "labels/strong").iterdir():
        path.unlink()
    write_repairs(
        root, [Repair(f"labels/weak/ann/s{i}.png", "accepted", "strong") for i in range(8)]
    )
    found = inspect(root).dataset
    assert found is not None
    assert len(found.of("val", "strong")) == 2 and len(found.of("train", "strong")) == 6


def test_the_table_comes_back_as_written(root: Path) -> None:
    repairs = [repaired(root), Repair("labels/weak/bob/s1.png", "rejected", "weak", person='a"b')]
    write_repairs(root, repairs)
    assert list(read_repairs(root).values()) == repairs
    write_repairs(root, [])
    assert read_repairs(root) == {}


def test_no_table_is_made_to_say_nothing(root: Path) -> None:
    write_repairs(root, [])
    assert not (root / TABLE).exists()


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_an_original_that_changed_is_not_passed_over(root: Path, verdict: str) -> None:
    one = repaired(root)
    write_repairs(root, [Repair(LABEL, verdict, "weak", label_sha256=one.label_sha256)])  # type: ignore[arg-type]
    Image.fromarray(np.full((20, 24), 255, np.uint8)).save(root / LABEL)
    (problem,) = inspect(root).problems
    assert problem.file == TABLE and LABEL in problem.message
    assert "changed after it was looked at" in problem.message


def test_a_repaired_file_that_changed_is_refused(root: Path) -> None:
    write_repairs(root, [repaired(root)])
    Image.fromarray(np.full((20, 24), 255, np.uint8)).save(root / FIXED)
    (problem,) = inspect(root).problems
    assert "is not the file that was written" in problem.message
    (root / FIXED).unlink()
    (problem,) = inspect(root).problems
    assert f"{FIXED} does not exist" in problem.message


@pytest.mark.parametrize("path", ["../outside.png", "/etc/passwd", "labels/../../x.png"])
def test_paths_stay_inside(root: Path, path: str) -> None:
    (root.parent / "outside.png").write_bytes(b"x")
    write_repairs(root, [Repair(LABEL, "accepted", "weak", path)])
    (problem,) = inspect(root).problems
    assert "leads out of the data folder" in problem.message


def test_a_link_out_of_the_folder_is_refused(root: Path) -> None:
    one = repaired(root)
    outside = root.parent / "outside.png"
    (root / FIXED).rename(outside)
    (root / FIXED).symlink_to(outside)
    write_repairs(root, [one])
    (problem,) = inspect(root).problems
    assert "leads out of the data folder" in problem.message


def test_a_label_that_is_gone_is_named(root: Path) -> None:
    write_repairs(root, [Repair("labels/weak/ann/none.png", "rejected", "weak")])
    (problem,) = inspect(root).problems
    assert "labels/weak/ann/none.png is no label of this data set any more" in problem.message


HEADER = "label,verdict,quality,repaired,event,person,time,label_sha256,repaired_sha256\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "needs the columns"),
        ("label,verdict\n", "needs the columns"),
        (HEADER + "a.png,accepted\n", "line 2 has 2 cells"),
        (HEADER + "a.png,acepted,weak,,,,,,\n", "did you mean 'accepted'"),
        (HEADER + "a.png,accepted,strog,,,,,,\n", "did you mean 'strong'"),
        (HEADER + 2 * "a.png,accepted,weak,,,,,,\n", "line 3: a.png is in it twice"),
        ("\udcff", "not a CSV in UTF-8"),
    ],
)
def test_a_bad_table_is_one_clear_error(root: Path, text: str, wanted: str) -> None:
    (root / TABLE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=wanted):
        read_repairs(root)
    assert wanted in inspect(root).problems[0].message


def test_names_of_repaired_labels() -> None:
    assert repaired_name("masks/a.nii.gz", "12ab-x") == "labels/repaired/masks/a.12ab"
    assert original_of("x", {}) == "x"
