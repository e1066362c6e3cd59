"""Labels put in place in training: resumed to the bit, alike in parts and processes, and told."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from labelmend.errors import SettingsError
from labelmend.runs import Run
from labelmend.training.assembly import fit, resume

from ..command import command
from .test_mixed_training import Sayings, exact, in_two_processes
from .test_processes import EXACT, assert_agree
from .test_resume import STEPS, KillAt, assert_same, remembered

SHIFT = {"transform": "shift", "start": 0, "window": 6, "confidence": 0.02, "margin": 0.0}
"""Moves labels by whatever an untrained network shows: what is wanted is that all agree on it."""
TURNS = {"augment": {"flip": 0.5, "quarter_turns": True}}
WAYS = {
    "each": {"align": SHIFT, **TURNS},
    "all by one shift": {"align": {**SHIFT, "per": "set"}, **TURNS},
    "rigid": {"align": {**SHIFT, "transform": "rigid", "window": 3}},
    "centred": {"align": {**SHIFT, "centred": True, "keep": 0.0}},
    "mixed": {"align": SHIFT, "mixing": {"use": True}, **TURNS},
    "two models": {"align": SHIFT, "mixing": {"use": True}, "dual": {"use": True}},
}


def together(way: str) -> dict:
    return {**exact(**WAYS[way]), "augment": {**EXACT["augment"], **WAYS[way].get("augment", {})}}


def moved(run: Run) -> int:
    return sum(row["displacement_0"] != 0 or row["displacement_1"] != 0 for row in run.places())


# ---------------------------------------------------------------------- resume


@pytest.fixture(scope="module", params=["each", "all by one shift", "two models"])
def uninterrupted(request, data, tmp_path_factory, small_settings):
    out = tmp_path_factory.mktemp("aligned") / "whole"
    fit(data, out, steps=STEPS, **{**small_settings, **WAYS[request.param]})
    found = remembered(out)
    assert "places" in found["tensors"]
    return request.param, found, (out / "places.csv").read_bytes()


def test_a_killed_training_ends_with_the_same_bits(
    data, tmp_path, small, in_child, uninterrupted
) -> None:
    way, expected, table = uninterrupted
    out, chosen = tmp_path / "run", {**small, **WAYS[way], "save_every": 1}

    def begin() -> None:
        fit(data, out, steps=STEPS, watcher=KillAt(4), **chosen)

    def go_on() -> None:
        resume(out, watcher=KillAt(7))

    for work in (begin, go_on):
        assert in_child(work) == 128 + signal.SIGKILL
    resume(out)
    assert_same(remembered(out), expected)
    assert (out / "places.csv").read_bytes() == table


# ---------------------------------------------------------------------- parts and processes


@pytest.mark.parametrize("way", ["each", "all by one shift", "mixed"])
def test_accumulating_parts_is_one_batch(data, tmp_path, way) -> None:
    whole = fit(data, tmp_path / "whole", steps=1, **together(way))
    batch = {"size": 8, "accumulate": 2}
    parts = fit(data, tmp_path / "parts", steps=1, **{**together(way), "batch": batch})
    assert_agree(parts, whole)
    assert whole.places() == parts.places()


SEVERAL = """
import sys, torch
from labelmend.training.assembly import fit
from tests.system.test_aligned_training import WAYS, together

if __name__ == "__main__":
    data, out = sys.argv[1:]
    torch.distributed.init_process_group("gloo")
    for name in WAYS:
        fit(data, f"{out}/{name}", steps=3, **together(name))
    torch.distributed.destroy_process_group()
