"""Labels bent in training by a second network: resumed to the bit, alike in parts, and told."""

from __future__ import annotations

import itertools
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
from .test_processes import assert_agree
from .test_resume import STEPS, KillAt, assert_same, remembered

WARP = {
    "transform": "warp", "start": 0, "window": 4, "confidence": 0.02, "margin": 0.0,
    "warp": {"after": "shift", "start": 1, "width": 4, "depth": 2, "reach": 4.0},
}  # fmt: skip
"""Bends labels by whatever an untrained network shows: what is wanted is that all agree on it."""


def warp(**more) -> dict:
    return {**WARP, "warp": {**WARP["warp"], **more}}


DUAL = {"mixing": {"use": True}, "dual": {"use": True}}
WAYS = {
    "together": {"align": warp()},
    "step": {"align": warp(turns="step", after="none")},
    "epoch": {"align": warp(turns="epoch", moves="prediction")},
    "affine": {"align": warp(after="affine", diffeomorphic=False)},
    "two models": {"align": warp(), **DUAL},
}


def bends(run: Run) -> bool:
    """Whether any step bent any label."""
    return any(record.get("bent_by", 0) > 0 for record in run.metrics("train"))


# ---------------------------------------------------------------------- resume


@pytest.fixture(scope="module", params=["together", "epoch", "two models"])
def uninterrupted(request, data, tmp_path_factory, small_settings):
    out = tmp_path_factory.mktemp("warped") / "whole"
    run = fit(data, out, steps=STEPS, **{**small_settings, **WAYS[request.param]})
    found = remembered(out)
    assert {"main", "warp", "optimiser", "places"} <= found["tensors"].keys() and bends(run)
    # Both remember how they were learning.
    memory = {name.partition(".")[0] for name in found["tensors"]["optimiser"]}
    assert {"main", "warp"} <= memory
    return request.param, found


def test_a_killed_training_ends_with_the_same_bits(
    data, tmp_path, small, in_child, uninterrupted
) -> None:
    way, expected = uninterrupted
    out, chosen = tmp_path / "run", {**small, **WAYS[way], "save_every": 1}

    def begin() -> None:
        fit(data, out, steps=STEPS, watcher=KillAt(4), **chosen)

    def go_on() -> None:
        resume(out, watcher=KillAt(7))

    for work in (begin, go_on):
        assert in_child(work) == 128 + signal.SIGKILL
    resume(out)
    assert_same(remembered(out), expected)


# ---------------------------------------------------------------------- parts and processes


@pytest.mark.parametrize("way", ["together", "epoch", "two models"])
def test_accumulating_parts_is_one_batch(data, tmp_path, way) -> None:
    given = exact(**WAYS[way])
    given["align"] = {**given["align"], "warp": {**given["align"]["warp"], "start": 0}}
    whole = fit(data, tmp_path / "whole", steps=1, **given)
    batch = {"size": 8, "accumulate": 2}
    parts = fit(data, tmp_path / "parts", steps=1, **{**given, "batch": batch})
    assert_agree(parts, whole)
    gradient = whole.load("last").tensors["optimiser"]
    assert any(name.startswith("warp.") for name in gradient) == (way != "epoch")
    for name in ("removed", "removed_strong", "bent_by"):
        one, two = (run.metrics("train")[0][name] for run in (whole, parts))
        assert one == pytest.approx(two, rel=1e-9, abs=1e-12)


SEVERAL = """
import sys, torch
from labelmend.training.assembly import fit
from tests.system.test_mixed_training import exact
from tests.system.test_warped_training import WAYS

if __name__ == "__main__":
    data, out = sys.argv[1:]
    torch.distributed.init_process_group("gloo")
    for name, chosen in WAYS.items():
        fit(data, f"{out}/{name}", steps=4, **exact(**chosen))
    torch.distributed.destroy_process_group()
"""


