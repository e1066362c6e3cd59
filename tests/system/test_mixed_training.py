"""Mixed images and two models: resumed to the bit, alike in parts and processes, and served."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labelmend.config import preset
from labelmend.errors import SettingsError
from labelmend.inference.predictor import load
from labelmend.progress import Silent
from labelmend.runs import Run
from labelmend.training.assembly import fit, resume

from ..command import command
from .test_processes import EXACT, assert_agree, first_step
from .test_resume import STEPS, KillAt, assert_same, remembered

MIX = {"mixing": {"use": True}}
DUAL = {**MIX, "dual": {"use": True, "both": False}}
ALL = {
    "mixing": {"use": True, "average": 0.9, "ramp": 0.5, "gate": 0.6, "weigh": "position"},
    "dual": {"use": True, "both": False, "judges": "both"},
}
WAYS = {
    "mix": MIX,
    "dual": DUAL,
    "both": {**MIX, "dual": {"use": True, "judges": "both"}},
    "average": {"mixing": {"use": True, "average": 0.9, "hard": False}, "dual": {"use": True}},
    "by weight": {**preset("seed_a"), "weighting": {**EXACT["weighting"], "use": "both"}},
    "strong first": {"mixing": {"use": True, "pairs": "strong_first", "weigh": "position"}},
    "class": {**DUAL, "weighting": {**EXACT["weighting"], "per": "class"}},
}


class Sayings(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_averages_teach_in_the_place_of_networks(data, tmp_path, small) -> None:
    ends = []
    for name, keep in (("alone", 0.0), ("taught", 0.9)):
        mixing = {"use": True, "hard": False, "ramp": 0.0, "average": keep}
        run = fit(data, tmp_path / name, steps=3, **{**small, **DUAL, "mixing": mixing})
        ends.append(run.load().tensors["main"])
    assert any(not torch.equal(value, ends[1][name]) for name, value in ends[0].items())


# ---------------------------------------------------------------------- resume


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory, small_settings):
    out = tmp_path_factory.mktemp("mixed") / "whole"
    fit(data, out, steps=STEPS, **{**small_settings, **ALL})
    found = remembered(out)
    groups = {"main", "auxiliary", "main_average", "auxiliary_average", "optimiser", "weights"}
    assert groups <= found["tensors"].keys()
    return found


@pytest.mark.parametrize(("kills", "workers"), [([2, 5, 7], 0), ([4, 9], 1)])
def test_a_killed_training_ends_with_the_same_bits(
    data, tmp_path, small, in_child, uninterrupted, kills, workers
) -> None:
    out, chosen = tmp_path / "run", {**small, **ALL, "input": {"workers": workers}}
    for number, at in enumerate(kills):

        def work(number=number, at=at):
            if number:
                resume(out, watcher=KillAt(at))
            else:
                fit(data, out, steps=STEPS, watcher=KillAt(at), **{**chosen, "save_every": 1})

        assert in_child(work) == 128 + signal.SIGKILL
    resume(out)
    found = remembered(out)
    assert_same(found, uninterrupted)


# ---------------------------------------------------------------------- parts and processes


def exact(**chosen) -> dict:
    return {**EXACT, **chosen}


@pytest.mark.parametrize("way", ["mix", "dual", "both"])
def test_accumulating_parts_is_one_batch(data, tmp_path, way) -> None:
    whole = fit(data, tmp_path / "whole", steps=1, **exact(**WAYS[way]))
    batch = {"size": 8, "accumulate": 2}
    parts = fit(data, tmp_path / "parts", steps=1, **exact(**WAYS[way], batch=batch))
    assert_agree(parts, whole)
    _, gradient, _ = first_step(whole)
    assert any(name.startswith("auxiliary.") for name in gradient) == (way != "mix")


SEVERAL = """
import sys, torch
from labelmend.training.assembly import fit
from tests.system.test_mixed_training import WAYS, exact

if __name__ == "__main__":
    data, out = sys.argv[1:]
    torch.distributed.init_process_group("gloo")
    for name, chosen in WAYS.items():
        fit(data, f"{out}/{name}", steps=3, **exact(**chosen))
    torch.distributed.destroy_process_group()