"""


def test_two_processes_are_one_in_every_way(data, tmp_path) -> None:
    in_two_processes(SEVERAL, data, tmp_path)
    for name in WAYS:
        one = fit(data, tmp_path / "one" / name, steps=3, **together(name))
        two = Run.open(tmp_path / "two" / name)
        for first, second in zip(one.metrics("train"), two.metrics("train"), strict=True):
            assert first.keys() == second.keys(), name
            for key in first.keys() - {"seconds", "kind"}:
                assert second[key] == pytest.approx(first[key], rel=1e-6, abs=1e-9), (name, key)
        assert moved(one) > 0 or name == "rigid", name  # a turn needs to be seen better
        assert [row["id"] for row in one.places()] == [row["id"] for row in two.places()]
        tensors = [run.load("last").tensors["places"] for run in (one, two)]
        for key, value in tensors[0].items():
            torch.testing.assert_close(tensors[1][key], value, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------- what it does


@pytest.fixture(scope="module")
def shifted(tmp_path_factory) -> Path:
    """Squares that a network learns in no time; all weak labels lie off, each by a shift."""
    root = tmp_path_factory.mktemp("shifted")
    rng = np.random.default_rng(1)
    rows = ["image,label,quality,split,group,annotator"]
    for number in range(28):
        quality = "strong" if number < 8 else "weak"
        split = "val" if number < 2 else "train"
        truth = np.zeros((40, 40), np.uint8)
        for _ in range(2):
            row, column = rng.integers(8, 24, 2)
            truth[row : row + 8, column : column + 8] = 1
        shift = rng.integers(-4, 5, 2) if quality == "weak" else (0, 0)
        label = np.roll(truth, shift, (0, 1))
        for name, array in (
            (f"images/s{number}.npy", (truth + rng.normal(0, 0.1, truth.shape)).astype("f4")),
            (f"labels/{quality}/s{number}.npy", label),
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(root / name, array)
        rows.append(
            f"images/s{number}.npy,labels/{quality}/s{number}.npy,{quality},{split},g{number},"
        )
        if quality == "weak":
            with (root / "shifts.csv").open("a") as table:
                table.write(f"labels/weak/s{number}.npy,{shift[0]},{shift[1]}\n")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def test_labels_are_found_out_of_place_and_put_back(shifted, tmp_path) -> None:
    out = tmp_path / "run"
    small = ["--set", "network.width=8", "--set", "network.depth=2", "--set", "augment.flip=0"]
    done = command("train", shifted, "--out", out, "--align", "shift", "--steps", "160", *small)
    assert done.status == 0, done.err
    assert "alignment: weak labels move" in done.out + done.err
    run = Run.open(out)
    with (shifted / "shifts.csv").open() as table:
        shifts = {name: (int(a), int(b)) for name, a, b in csv.reader(table)}
    rows = {row["id"]: row for row in run.places()}
    assert rows.keys() == shifts.keys()
    right = [
        abs(rows[name]["displacement_0"] + a) <= 1 and abs(rows[name]["displacement_1"] + b) <= 1
        for name, (a, b) in shifts.items()
    ]
    assert np.mean(right) >= 0.9
    # The second ending sees no weak label, so nothing moves in it.
    last = [record for record in run.metrics("train") if "moved" in record][-1]
    assert last["step"] == 160
    assert last["moved"] > 0.5 and last["unclear"] < 0.2
    assert abs(last["drift_0"]) <= 1 and abs(last["drift_1"]) <= 1
    # A label that was only out of place is as good as any other, once it is put back.
    weights = [row["weight"] for row in run.weights() if row["quality"] == "weak"]
    assert np.mean(weights) > 0.5


def test_without_an_anchor_it_says_so_and_holds_the_mean(shifted, tmp_path) -> None:
    watcher = Sayings()
    run = fit(
        shifted,
        tmp_path / "run",
        steps=4,
        watcher=watcher,
        **{**EXACT, "align": SHIFT, "batch": {"size": 4, "strong_share": 0.0}},
    )
    assert any("offset that all of them share cannot be known" in text for text in watcher.said)
    assert not any(key.startswith("drift") for key in run.metrics("train")[-1])


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("align", "says"),
    [
        ({"transform": "rigid", "per": "set"}, "align.per = 'set'"),
        ({"transform": "affine", "centred": True}, "align.centred is of shifts"),
        ({"transform": "shift", "window": 400}, "take at most"),
        ({"transform": "shift", "score": "normalized"}, "normalised"),
    ],
)
def test_what_makes_no_sense_is_refused(data, tmp_path, small, align, says) -> None:
    with pytest.raises(SettingsError, match=says):
        fit(data, tmp_path / "run", steps=2, **{**small, "align": align})
    assert not (tmp_path / "run").exists()