def test_two_processes_are_one_in_every_way(data, tmp_path) -> None:
    in_two_processes(SEVERAL, data, tmp_path)
    for name, chosen in WAYS.items():
        one = fit(data, tmp_path / "one" / name, steps=4, **exact(**chosen))
        two = Run.open(tmp_path / "two" / name)
        assert bends(one), name
        for first, second in zip(one.metrics("train"), two.metrics("train"), strict=True):
            assert first.keys() == second.keys(), name
            for key in first.keys() - {"seconds", "kind"}:
                assert second[key] == pytest.approx(first[key], rel=1e-6, abs=1e-9), (name, key)
        tensors = [run.load("last").tensors for run in (one, two)]
        for group in ("main", "warp", "places"):
            for key, value in tensors[0][group].items():
                torch.testing.assert_close(tensors[1][group][key], value, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------- who learns


def test_networks_take_turns(data, tmp_path, small) -> None:
    """What is not somebody's turn leaves its parameters to the bit."""
    chosen = {**small, "align": warp(turns="step", start=2), "keep": 9, "save_every": 1}
    chosen["weighting"] = {**chosen["weighting"], "start": 100}
    run = fit(data, tmp_path / "run", steps=6, **chosen)
    tensors = [run.load(step).tensors for step in run.steps()]
    for step, (before, after) in enumerate(itertools.pairwise(tensors), 1):
        for group, learns in (
            ("main", step < 2 or step % 2 == 0),
            ("warp", step >= 3 and step % 2),
        ):
            same = all(torch.equal(v, after[group][k]) for k, v in before[group].items())
            assert same != bool(learns), (step, group)


def test_before_its_step_no_label_is_bent(data, tmp_path, small) -> None:
    run = fit(data, tmp_path / "run", steps=6, **{**small, "align": warp(start=4)})
    told = ["removed" in record for record in run.metrics("train")]
    assert told == [False] * 4 + [True] * 2
    assert all("moved" in record for record in run.metrics("train"))


# ---------------------------------------------------------------------- what it does


@pytest.fixture(scope="module")
def lumps(tmp_path_factory) -> Path:
    """Lumps that a network learns in no time; weak labels are bent, each in its own way."""
    from ..unit.alignment.warp_scenes import bent_scene

    root = tmp_path_factory.mktemp("lumps")
    scene = bent_scene((40, 40), 28, seed=3, most=2.5)
    rng = np.random.default_rng(1)
    rows = ["image,label,quality,split,group"]
    for number in range(28):
        quality = "strong" if number < 8 else "weak"
        split = "val" if number < 2 else "train"
        truth = scene.truth[number].numpy().astype(np.uint8)
        label = truth if quality == "strong" else scene.label[number].numpy().astype(np.uint8)
        for name, array in (
            (f"images/s{number}.npy", (truth + rng.normal(0, 0.1, truth.shape)).astype("f4")),
            (f"labels/{quality}/s{number}.npy", label),
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(root / name, array)
        rows.append(
            f"images/s{number}.npy,labels/{quality}/s{number}.npy,{quality},{split},g{number}"
        )
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def test_the_command_trains_to_the_end_and_says_when_labels_are_bent(lumps, tmp_path) -> None:
    out = tmp_path / "run"
    small = ["network.width=8", "network.depth=2", "augment.flip=0"]
    small += ["align.warp.after=shift", "align.warp.width=4", "align.warp.depth=2"]
    options = [word for each in small for word in ("--set", each)]
    done = command("train", lumps, "--out", out, "--align", "warp", "--steps", "80", *options)
    assert done.status == 0, done.err
    said = done.out + done.err
    assert "alignment: weak labels move (shift by up to 10 positions, each by itself) from" in said
    assert "from step 20 a second network bends them by up to 5 positions more" in said
    assert said.count("a second network bends them") == 1
    run = Run.open(out)
    assert "warp" in run.load("last").tensors and len(run.places()) == 20
    records = run.metrics("train")[:80]  # then comes the second ending, without weak labels
    assert ["removed" in record for record in records] == [False] * 20 + [True] * 60
    last = {k: np.mean([r[k] for r in records[-20:]]) for k in ("bent", "removed", "bent_by")}
    assert last["bent"] > 0.3 and 0.02 < last["removed"] < 0.9 and 0.02 < last["bent_by"] < 3


def test_when_everything_is_explained_away_it_says_so(data, tmp_path, small, monkeypatch) -> None:
    monkeypatch.setattr("labelmend.training.warping.WINDOW", 2)
    monkeypatch.setattr("labelmend.training.warping.MOST", {"removed": -9.0})
    watcher = Sayings()
    fit(data, tmp_path / "run", steps=5, watcher=watcher, **{**small, "align": warp()})
    told = [text for text in watcher.said if "explains everything away" in text]
    assert len(told) == 1 and "by step 3 it removes" in told[0]


def test_without_weak_labels_there_is_no_such_network(make_data, tmp_path, small) -> None:
    data = make_data(tmp_path / "data", weak=0)
    run = fit(data, tmp_path / "run", steps=2, **{**small, "align": warp()})
    assert "warp" not in run.load("last").tensors


def test_continuous_labels_are_bent_too(trained, tmp_path, small) -> None:
    data = trained("continuous").data
    run = fit(data, tmp_path / "run", steps=3, **{**small, "loss": "l2", "align": warp()})
    assert bends(run) and "warp" in run.load("last").tensors


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("align", "says"),
    [
        ({"per": "set"}, "align.per = 'set'"),
        ({"per": "annotator"}, "align.per = 'annotator'"),
        ({"window": 400}, "take at most"),
        ({"score": "normalized"}, "normalised"),
        ({"warp": {"after": "shifts"}}, "shift"),
        ({"warp": {"turns": "both"}}, "together"),
        ({"warp": {"moves": "images"}}, "prediction"),
        ({"warp": {"reach": 0.0}}, "reach"),
        ({"warp": {"grid": 0}}, "grid"),
        ({"warp": {"depth": 9}}, "depth"),
        ({"warp": {"smoth": 1.0}}, "smooth"),
    ],
)
def test_what_makes_no_sense_is_refused(data, tmp_path, small, align, says) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        fit(data, tmp_path / "run", steps=2, **{**small, "align": {"transform": "warp", **align}})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_score_of_classes_is_refused_for_values_in_one_line(trained, tmp_path) -> None:
    data = trained("continuous").data
    options = ["--align", "warp", "--set", "loss=l2", "--set", "align.score=dice", "--steps", "2"]
    done = command("train", data, "--out", tmp_path / "run", *options)
    assert done.status == 1 and "Traceback" not in done.err
    assert "align.score = 'dice' compares classes, and these labels are continuous" in done.err
    lines = [line for line in done.err.splitlines() if "align.score" in line]
    assert len(lines) == 1 and not (tmp_path / "run").exists()


def test_a_wrong_granularity_is_refused_on_the_command_line(data, tmp_path) -> None:
    options = ["--align", "warp", "--set", "align.per=group", "--steps", "2"]
    done = command("train", data, "--out", tmp_path / "run", *options)
    assert done.status == 1 and "align.per = 'group'" in done.err and "Traceback" not in done.err
