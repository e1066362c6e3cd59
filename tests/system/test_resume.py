"""T1, T3: a training that was killed goes on as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from labelmend.errors import ChangedDataError, DamagedError, RunError
from labelmend.progress import Silent
from labelmend.runs import Run
from labelmend.training.assembly import fit, resume

STEPS = 12


class KillAt(Silent):
    """A watcher that ends the process without warning after a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step, figures):
        if step == self.at and "loss" in figures:
            os.kill(os.getpid(), signal.SIGKILL)


def remembered(path: Path) -> dict:
    """Everything a finished training is: parameters, optimiser, weights, records without times."""
    run = Run.open(path)
    checkpoint = run.load("last")
    return {
        "step": checkpoint.step,
        "state": checkpoint.state,
        "tensors": checkpoint.tensors,
        "metrics": [{k: v for k, v in r.items() if k != "seconds"} for r in run.metrics()],
        "history": run.weight_history(),
        "weights": run.weights(),
    }


def assert_same(one: dict, other: dict) -> None:
    assert one["step"] == other["step"]
    assert one["state"] == other["state"]
    assert one["metrics"] == other["metrics"]
    assert one["history"] == other["history"]
    assert one["weights"] == other["weights"]
    assert one["tensors"].keys() == other["tensors"].keys()
    for group, tensors in one["tensors"].items():
        assert tensors.keys() == other["tensors"][group].keys()
        for name, tensor in tensors.items():
            # NaN marks what no weight step has looked at yet; it must be the same NaN.
            same = torch.equal(tensor.nan_to_num(-7), other["tensors"][group][name].nan_to_num(-7))
            assert same, f"{group}/{name} differs"


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory, small_settings):
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(data, out, steps=STEPS, **small_settings)
    found = remembered(out)
    assert any(r["kind"] == "weights" for r in found["metrics"])
    assert found["history"]
    assert {"main", "optimiser", "weights"} <= found["tensors"].keys()
    return found


@pytest.mark.parametrize(
    ("kills", "workers"),
    [([1, 5], 0), ([4, 7, 11], 0), ([3, 6, 9, 12], 0), ([5], 1)]
    + [
        pytest.param([at], workers, marks=pytest.mark.soak)
        for at in range(1, 13)
        for workers in (1, 4)
    ],
)
def test_a_killed_training_ends_with_the_same_bits(
    data, tmp_path, small, in_child, uninterrupted, kills, workers
) -> None:
    out = tmp_path / "run"
    inputs = {"workers": workers}
    first = True
    for at in kills:

        def work(first=first, at=at):
            if first:
                fit(data, out, steps=STEPS, watcher=KillAt(at), input=inputs, **small)
            else:
                resume(out, watcher=KillAt(at))

        assert in_child(work) == 128 + signal.SIGKILL
        # Before the first checkpoint there is nothing to go on from, and it says so.
        if not Run.open(out).steps():
            with pytest.raises(RunError, match="checkpoint"):
                resume(out)
            in_child(lambda: shutil.rmtree(out))
        first = not out.exists()
    resume(out)
    assert_same(remembered(out), uninterrupted)


def test_kills_at_any_moment_leave_a_run_that_goes_on(
    data, tmp_path, small, in_child, uninterrupted
) -> None:
    out = tmp_path / "run"
    moments = random.Random(3)
    small["save_every"] = 1

    def work():
        os.setpgid(0, 0)
        try:
            begun = bool(Run.open(out).steps())
        except RunError:
            begun = False  # nothing yet, or killed while clearing away what had no checkpoint
        if begun:
            resume(out)
        else:
            shutil.rmtree(out, ignore_errors=True)
            fit(data, out, steps=STEPS, **small)

    import multiprocessing

    killed = 0
    for _ in range(12):
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join(moments.uniform(0.02, 0.6))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
    assert killed > 0
    work_status = in_child(work)
    assert work_status == 0
    found = remembered(out)
    for part in ("metrics", "history", "weights"):
        assert found[part] == uninterrupted[part]
    strays = [p for p in out.rglob("*") if "tmp" in p.name or p.name.startswith(".step")]
    assert strays == []


def test_resuming_a_finished_run_changes_nothing(data, tmp_path, small) -> None:
    out = tmp_path / "run"
    fit(data, out, steps=4, **small)
    before = remembered(out)
    resume(out)
    assert_same(remembered(out), before)


def test_a_training_goes_on_from_the_last_checkpoint_and_not_the_best(
    data, tmp_path, small
) -> None:
    class Begun(Silent):
        def start(self, total, done):
            self.at = done

    run, begun = (
        fit(data, tmp_path / "run", steps=4, **{**small, "save_every": 1, "keep": 3}),
        Begun(),
    )
    run.rewind(3)
    run.save(run.load(3), keep=3, best_step=2)
    assert run.steps() == [2, 3]
    resume(run.path, watcher=begun)
    assert begun.at == 3 and run.load().step == 4


def test_a_changed_label_stops_resuming(make_data, tmp_path, small) -> None:
    data = make_data(tmp_path / "data")
    fit(data, tmp_path / "run", steps=3, **small)
    label = data / "labels/weak/s7.npy"
    about = label.stat()
    content = bytearray(label.read_bytes())
    content[-1] ^= 1
    label.write_bytes(content)
    os.utime(label, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert label.stat().st_size == about.st_size
    with pytest.raises(ChangedDataError, match=r"s7\.npy"):
        resume(tmp_path / "run")


def test_a_label_changed_while_training_stops_it(make_data, tmp_path, small) -> None:
    data = make_data(tmp_path / "data")

    class Change(Silent):
        def step(self, step, figures):
            if step == 2:
                for label in (data / "labels/weak").glob("*.npy"):
                    content = bytearray(label.read_bytes())
                    content[-1] ^= 1
                    label.write_bytes(content)

    with pytest.raises(ChangedDataError, match=r"labels/weak/s\d+\.npy"):
        fit(data, tmp_path / "run", steps=9, watcher=Change(), **small)


def test_a_run_without_a_whole_checkpoint_never_begins_afresh(data, tmp_path, small) -> None:
    out = tmp_path / "run"
    fit(data, out, steps=3, **small)
    for place in (out / "checkpoints").glob("*/main.safetensors"):
        content = bytearray(place.read_bytes())
        content[-1] ^= 1
        place.write_bytes(content)
    with pytest.raises(DamagedError, match=r"main\.safetensors"):
        resume(out)


def test_two_trainings_cannot_write_one_run(data, tmp_path, small) -> None:
    out = tmp_path / "run"
    run = fit(data, out, steps=3, **small)
    begun = time.monotonic()
    with run.claim(), pytest.raises(RunError, match="in use"):
        resume(out)
    assert time.monotonic() - begun < 60
