"""N6, T4, T8: parts and processes change neither the loss nor gradients nor weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from labelmend.runs import Run
from labelmend.training.assembly import fit

EXACT = {
    "network": {"width": 4, "depth": 2},
    "weighting": {"start": 1, "every": 1, "strong_samples": 4, "overhead": 10},
    "batch": {"size": 8},
    "augment": {"noise": 0.05},
    "precision": "64-true",
    "optimiser": {"warmup": 0},
    "validate_every": 2,
}


def settings_file(folder: Path, **over) -> Path:
    import tomli_w

    path = folder / "settings.toml"
    path.write_text(tomli_w.dumps({**EXACT, **over}))
    return path


def first_step(run: Run) -> tuple[dict, dict, torch.Tensor]:
    """The first record, the gradient (from the optimiser's memory of it), the first weights."""
    checkpoint = run.load("last")
    assert checkpoint.step == 1
    gradient = {
        name: tensor / 0.1
        for name, tensor in checkpoint.tensors["optimiser"].items()
        if name.endswith("exp_avg")
    }
    return run.metrics("train")[0], gradient, checkpoint.tensors["weights"]["weight"]


def assert_agree(one: Run, other: Run) -> None:
    (record, gradient, weight), (record_, gradient_, weight_) = first_step(one), first_step(other)
    for name in ("loss", "loss_strong", "loss_weak", "gradient_norm"):
        assert record[name] == pytest.approx(record_[name], rel=1e-12), name
    largest = max(float(g.abs().max()) for g in gradient.values())
    for name, value in gradient.items():
        torch.testing.assert_close(value, gradient_[name], rtol=0, atol=1e-12 * largest)
    torch.testing.assert_close(weight, weight_, rtol=0, atol=1e-9)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory) -> Run:
    return fit(data, tmp_path_factory.mktemp("n6") / "whole", steps=1, **EXACT)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulating_parts_is_one_batch(data, tmp_path, whole, parts) -> None:
    batch = {"size": 8, "accumulate": parts}
    run = fit(data, tmp_path / "run", steps=1, **{**EXACT, "batch": batch})
    assert_agree(run, whole)


def launch(processes: int, arguments: list[str], **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={processes}", "-m", "labelmend", *arguments]
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", **environment}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given
    ) as process:
        try:
            out, err = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            # Whoever hangs says where: the launcher's children first, which it starts as leaders.
            subprocess.run(["pkill", "-ABRT", "-P", str(process.pid)], check=False)
            time.sleep(2)
            process.send_signal(signal.SIGABRT)
            out, err = process.communicate()
            pytest.fail(f"did not end within 240 s\n{out}\n{err}")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_two_processes_are_one(data, tmp_path, whole) -> None:
    out = tmp_path / "run"
    settings = settings_file(tmp_path)
    arguments = ["train", str(data), "--out", str(out), "--steps", "1", "--config", str(settings)]
    done = launch(2, arguments)
    assert done.returncode == 0, done.stderr
    assert_agree(Run.open(out), whole)
    assert done.stdout.count("trained:") == 1


