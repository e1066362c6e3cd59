"""The quality suite: faults are what they are called, runs are kept, tables say what was found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelmend.catalogue.scan import inspect as look_at

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "benchmarks"))

import label_faults  # noqa: E402
import quality as suite  # noqa: E402
import quality_data  # noqa: E402
import quality_tables  # noqa: E402
from displacements import MARGIN  # noqa: E402

NEEDS = pytest.mark.skipif(
    not (quality_data.DATA / "dsb2018").is_dir(), reason=f"no dsb2018 in {quality_data.DATA}"
)


def squares(dims: int, seed: int) -> np.ndarray:
    """A label with the margin: two blocks of class 1 and 2."""
    rng = np.random.default_rng(seed)
    label = np.zeros((40 + 2 * MARGIN,) * dims, np.uint8)
    for value in (1, 2):
        corner = rng.integers(MARGIN, MARGIN + 28, dims)
        label[tuple(slice(c, c + 9) for c in corner)] = value
    return label


@given(st.sampled_from([1, 2]), st.integers(0, 99))
def test_a_shifted_label_is_the_label_elsewhere(dims, seed):
    label = squares(dims, seed)
    moved, by = label_faults.shifted(label, np.random.default_rng(seed))
    rolled = np.roll(label, by.astype(int), tuple(range(dims)))
    assert np.abs(by).max() <= label_faults.SHIFT[dims]
    assert np.array_equal(moved, label_faults.inner(rolled))


@given(st.integers(0, 30))
def test_rotations_and_bends_move_nothing_in_the_mean(seed):
    label = squares(2, seed)
    for fault in (label_faults.turned, label_faults.deformed):
        moved, by = fault(label, np.random.default_rng(seed))
        assert moved.shape == (40, 40)
        assert np.abs(by).max() < 1e-6
        assert set(np.unique(moved)) <= {0, 1, 2}


@given(st.sampled_from([1, 2, 3]), st.integers(0, 20))
def test_rough_labels_keep_their_size_and_classes(dims, seed):
    label = squares(dims, seed)[(slice(None, 64),) * dims]
    for fault in (label_faults.ellipses, label_faults.boxes):
        rough = fault(label, np.random.default_rng(seed))
        assert rough.shape == label.shape
        assert rough.dtype == label.dtype
        assert set(np.unique(rough)) <= {0, *np.unique(label)}


@settings(max_examples=12)
@given(st.sampled_from([1, 2, 3]), st.integers(0, 20))
def test_bent_labels_move_as_far_as_is_said_at_most(dims, seed):
    where = np.indices((64,) * dims)
    moved = [label_faults.deformed(one, np.random.default_rng(seed))[0] for one in where]
    away = np.linalg.norm(moved - where[(slice(None), *[slice(MARGIN, -MARGIN)] * dims)], axis=0)
    most = label_faults.LARGEST[dims]
    assert most / 2 < away.max() <= most + np.sqrt(dims) / 2  # a position is read at the nearest


def test_an_exact_hand_draws_the_box_as_it_is(monkeypatch):
    class Steady:
        def normal(self, mean, deviation, size):
            return np.zeros(size)

    label = squares(2, 3)
    label[label == 2] = 0
    assert np.array_equal(label_faults.boxes(label, Steady()), label)


def test_swapped_labels_are_none_of_their_own():
    labels = [np.full(2, n) for n in range(20)]
    wrong = label_faults.swapped(labels, 0.4, np.random.default_rng(0))
    assert wrong.sum() == 8
    for place, label in enumerate(labels):
        assert (label[0] != place) == wrong[place]


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("scene") / "data"
    quality_data.SCENES["nuclei, both"].make(0, out)
    return out


@NEEDS
def test_a_scene_is_a_data_set_with_its_truth_out_of_sight(both):
    found = look_at(both)
    assert not found.problems
    data = found.dataset
    counts = {(s.split, s.quality) for s in data.samples}
    assert counts == {("test", "strong"), ("val", "strong"), ("train", "strong"), ("train", "weak")}
    assert not any(s.label.startswith(("truth", "placed")) for s in data.samples)
    index = quality_data.read_csv(both / "truth" / "index.csv")
    assert len(index) == quality_data.WEAK
    assert sum(row["gross"] == "1" for row in index) == quality_data.WEAK // 4


@NEEDS
def test_the_same_scene_with_other_labels(both):
    strong = quality_data.read_csv(quality_data.all_strong(both) / "manifest.csv")
    assert {row["quality"] for row in strong} == {"strong"}
    assert len({row["image"] for row in strong}) == len(strong) == 260
    placed = quality_data.in_place(both)
    moves = {r["label"]: r for r in quality_data.read_csv(both / "truth" / "moves.csv")}
    name, by = next((n, m) for n, m in moves.items() if (m["by_0"], m["by_1"]) != ("0.0000",) * 2)
    before, after = np.load(placed / name), np.load(both / name)
    steps = [round(float(by["by_0"])), round(float(by["by_1"]))]
    assert not np.array_equal(before, after)
    rolled = np.roll(before, steps, (0, 1))
    assert np.array_equal(rolled[8:-8, 8:-8], after[8:-8, 8:-8])
    weights = quality_data.read_csv(quality_data.oracle_weights(both, placed / "oracle.csv"))
    assert sum(row["weight"] == "0" for row in weights) == quality_data.WEAK // 4


def line(method: str, seed: int, dice: float, scene: str = "made, rough") -> dict:
    return {"scene": scene, "method": method, "seed": seed, "dice": dice}


def test_tables_and_plot_say_what_was_measured(tmp_path):
    scenes = {"made, rough": quality_data.Scene("made", lambda seed, out: None)}
    figures = {"strong only": 0.8, "equal": 0.79, "ours": 0.86, "all strong": 0.9}
    runs = [line(m, seed, d + seed / 1000) for m, d in figures.items() for seed in range(3)]
    text = quality_tables.summary(runs, scenes)
    (row,) = [each for each in text.splitlines() if each.startswith("| made, rough")]
    assert row.startswith("| made, rough | 3 | 0.801 |")
    assert "| +0.060 (+0.060 to +0.060) | 60% |" in row.replace("\u202f", "")
    assert "0.801" in row and "0.861" in row
    quality_tables.draw(runs, scenes, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5_000


def test_a_training_that_stands_for_several_is_counted_once():
    shared = line("ours", 0, 0.8) | {"same_training_as": "made, rough / weights / 0"}
    assert "From 2 trainings" in quality_tables.trainings(
        [line("a", 0, 1), line("b", 0, 1), shared]
    )


def test_methods_are_compared_on_the_seeds_that_all_have():
    scenes = {"made, rough": quality_data.Scene("made", lambda seed, out: None)}
    runs = [line("strong only", 0, 0.9), line("strong only", 1, 0.1), line("ours", 0, 0.8)]
    (row,) = [r for r in quality_tables.summary(runs, scenes).splitlines() if "made, rough" in r]
    assert row.startswith("| made, rough | 1 | 0.900 |")


def test_a_loss_is_shown_as_one():
    scenes = {"made, rough": quality_data.Scene("made", lambda seed, out: None)}
    runs = [line(m, 0, d) for m, d in (("strong only", 0.9), ("ours", 0.85), ("all strong", 0.95))]
    assert "-0.050 (-0.050 to -0.050) | -100%" in quality_tables.summary(runs, scenes)
    runs[1]["dice"] = 0.1
    assert "| below −100% |" in quality_tables.summary(runs, scenes)


def quality(*options: str, results: Path) -> str:
    command = [sys.executable, "benchmarks/quality.py", "--results", str(results), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPO, env=environment, timeout=300, check=True
    )
    return done.stdout


def test_runs_that_have_a_line_are_not_made_again_and_half_lines_are_none(tmp_path):
    results = tmp_path / "some.jsonl"
    done = line("strong only", 0, 0.9, "birdsong, borders") | {"wall": 20.0}
    results.write_text(json.dumps(done) + "\n" + '{"scene": "birds')
    words = ("--only", "birdsong, borders", "/ strong only /")
    text = quality("--hours", "0", *words, "--seeds", "0", "1", results=results)
    assert "1 runs are left" in text
    assert "| birdsong, borders | 1 | 0.900 |" in text
    assert results.read_text() == json.dumps(done) + "\n"  # so that the next line is whole


def test_a_run_whose_time_was_not_kept_stops_nothing():
    name = suite.Name("birdsong, borders", "equal", 1)
    timeless, timed = line("equal", 0, 0.9, name.scene), line("strong only", 0, 0.9, name.scene)
    assert suite.expected(name, [timeless]) == suite.GUESS
    assert suite.expected(name, [timeless, timed | {"wall": 20.0}]) == 20.0


def time_of_ours(ours: dict[str, float], equal: dict[str, float]) -> str:
    """The last column of a table in which the training of two methods took so long."""
    scenes = {"made, rough": quality_data.Scene("made", lambda seed, out: None)}
    took = {"strong only": {}, "equal": equal, "ours": ours}
    runs = [line(method, 0, 0.9) | times for method, times in took.items()]
    text = quality_tables.tables(runs, scenes, suite.ALL)
    (row,) = [each for each in text.splitlines() if each.startswith("| ours: ")]
    return row.split("|")[-2].strip()


def test_times_stand_beside_those_that_were_taken_in_the_same_way():
    clock, processor = {"seconds": 10.0}, {"processor_seconds": 30.0}
    assert (
        time_of_ours({}, clock) == time_of_ours(clock, {}) == time_of_ours(processor, clock) == ""
    )
    assert time_of_ours({"seconds": 15.0}, clock) == "1.5"
    assert time_of_ours({"processor_seconds": 15.0}, processor) == "0.5"
    assert time_of_ours({"processor_seconds": 60.0} | clock, clock | processor) == "2.0"


def test_rarer_methods_are_run_where_a_scene_is_looked_at_closely():
    names = set(suite.wanted([], [0]))
    assert suite.Name("nuclei, both", "weak only", 0) in names
    assert suite.Name("nuclei, boxes", "strong only", 0) in names
    assert suite.Name("nuclei, boxes", "weak only", 0) not in names
