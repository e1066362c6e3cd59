"""What all tests share: a small data set, forked processes, the same cases everywhere."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from . import made_data
from .command import Outcome, command

# A busy machine draws slowly; that says nothing of the code.
settings.register_profile(
    "commit", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "soak", settings.get_profile("commit"), derandomize=False, max_examples=10_000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "commit"))

# Forked children hang in a pool of threads that only their parent has.
torch.set_num_threads(1)

SIZE = 32


def write_data(
    root: Path, strong: int = 6, weak: int = 8, held_out: int = 2, seed: int = 0
) -> Path:
    """Bright squares in noise; every fourth weak label lies elsewhere."""
    rng = np.random.default_rng(seed)
    rows = ["image,label,quality,split,group"]
    for folder in ("images", "labels/strong", "labels/weak"):
        (root / folder).mkdir(parents=True)
    for number in range(strong + weak + held_out):
        label = np.zeros((SIZE, SIZE), np.uint8)
        row, column = rng.integers(2, SIZE - 12, 2)
        label[row : row + 10, column : column + 10] = 1
        image = label + rng.normal(0, 0.4, label.shape)
        quality = "weak" if strong <= number < strong + weak else "strong"
        split = "val" if number >= strong + weak else "train"
        if quality == "weak" and number % 4 == 0:
            label = np.roll(label, SIZE // 2, 0)
        np.save(root / f"images/s{number}.npy", image.astype(np.float32))
        np.save(root / f"labels/{quality}/s{number}.npy", label)
        rows.append(
            f"images/s{number}.npy,labels/{quality}/s{number}.npy,{quality},{split},g{number}"
        )
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


SMALL = {
    "network": {"width": 4, "depth": 2, "dropout": 0.1},
    "weighting": {"start": 2, "every": 2, "strong_samples": 4, "overhead": 10},
    "batch": {"size": 4, "ending": "as_is"},
    "validate_every": 4,
    "save_every": 3,
}
"""Settings for a training that takes a second and has every part in it."""


@pytest.fixture(scope="session")
def small_settings() -> dict:
    """:data:`SMALL`, not to be changed."""
    return SMALL


@pytest.fixture
def small() -> dict:
    """:data:`SMALL`, to be changed at will."""
    return copy.deepcopy(SMALL)


@pytest.fixture
def make_data() -> Callable[..., Path]:
    """Writes a small data set."""
    return write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set that nobody changes."""
    return write_data(tmp_path_factory.mktemp("data") / "squares")


@dataclass(frozen=True)
class Trained:
    """A tiny data set of one kind, a run of three steps on it, and what the training printed."""

    data: Path
    run: Path
    said: Outcome


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Trains on a kind of :mod:`made_data` when first asked; nobody changes what it returns."""

    @cache
    def train(kind: str) -> Trained:
        folder = tmp_path_factory.mktemp(kind)
        data = made_data.KINDS[kind](folder / "data")
        options = ["--steps", "3", *made_data.settings_of(kind)]
        said = command("train", data, "--out", folder / "run", *options)
        return Trained(data, folder / "run", said)

    return train


def in_child(work: Callable[[], int | None], timeout: float = 120) -> int:
    """Run a function in a forked process; its result, or 128 + the signal that ended it."""
    process = multiprocessing.get_context("fork").Process(target=_end_with, args=(work,))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"the child did not end within {timeout} s")
    code = process.exitcode
    return code if code >= 0 else 128 - code


def _end_with(work: Callable[[], int | None]) -> None:
    # The parent's handlers and captured output are none of the child's business.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # The helpers of multiprocessing that the parent started are not this process's children.
    forkserver._forkserver.__init__()
    resource_tracker._resource_tracker.__init__()
    try:
        status = work() or 0
    except BaseException as error:
        print(f"child: {type(error).__name__}: {error}", flush=True)
        status = 99
    os._exit(status)


@pytest.fixture(name="in_child")
def _in_child() -> Callable[..., int]:
    """Runs a function in a forked process and returns its exit status."""
    return in_child