def test_two_processes_train_validate_and_resume_as_one(data, tmp_path) -> None:
    settings = settings_file(tmp_path)
    common = ["--config", str(settings), "--set", "keep=9"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    from labelmend.cli import run as command

    assert command(["train", str(data), "--out", str(alone), "--steps", "4", *common]) == 0
    done = launch(2, ["train", str(data), "--out", str(together), "--steps", "4", *common])
    assert done.returncode == 0, done.stderr
    one, two = Run.open(alone), Run.open(together)
    assert one.steps() == two.steps() == [2, 4, 5]  # the last one is of the second ending
    for first, second in zip(one.metrics(), two.metrics(), strict=True):
        assert first["kind"] == second["kind"]
        for name, value in first.items():
            if isinstance(value, float) and name != "seconds":
                assert second[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    # One process goes on where two stopped.
    import shutil

    shutil.rmtree(together / "checkpoints/step-00000005")
    assert command(["train", "--resume", str(together)]) == 0
    weight = one.load("last").tensors["weights"]["weight"]
    torch.testing.assert_close(
        Run.open(together).load("last").tensors["weights"]["weight"], weight, rtol=0, atol=1e-6
    )


WAYS = {
    "class": {"per": "class", "update": "adam"},
    "sampler": {"use": "sampler", "update": "centred", "rate": 0.5},
    "central": {"mode": "central", "parameters": "all", "average": 0.5, "iterations": 2},
    "gauss_newton": {"curvature": "gauss_newton", "parameters": "last", "per": "group"},
    "alike": {"signal": "alike"},
    "fit": {"signal": "fit", "weak_samples": 3},
}

SEVERAL = """
import sys, torch
from labelmend.training.assembly import fit
from tests.system.test_processes import EXACT, WAYS

if __name__ == "__main__":
    data, out = sys.argv[1:]
    torch.distributed.init_process_group("gloo")
    for name, chosen in WAYS.items():
        weighting = {**EXACT["weighting"], **chosen}
        fit(data, f"{out}/{name}", steps=3, **{**EXACT, "weighting": weighting})
    torch.distributed.destroy_process_group()
"""


def launch_script(path: Path, text: str, *arguments: object) -> subprocess.CompletedProcess:
    path.write_text(text)
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(path), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=environment
    )


def test_every_way_to_weigh_is_the_same_in_two_processes(data, tmp_path) -> None:
    done = launch_script(tmp_path / "several.py", SEVERAL, data, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    for name, chosen in WAYS.items():
        weighting = {**EXACT["weighting"], **chosen}
        alone = fit(data, tmp_path / name, steps=3, **{**EXACT, "weighting": weighting})
        together = Run.open(tmp_path / "two" / name)
        one, two = alone.load("last"), together.load("last")
        assert one.tensors["weights"]["rounds"] == 3
        learned = one.tensors["weights"]["weight"][one.tensors["weights"]["updated"] > 0]
        assert (learned != 0.5).all()
        for group in ("weights", "weighing"):
            assert one.tensors.get(group, {}).keys() == two.tensors.get(group, {}).keys()
            for key, value in one.tensors.get(group, {}).items():
                other = two.tensors[group][key]
                assert torch.allclose(value, other, rtol=1e-6, atol=1e-7, equal_nan=True), key
        for first, second in zip(alone.metrics(), together.metrics(), strict=True):
            assert first.keys() == second.keys()
            assert first.get("note") == second.get("note")
            for key in first.keys() - {"seconds", "note", "kind"}:
                assert second[key] == pytest.approx(first[key], rel=1e-6, abs=1e-9), (name, key)


def test_what_goes_wrong_in_one_process_ends_both_with_the_same_words(make_data, tmp_path) -> None:
    data = make_data(tmp_path / "data")
    (data / "labels/weak/s7.npy").write_bytes(b"no label")
    done = launch(2, ["train", str(data), "--out", str(tmp_path / "run"), "--steps", "2"])
    assert done.returncode != 0
    assert "s7.npy" in done.stderr
    assert not (tmp_path / "run").exists()


BROKEN = """
import errno, gc, os, sys
from pathlib import Path
import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from labelmend.errors import LabelmendError
from labelmend.progress import Silent
from labelmend.runs.disk import Disk
from labelmend.training.assembly import fit
from tests.system.test_processes import EXACT

data, out, what, rank = *map(Path, sys.argv[1:3]), sys.argv[3], os.environ["RANK"]


class Spoiling(Silent):
    \"\"\"After the first step, the second process's held-out label is another one.\"\"\"

    def step(self, step, figures):
        if what == "another label":
            np.save(data / "labels/strong/s15.npy", np.ones((32, 32), np.uint8))


def refusing(file, content, write=Disk.write):
    if what.encode() in bytes(content):
        raise OSError(errno.ENOSPC, "No space left on device")
    return write(file, content)


def parting(part=torch.distributed.destroy_process_group):
    # Were they the last to hold the connections, closing these could wait for ever.
    if any(isinstance(thing, DistributedDataParallel) for thing in gc.get_objects()):
        (out / "networks are alive").touch()
    part()


if __name__ == "__main__":
    torch.distributed.destroy_process_group = parting
    if rank == "0":
        Disk.write = staticmethod(refusing)
    try:
        fit(data, out / "run", steps=4, watcher=Spoiling(), **EXACT)
    except LabelmendError as error:
        (out / rank).write_text(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize(
    ("what", "process", "said"),
    [
        ("another label", 1, "ChangedDataError: {}"),
        ('"kind": "train"', 0, "StorageError: {}metrics.jsonl could not be kept"),
        ('"columns"', 0, "StorageError: {}weights.jsonl could not be kept"),
    ],
)
def test_what_one_process_alone_does_ends_both_where_it_fails(
    make_data, tmp_path, what, process, said
) -> None:
    data = make_data(tmp_path / "data")
    done = launch_script(tmp_path / "broken.py", BROKEN, data, tmp_path, what)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "networks are alive").exists()
    for rank in (0, 1):
        told = (tmp_path / str(rank)).read_text()
        assert told.startswith(said.format("" if rank == process else f"process {process}: "))
    if what == "another label":
        assert "labels/strong/s15.npy" in told


FAULTY = """
import os, signal, torch
from torch import nn

class Net(nn.Module):
    def __init__(self, dims, in_channels, out_channels, fault, rank):
        super().__init__()
        self.layer = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.calls, self.fault, self.mine = 0, fault, os.environ["RANK"] == str(rank)

    def forward(self, x):
        self.calls += self.training
        y = self.layer(x)
        if self.mine and self.training and self.calls == 3:
            if self.fault == "nan":
                return y * float("nan")
            os.kill(os.getpid(), signal.SIGTERM)
        return y
"""


def launch_faulty(data: Path, folder: Path, fault: str, rank: int) -> subprocess.CompletedProcess:
    (folder / "faulty_net.py").write_text(FAULTY)
    network = {"name": "faulty_net:Net", "arguments": {"fault": fault, "rank": rank}}
    settings = settings_file(folder, network=network)
    arguments = ["train", str(data), "--out", str(folder / "run"), "--steps", "9"]
    return launch(2, [*arguments, "--config", str(settings)], PYTHONPATH=str(folder))


def test_a_bad_number_in_one_process_stops_both_and_names_the_sample(data, tmp_path) -> None:
    done = launch_faulty(data, tmp_path, "nan", rank=1)
    assert done.returncode != 0
    # The launcher ends the second process once the first has gone, at times before it has spoken.
    told = done.stderr.count("the loss is NaN or infinite at step 3; samples: labels/")
    assert 1 <= told <= 2, done.stderr
    steps = [record["step"] for record in Run.open(tmp_path / "run").metrics("train")]
    assert steps == [1, 2]


def test_a_signal_to_one_process_stops_both_with_everything_saved(data, tmp_path) -> None:
    done = launch_faulty(data, tmp_path, "signal", rank=1)
    assert done.returncode != 0
    assert 1 <= done.stderr.count("labelmend: stopped by SIGTERM after step 3") <= 2, done.stderr
    assert Run.open(tmp_path / "run").load("last").step == 3
