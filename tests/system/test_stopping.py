"""T7, T8: a training ends cleanly when asked, and at once on a number that is none."""

from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import pytest
import torch

from labelmend.cli import run as command
from labelmend.errors import NonFiniteError, Stopped
from labelmend.progress import Silent
from labelmend.runs import Run
from labelmend.training import judge, learned, trainer, validation
from labelmend.training.assembly import fit, resume, weighing

from .test_resume import assert_same, remembered

STEPS = 12


class SignalAt(Silent):
    """A watcher that sends this process a signal after a step."""

    def __init__(self, at: int, *numbers: int) -> None:
        self.at, self.numbers = at, numbers

    def step(self, step, figures):
        if step == self.at and "loss" in figures:
            for number in self.numbers:
                os.kill(os.getpid(), number)


def sending(function, number=signal.SIGTERM, after: int = 2):
    """The function, which sends this process a signal the ``after``-th time it is called."""
    calls = []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == after:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    return wrapped


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory, small_settings):
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(data, out, steps=STEPS, **small_settings)
    return remembered(out)


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (judge, "exact_or_slow", 1),
        (judge, "exact_or_slow", 3),
        (validation, "judge", 3),
        (learned, "pack_optimiser", 2),
        (trainer, "scales", 8),
    ],
    ids=["first weight step", "second weight step", "validation", "saving", "a step"],
)
def test_a_signal_in_the_middle_of_anything_loses_nothing(
    data, tmp_path, small, monkeypatch, uninterrupted, owner, name, after
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, sending(getattr(owner, name), after=after))
        with pytest.raises(Stopped) as stop:
            fit(data, out, steps=STEPS, **small)
    assert stop.value.exit_status == 143
    logged = max(r["step"] for r in Run.open(out).metrics("train"))
    assert Run.open(out).load("last").step == logged
    resume(out)
    assert_same(remembered(out), uninterrupted)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_ends_with_the_signals_status(
    data, tmp_path, small, in_child, monkeypatch, capfd, number, status
) -> None:
    monkeypatch.setattr("labelmend.cli.training.make_watcher", lambda *a, **k: SignalAt(5, number))
    arguments = ["train", str(data), "--out", str(tmp_path / "run"), "--steps", "12"]
    arguments += ["--set", "network.width=4", "--set", "network.depth=2"]
    assert in_child(lambda: command(arguments)) == status
    told = capfd.readouterr().err.strip().splitlines()[-1]
    assert "after step 5" in told
    assert "--resume" in told
    assert Run.open(tmp_path / "run").load("last").step == 5


def test_a_second_signal_ends_at_once(data, tmp_path, small, in_child) -> None:
    def work():
        fit(data, tmp_path / "run", steps=STEPS, watcher=SignalAt(5, 15, 15), **small)

    assert in_child(work) == 143
    assert Run.open(tmp_path / "run").load("last").step < 5


def _poison(value: float, kind: str):
    make = weighing.make_loss

    def poisoned(*args, **options):
        loss = make(*args, **options)

        def of(logits, label, valid):
            losses = loss(logits, label, valid)
            if kind == "loss":
                return torch.where(torch.arange(len(losses)) == 1, losses * value, losses)
            # The value stays finite and only its derivative does not.
            return losses + 0 * torch.sqrt((logits.flatten(1)[:, 0] * 0).abs())

        return of

    return poisoned


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_loss_stops_within_a_step_and_names_the_sample(
    data, tmp_path, small, monkeypatch, value
) -> None:
    monkeypatch.setattr(weighing, "make_loss", _poison(value, "loss"))
    with pytest.raises(NonFiniteError, match=r"the loss is NaN .* step 1; samples: labels/\S+;"):
        fit(data, tmp_path / "run", steps=STEPS, **small)
    assert Run.open(tmp_path / "run").metrics() == []


def test_a_bad_gradient_stops_before_it_reaches_a_parameter(
    data, tmp_path, small, monkeypatch
) -> None:
    monkeypatch.setattr(weighing, "make_loss", _poison(0, "gradient"))
    with pytest.raises(NonFiniteError, match="the gradient is NaN"):
        fit(data, tmp_path / "run", steps=STEPS, **small)
    assert Run.open(tmp_path / "run").metrics() == []


def test_a_bad_prediction_in_validation_is_named_and_not_saved(data, tmp_path, small) -> None:
    small["weighting"] = {"method": "constant"}
    far = {"learning_rate": 1e30, "warmup": 0}  # one step, whose own loss is still a number
    with pytest.raises(NonFiniteError, match=r"held-out sample: labels/strong/\S+; lower"):
        fit(data, tmp_path / "run", steps=1, optimiser=far, **small)
    run = Run.open(tmp_path / "run")
    assert [record["kind"] for record in run.metrics()] == ["train"]
    assert run.steps() == []


def test_a_bad_similarity_changes_no_weight(data, tmp_path, small, monkeypatch) -> None:
    exact = judge.exact_or_slow

    def poisoned(*args):
        found = exact(*args)
        return dataclasses.replace(found, similarity=found.similarity * float("nan"))

    monkeypatch.setattr(judge, "exact_or_slow", poisoned)
    with pytest.raises(NonFiniteError, match=r"weight step at step 2 .* samples: labels/weak"):
        fit(data, tmp_path / "run", steps=STEPS, **small)


def test_a_bad_input_is_refused_before_training(make_data, tmp_path, small) -> None:
    data = make_data(tmp_path / "data")
    image = np.load(data / "images/s1.npy")
    image[3, 3] = np.nan
    np.save(data / "images/s1.npy", image)
    with pytest.raises(ValueError, match=r"s1\.npy"):
        fit(data, tmp_path / "run", steps=STEPS, **small)
    assert not (tmp_path / "run").exists()
