"""Objects are counted, measured in both units and written in tables that can be read again."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import label as connect
from skimage.measure import regionprops

from labelmend.errors import DataError, SettingsError
from labelmend.inference import objects
from labelmend.inference.conclusions import (
    UNSURE,
    Conclusion,
    Figures,
    check_parquet,
    conclude,
    read_part,
    write_conclusions,
    write_part,
)
from labelmend.inference.objects import Collector
from labelmend.inference.rules import WAYS, parse_rule, read_rules
from labelmend.types import DataSpec

RNG = np.random.default_rng(0)


def spec(dims: int = 2, channels: int = 1, classes: tuple[str, ...] = ("none", "cell", "gap")):
    values = tuple(range(len(classes)))
    return DataSpec("segmentation", classes, values, None, dims, channels, "none", ".png")


def concluded(
    label: np.ndarray, about: DataSpec, spacing: tuple[float, ...] | None = None
) -> Conclusion:
    collector = Collector()
    image = np.ones((about.channels, *label.shape))
    collector.add(label, image, np.full(label.shape, 0.5))
    found = (collector.counts.tolist(), collector.finish())
    return conclude(("in/a.png", "a.png"), label.shape, spacing, found, about)


def test_every_object_is_measured_as_scikit_image_measures() -> None:
    label = np.zeros((40, 30), np.int64)
    label[3:9, 4:12] = 1
    label[5, 7] = 0
    label[20:31, 10] = 1
    label[35:38, 20:29] = 2
    image = RNG.normal(size=(2, 40, 30))
    sure = RNG.random((40, 30))
    collector = Collector()
    collector.add(label, image, sure)
    found = collector.finish()
    wanted = regionprops(connect(label), intensity_image=np.moveaxis(image, 0, -1))
    assert [each.index for each in found] == [1, 1, 2]
    for one, other in zip(found, wanted, strict=True):
        assert one.size == other.area and one.begin + one.end == other.bbox
        assert np.allclose(one.centroid, other.centroid)
        assert np.allclose(one.means, other.intensity_mean)
        assert math.isclose(one.extent, other.extent)
        inside = np.zeros(label.shape, bool)
        inside[other.slice] = other.image
        assert math.isclose(one.confidence, sure[inside].mean())
        assert one.perimeter == pytest.approx(other.perimeter)
        assert one.eccentricity == pytest.approx(other.eccentricity)
        if min(other.image.shape) > 1:
            assert one.solidity == pytest.approx(other.solidity)


def test_a_line_is_its_own_hull() -> None:
    found = concluded(np.array([[1, 1, 1, 0, 2]]), spec()).objects
    assert [row["solidity"] for row in found] == [1.0, 1.0]
    assert [row["eccentricity"] for row in found] == [1.0, 0.0]


def test_corners_touch_and_classes_do_not() -> None:
    label = np.array([[1, 0, 2], [0, 1, 2], [2, 0, 0]])
    found = [(row["class"], row["number"], row["area"]) for row in concluded(label, spec()).objects]
    assert found == [("cell", 1, 2), ("gap", 1, 2), ("gap", 2, 1)]


def test_what_lies_across_strips_is_one_object() -> None:
    label = np.array([[1, 0, 1, 0], [1, 0, 1, 2], [1, 1, 1, 2], [0, 0, 0, 2], [1, 0, 0, 0]])
    collector = Collector()
    for row in label:
        collector.add(row[None], np.ones((1, 1, 4)), np.ones((1, 4)))
    found = [(each.index, each.size, each.begin, each.end) for each in collector.finish()]
    assert found == [(1, 7, (0, 0), (3, 3)), (1, 1, (4, 0), (5, 1)), (2, 3, (1, 3), (4, 4))]


def test_large_objects_have_no_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "LARGEST_SHAPE", 8)
    label = np.zeros((6, 9), np.int64)
    label[:4, :3] = 1
    label[:4, 5:7] = 2
    for cuts in ((0, 6), (0, 2, 6), (0, 1, 2, 3, 6)):
        collector = Collector()
        for a, b in itertools.pairwise(cuts):
            collector.add(label[a:b], np.ones((1, b - a, 9)), np.ones((b - a, 9)))
        large, small = collector.finish()
        assert large.size == 12 and large.perimeter is None and large.solidity is None
        assert small.size == 8 and small.perimeter is not None


def test_noise_is_no_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "MOST_OBJECTS", 5)
    label = np.zeros((20, 20), np.int64)
    label[::3, ::3] = 1
    with pytest.raises(DataError, match=r"more than 5 pieces, which is noise .*--smallest"):
        Collector().add(label, np.ones((1, 20, 20)), np.ones((20, 20)))


def test_sizes_have_both_units() -> None:
    label = np.zeros((4, 5), np.int64)
    label[1:3, 2:4] = 1
    row = concluded(label, spec(), (0.5, 0.2)).objects[0]
    assert row["area"] == 4 and row["area_mm2"] == pytest.approx(0.4)
    assert (row["centroid_0"], row["centroid_1"]) == (1.5, 2.5)
    assert (row["centroid_0_mm"], row["centroid_1_mm"]) == (0.75, 0.5)
    assert [row[key] for key in ("begin_0", "end_0", "begin_1", "end_1")] == [1, 3, 2, 4]
    unknown = concluded(label, spec()).objects[0]
    assert unknown["area_mm2"] is None and unknown["centroid_0_mm"] is None
    volume = concluded(label[None], spec(3), (2.0, 0.5, 0.2)).objects[0]
    assert volume["volume_mm3"] == pytest.approx(0.8) and "perimeter" not in volume
    event = concluded(np.array([0, 1, 1, 1, 0]), spec(1), (0.1,)).objects[0]
    assert (event["length"], event["length_s"]) == (3, pytest.approx(0.3))
    assert (event["onset_s"], event["offset_s"]) == (pytest.approx(0.1), pytest.approx(0.4))


def test_a_file_has_counts_burdens_and_rates() -> None:
    label = np.array([0, 1, 1, 0, 2, 0, 1, 0])
    about = spec(1)
    figures = Figures(about)
    conclusion = concluded(label, about, (0.5,))
    summary = figures.summary(conclusion)
    assert summary["cell"] == {
        "count": 2,
        "burden": 3 / 8,
        "length": 3,
        "length_s": 1.5,
        "rate_per_s": 0.5,
    }
    assert summary["gap"]["count"] == 1
    assert figures.of(conclusion, "cell.length_s.max") == 1.0
    assert figures.of(conclusion, "burden.gap") == 1 / 8
    assert figures.of(conclusion, "gap.length.sum") == 1
    assert figures.summary(concluded(label, about))["cell"]["rate_per_s"] is None


def test_every_figure_can_be_asked_for() -> None:
    for dims in (1, 2, 3):
        about = spec(dims, 2)
        label = RNG.integers(0, 3, (6, 5, 4)[:dims])
        conclusion = concluded(label, about, (0.5,) * dims)
        names = Figures(about).names
        assert all(math.isfinite(Figures(about).of(conclusion, name) or 0) for name in names)
        assert "cell.mean_1.max" in names and not any(name.startswith("none") for name in names)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_number_of_both_tables_can_be_asked_for(dims: int, tmp_path: Path) -> None:
    about = spec(dims, 2)
    label = RNG.integers(0, 3, (9, 5, 4)[:dims])
    found = concluded(label, about, (0.5, 0.25, 2.0)[:dims])
    unsure = dict.fromkeys(UNSURE, 0.25)
    rows = tuple({**row, **unsure} for row in found.objects)
    found = dataclasses.replace(found, objects=rows, **unsure)
    write_conclusions(tmp_path, [found], about)
    figures = Figures(about, UNSURE)
    with (tmp_path / "files.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    for column in set(row) - {"file", "label", "flags"}:
        assert figures.of(found, column) == float(row[column]), column
    with (tmp_path / "objects.csv").open(newline="") as file:
        objects_of = [row for row in csv.DictReader(file) if row["class"] == "cell"]
    for column in set(objects_of[0]) - {"file", "class"}:
        wanted = max(float(row[column]) for row in objects_of)
        assert figures.of(found, f"cell.{column}.max") == wanted, column
    bare = concluded(label, about)
    assert figures.of(bare, "spacing_0") is None and figures.of(bare, "size_0") == 9


def test_the_page_names_columns_and_figures_that_there_are(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "predict.md"
    text = page.read_text(encoding="utf-8").partition("## Conclusions")[2]
    about = spec(2, 1, ("none", "cell", "lesion"))
    table = re.search(r"```\n(name,where,verdict\n.*?)```", text, re.DOTALL)
    assert table is not None
    (tmp_path / "rules.csv").write_text(table[1])
    known = Figures(about, UNSURE).names
    assert len(read_rules(tmp_path / "rules.csv", known)) == 4
    names = text.partition("A condition compares")[2].partition("A class name")[0]
    ways = "|".join(WAYS)
    exact = re.findall(rf"`(\w+_0|cell\.\w+\.(?:{ways}))`", names)
    assert exact == ["size_0", "cell.centroid_0.mean"] and set(exact) <= set(known)
    of_objects = text.partition("- `objects.csv`")[2].partition("- `files.csv`")[0]
    of_files = text.partition("- `files.csv`")[2].partition("- `conclusions.html`")[0]
    every = {name for dims in (1, 2, 3) for name in Figures(spec(dims)).names}
    for column in re.findall(r"`([a-z_0-9]+)`", of_objects):
        assert f"cell.{column}.max" in every, column
    for column in set(re.findall(r"`([a-zA-Z_0-9.]+)`", of_files)) - {"flags", "rate_per_s"}:
        assert column.replace("CLASS", "cell") in every, column


def test_rules_flag_and_say_what_they_miss() -> None:
    figures = Figures(spec())
    conclusion = concluded(np.array([[1, 0, 1]]), spec())
    flagged = figures.judge(conclusion, parse_rule("two", "cell.count == 2"))
    flagged = figures.judge(flagged, parse_rule("three", "cell.count == 3"))
    assert flagged.flags == ("two",) and conclusion.flags == ()
    with pytest.raises(DataError, match=r"in/a.png: the rule 'big' asks for cell.area_mm2.max"):
        figures.judge(conclusion, parse_rule("big", "cell.area_mm2.max > 1"))


def test_tables_can_be_read_again(tmp_path: Path) -> None:
    about = spec(2, 1, ("none", 'a "b", c', "gap"))
    label = RNG.integers(0, 3, (9, 8))
    conclusion = concluded(label, about, (0.5, 0.25))
    write_part(tmp_path / "parts/a.json", conclusion)
    again = read_part(tmp_path / "parts/a.json")
    assert again == conclusion
    write_conclusions(tmp_path, [again, conclusion], about)
    with (tmp_path / "objects.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 2 * len(conclusion.objects)
    for row, wanted in zip(found, conclusion.objects, strict=False):
        assert row.pop("file") == "in/a.png"
        assert row == {key: str(value) for key, value in wanted.items()}
    with (tmp_path / "files.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["size_1"] for row in rows] == ["8", "8"]
    assert float(rows[0]["gap.burden"]) == (label == 2).mean()
    everything = json.loads((tmp_path / "conclusions.json").read_text())
    assert everything["files"][0]["objects"] == list(conclusion.objects)
    assert everything["files"][1]["classes"]["gap"]["area"] == int((label == 2).sum())


def test_empty_tables_have_their_columns(tmp_path: Path) -> None:
    write_conclusions(tmp_path, [concluded(np.zeros((3, 3), int), spec())], spec())
    header, *rest = (tmp_path / "objects.csv").read_text().splitlines()
    assert not rest and header.startswith("file,class,number,area,area_mm2,centroid_0")
    assert header.endswith("confidence,extent,perimeter,eccentricity,solidity")
    write_conclusions(tmp_path, [], spec())
    assert (tmp_path / "files.csv").read_text().startswith("file,label,flags")


def test_parquet_without_its_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match="pip install pyarrow"):
        check_parquet()
