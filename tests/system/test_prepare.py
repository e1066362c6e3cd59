"""The real data sets, prepared on a subset: every manifest is whole, divided and honest."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from labelmend.catalogue.scan import inspect

REPO = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LABELMEND_DATA", REPO.parent / "shared" / "data"))
SETS = {"bubil": 20, "hippocampus": 20, "ludb": 20, "birdsong": 21}


def _prepare(name: str, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    script = REPO / "benchmarks" / f"prepare_{name}.py"
    command = [sys.executable, str(script), str(DATA / name), str(out), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _need(name: str) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} in {DATA}; set LABELMEND_DATA to the folder that holds it")


@pytest.fixture(scope="module", params=sorted(SETS))
def prepared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    name = request.param
    _need(name)
    out = tmp_path_factory.mktemp("prepared") / name
    done = _prepare(name, out, "--limit", str(SETS[name]))
    assert done.returncode == 0, done.stderr
    assert "samples" in done.stdout and "weak labels: mean Dice" in done.stdout
    return name, out


def test_every_file_of_the_manifest_is_there_once(prepared: tuple[str, Path]) -> None:
    _, out = prepared
    rows = _rows(out / "manifest.csv")
    assert rows
    for row in rows:
        assert (out / row["image"]).is_file() and (out / row["label"]).is_file()
    assert len({row["label"] for row in rows}) == len(rows)
    listed = {row["image"] for row in rows} | {row["label"] for row in rows}
    there = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    beside = {name for name in there - listed if not name.startswith("truth/")}
    assert beside == {"manifest.csv", "data.toml"}


def test_no_group_is_in_two_splits_and_every_part_is_filled(prepared: tuple[str, Path]) -> None:
    _, out = prepared
    rows = _rows(out / "manifest.csv")
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    parts = {(row["split"], row["quality"]) for row in rows}
    assert parts == {("train", "strong"), ("train", "weak"), ("val", "strong"), ("test", "strong")}


def test_only_weak_labels_have_a_truth_aside(prepared: tuple[str, Path]) -> None:
    _, out = prepared
    rows = _rows(out / "manifest.csv")
    truths = _rows(out / "truth" / "index.csv")
    weak = {row["label"] for row in rows if row["quality"] == "weak"}
    assert {row["label"] for row in truths} == weak
    assert all((out / row["truth"]).is_file() for row in truths)
    overlaps = np.array([float(row["dice"]) for row in truths])
    assert 0 <= overlaps.min() < overlaps.mean() < overlaps.max() < 1
    assert not any(row["label"].startswith("truth") for row in rows)


def test_labelmend_finds_nothing_wrong(prepared: tuple[str, Path]) -> None:
    _, out = prepared
    seen = inspect(out)
    assert seen.problems == ()
    assert seen.dataset is not None
    listed = {(s.label, s.quality, s.split, s.group, s.annotator) for s in seen.dataset.samples}
    rows = _rows(out / "manifest.csv")
    columns = ("label", "quality", "split", "group", "annotator")
    assert listed == {tuple(row[column] for column in columns) for row in rows}


def test_gross_errors_are_worse_than_the_others(prepared: tuple[str, Path]) -> None:
    name, out = prepared
    truths = _rows(out / "truth" / "index.csv")
    if name == "bubil":
        assert {row["gross"] for row in truths} == {""}
        return
    by = {g: [float(r["dice"]) for r in truths if r["gross"] == g] for g in ("0", "1")}
    assert by["0"] and by["1"]
    assert np.mean(by["1"]) < np.mean(by["0"])


def test_the_description_names_classes_by_their_values(prepared: tuple[str, Path]) -> None:
    name, out = prepared
    spec = tomllib.loads((out / "data.toml").read_text(encoding="utf-8"))
    dims = {"bubil": 2, "hippocampus": 3, "ludb": 1, "birdsong": 1}
    assert spec["task"] == "segmentation" and spec["dims"] == dims[name]
    assert next(iter(spec["classes"].values())) == 0
    label = out / _rows(out / "manifest.csv")[0]["label"]
    if name == "ludb":
        found = set(np.unique(np.load(label)).tolist())
        assert found - {spec["ignore"]} == set(spec["classes"].values())
    if name == "birdsong":
        assert {row["label"] for row in _rows(label)} == set(spec["classes"]) - {"silence"}


def test_bubil_keeps_seven_labels_per_training_image(tmp_path: Path) -> None:
    _need("bubil")
    assert _prepare("bubil", tmp_path / "out", "--limit", "12").returncode == 0
    rows = _rows(tmp_path / "out" / "manifest.csv")
    for image in {row["image"] for row in rows if row["split"] == "train"}:
        weak = {r["annotator"] for r in rows if r["image"] == image and r["quality"] == "weak"}
        assert weak == {f"turk{i}" for i in range(1, 8)}


@pytest.mark.parametrize("name", ["ludb", "birdsong"])
def test_a_seed_decides_everything(name: str, tmp_path: Path) -> None:
    _need(name)
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        done = _prepare(name, tmp_path / folder, "--limit", "12", "--seed", seed)
        assert done.returncode == 0, done.stderr
    assert _hashes(tmp_path / "a") == _hashes(tmp_path / "b")
    assert _hashes(tmp_path / "a") != _hashes(tmp_path / "c")


def test_birdsong_keeps_names_when_asked(tmp_path: Path) -> None:
    _need("birdsong")
    assert _prepare("birdsong", tmp_path / "out", "--classes").returncode == 0
    spec = tomllib.loads((tmp_path / "out" / "data.toml").read_text(encoding="utf-8"))
    assert len(spec["classes"]) == 21
    assert sorted(spec["classes"].values()) == list(range(21))


@pytest.mark.parametrize("name", sorted(SETS))
def test_a_wrong_source_is_one_line(name: str, tmp_path: Path) -> None:
    script = REPO / "benchmarks" / f"prepare_{name}.py"
    command = [sys.executable, str(script), str(tmp_path / "nothing"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    _need("birdsong")
    (tmp_path / "mine.txt").write_text("mine")
    done = _prepare("birdsong", tmp_path)
    assert done.returncode == 1
    assert "already holds something" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def _load(name: str) -> object:
    sys.path.insert(0, str(REPO / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location(name, REPO / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(REPO / "benchmarks"))
    return module


def test_an_ellipsoid_of_a_ball_is_that_ball() -> None:
    z, y, x = np.indices((25, 25, 25)) - 12
    ball = z**2 + y**2 + x**2 <= 8**2
    found = _load("prepare_hippocampus").as_ellipsoid(ball)
    assert np.count_nonzero(found ^ ball) < 0.06 * np.count_nonzero(ball)


def test_waves_without_jitter_stay_and_ignored_positions_always_do() -> None:
    module = _load("prepare_ludb")
    label = np.repeat(np.array([255, 0, 1, 0, 2, 3, 0, 255], np.uint8), 20)
    random = np.random.default_rng(0)
    assert np.array_equal(module.misplaced(label, random, 0.0, 0.0), label)
    late = module.misplaced(label, random, 0.0, 10.0)
    assert np.array_equal(late[50:130], label[40:120])
    assert np.array_equal(late == 255, label == 255)


def test_moved_syllables_stay_apart_and_inside() -> None:
    module = _load("prepare_birdsong")
    events = [(0.02, 0.1, "a"), (0.11, 0.2, "b"), (0.9, 0.99, "a")]
    for seed in range(50):
        random = np.random.default_rng(seed)
        times = [t for a, b, _ in module.misplaced(events, random, 0.05, 0.0, 1.0) for t in (a, b)]
        assert times == sorted(times)
        assert times[0] >= 0 and times[-1] <= 1.0
    assert module.misplaced(events, np.random.default_rng(0), 0.0, 0.0, 1.0) == events