"""


def test_two_processes_are_one_in_every_way(data, tmp_path) -> None:
    in_two_processes(SEVERAL, data, tmp_path)
    for name, chosen in WAYS.items():
        one = fit(data, tmp_path / "one" / name, steps=3, **exact(**chosen))
        two = Run.open(tmp_path / "two" / name)
        assert len(one.metrics("train")) == len(two.metrics("train")) == 3
        for first, second in zip(one.metrics("train"), two.metrics("train"), strict=True):
            assert first.keys() == second.keys(), name
            for key in first.keys() - {"seconds", "kind"}:
                assert second[key] == pytest.approx(first[key], rel=1e-6, abs=1e-9), (name, key)
        weights = [run.load("last").tensors["weights"]["weight"] for run in (one, two)]
        torch.testing.assert_close(*weights, rtol=0, atol=1e-6)


def in_two_processes(source: str, data: Path, folder: Path) -> None:
    """Run a script that is given the data set and ``folder/two``."""
    script = folder / "several.py"
    script.write_text(source)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, str(script), str(data), str(folder / "two")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr


def environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}


# ---------------------------------------------------------------------- what comes out


def test_the_main_model_is_served_and_the_others_by_choice(data, tmp_path, small) -> None:
    out = tmp_path / "run"
    fit(data, out, steps=4, **{**small, **DUAL})
    main, other, both = (load(out, model=m) for m in ("main", "auxiliary", "ensemble"))
    saved = Run.open(out).load("last").tensors
    for predictor, group in ((main, "main"), (other, "auxiliary")):
        for name, value in predictor.network.state_dict().items():
            assert torch.equal(value, saved[group][name])
    assert not torch.equal(saved["main"][name], saved["auxiliary"][name])
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        mean = (main.network(image).softmax(1) + other.network(image).softmax(1)) / 2
        torch.testing.assert_close(both.network(image).softmax(1), mean)


def test_the_trainer_says_when_the_second_model_is_idle(data, tmp_path, small, monkeypatch) -> None:
    from labelmend.training.assembly import mixing

    # Two models that begin alike and are taught alike stay alike.
    monkeypatch.setattr(mixing, "derived", lambda seed, purpose: seed)
    monkeypatch.setattr("labelmend.training.idle.WINDOW", 2)
    watcher = Sayings()
    small["network"]["dropout"] = 0.0
    dual = {"use": True}
    fit(data, tmp_path / "run", steps=12, watcher=watcher, **{**small, **MIX, "dual": dual})
    assert sum("second model is idle" in text for text in watcher.said) == 1
    run = Run.open(tmp_path / "run")
    assert {record.get("disagreement") for record in run.metrics("train")} == {0.0}


def test_two_models_are_told_apart(data, tmp_path, small) -> None:
    watcher = Sayings()
    run = fit(data, tmp_path / "run", steps=6, watcher=watcher, **{**small, **DUAL})
    assert any("two networks unet" in text for text in watcher.said)
    assert run.metrics("train")[0]["disagreement"] > 0


def test_the_command_line_knows_them(data, tmp_path) -> None:
    out = tmp_path / "run"
    common = ["--set", "network.width=4", "--set", "network.depth=2", "--steps", "3"]
    done = command("train", data, "--out", out, "--dual", *common)
    assert done.status == 0, done.err
    assert "two networks unet" in done.out + done.err
    settings = Run.open(out).settings
    assert settings.mixing.use
    assert settings.dual.use
    for model in ("main", "auxiliary", "ensemble"):
        assert command("evaluate", out, "--model", model).status == 0


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"dual": {"use": True}}, "set mixing.use = true"),
        ({**DUAL, "mixing": {"use": True, "target": "labels"}}, "teach each other by predictions"),
        ({"mixing": {"use": True, "target": "labels", "gate": 0.5}}, "mixing.gate is of pseudo"),
        ({**MIX, "batch": {"size": 3}}, "an even number from 4"),
        ({**MIX, "batch": {"size": 2}}, "an even number from 4"),
        (
            {"mixing": {"use": True, "pairs": "strong_first"}, "batch": {"strong_share": 1.0}},
            "wants strong and weak samples",
        ),
        ({**MIX, "batch": {"size": 4, "accumulate": 4}}, "two for every pair"),
        ({"loss": "focal", "mixing": {"use": True, "hard": False}}, "focal"),
        ({**MIX, "align": {"transform": "rigid"}}, "only shifts .* take --align shift or mixing"),
        ({**MIX, "align": {"transform": "warp"}}, "align.transform = 'warp'"),
    ],
)
def test_what_cannot_be_is_refused_before_training(data, tmp_path, small, chosen, says) -> None:
    with pytest.raises(SettingsError, match=says):
        fit(data, tmp_path / "run", steps=2, **{**small, **chosen})
    assert not (tmp_path / "run").exists()
