"""A training that ends both ways keeps the better one, and loses nothing when it is stopped."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from labelmend.cli.training import _trained
from labelmend.errors import Stopped, WorkerError
from labelmend.progress import Silent
from labelmend.report.gather import gather
from labelmend.report.page import write_report
from labelmend.report.story import Endings
from labelmend.runs import Run
from labelmend.training import endings, trainer
from labelmend.training.assembly import fit, resume
from labelmend.training.validation import Validator
from labelmend.verdict import give_verdict

from .test_resume import KillAt, assert_same, remembered

STEPS, EACH = 9, 3
ALL = STEPS + EACH
TWO = {"ending": "better", "ending_share": 0.34}


@pytest.fixture
def twice(small) -> dict:
    small["batch"] |= TWO
    # No dropout: its masks follow the step's number, which the endings do not share.
    small["network"]["dropout"] = 0.0
    return small


def preferring(monkeypatch, kept: str) -> None:
    """Whatever the held-out labels say."""
    monkeypatch.setattr(
        endings, "choose", lambda mixed, strong, metric, trust: (kept, f"{kept} is kept")
    )


def main_of(run: Run, which="last") -> dict[str, torch.Tensor]:
    return dict(run.load(which).tensors["main"])


def same(one, other) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("every", [2, 7])  # weighed at the last step, or not
def test_the_ending_as_it_is_is_a_training_without(
    data, tmp_path, twice, monkeypatch, every
) -> None:
    preferring(monkeypatch, "as_is")
    twice["weighting"] |= {"every": every}
    run = fit(data, tmp_path / "twice", steps=STEPS, **twice)
    twice["batch"]["ending"] = "as_is"
    plain = fit(data, tmp_path / "plain", steps=STEPS, **twice)
    assert run.steps()[-1] == ALL
    assert same(main_of(run), main_of(plain))
    assert "aside" not in run.load("last").tensors
    weights = [{row["id"]: row["weight"] for row in each.weights()} for each in (run, plain)]
    assert weights[0] == weights[1]


def test_the_other_ending_sees_strong_labels_alone(data, tmp_path, twice, monkeypatch) -> None:
    preferring(monkeypatch, "strong")
    seen = {}

    class Noting(Silent):
        def step(self, step, figures):
            if "loss" in figures:
                seen[step] = "loss_weak" in figures

    run = fit(data, tmp_path / "run", steps=STEPS, watcher=Noting(), **twice)
    assert [step for step, weak in seen.items() if not weak] == [10, 11, 12]
    twice["batch"]["ending"] = "as_is"
    plain = fit(data, tmp_path / "plain", steps=STEPS, **twice)
    assert not same(main_of(run), main_of(plain))


class Hearing(Silent):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)


def test_the_choice_is_made_by_held_out_labels_and_told(data, tmp_path, twice) -> None:
    watcher = Hearing()
    twice["weighting"] |= {"initial": 0.4}
    run = fit(data, tmp_path / "run", steps=STEPS, watcher=watcher, **twice)
    assert any("9 steps and 3 for a second ending on cpu" in text for text in watcher.heard)
    assert watcher.heard[-1].startswith("ending on strong labels alone is")
    (told,) = run.metrics("ending")
    held_out = {record["step"]: record["dice"] for record in run.metrics("val")}
    assert told["as_is"] == held_out[STEPS]
    assert told["strong"] == held_out[ALL]
    weak = [float(r["weight"]) for r in run.weights() if r["quality"] == "weak"]
    assert told["trust"] == pytest.approx(sum(weak) / len(weak))
    assert told["trust"] < 1
    figures = told["as_is"], told["strong"], "dice", told["trust"]
    assert told["kept"] == endings.choose(*figures)[0]


@pytest.mark.parametrize("kept", ["as_is", "strong"])
def test_the_report_tells_of_the_ending_that_was_kept(
    data, tmp_path, twice, monkeypatch, kept
) -> None:
    preferring(monkeypatch, kept)
    run = fit(data, tmp_path / "run", steps=STEPS, **twice)
    course = gather(run).story.course
    told = course.endings
    assert told == Endings(6, EACH, told.as_is, told.strong, kept, told.trust)
    assert 0 <= told.trust <= 1
    steps = [1, 2, 3, 4, 5, 6, *((7, 8, 9) if kept == "as_is" else (10, 11, 12))]
    assert list(course.loss.steps) == steps
    assert course.held.last == (course.endings.as_is if kept == "as_is" else course.endings.strong)
    assert course.steps == course.planned == ALL
    page = write_report(run.path).read_text()
    assert f"last validation during training, step {course.held.steps[-1]}" in page


def test_the_second_ending_begins_at_the_full_rate(data, tmp_path, twice) -> None:
    run = fit(data, tmp_path / "run", steps=STEPS, optimiser={"learning_rate": 0.01}, **twice)
    rates = [record["learning_rate"] for record in run.metrics("train")]
    assert rates[8] == min(rates[1:9])
    assert rates[9] == 0.01
    assert rates[9] > rates[10] > rates[11]


@pytest.mark.parametrize("at", [5, 6, 7, 9, 10, 12])
def test_a_stop_anywhere_changes_nothing(data, tmp_path, twice, in_child, at) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    fit(data, whole, steps=STEPS, **twice)
    code = in_child(lambda: fit(data, out, steps=STEPS, watcher=KillAt(at), **twice))
    assert code == 128 + signal.SIGKILL
    resume(out)
    assert_same(remembered(out), remembered(whole))


def test_one_ending_on_strong_labels(data, tmp_path, twice) -> None:
    twice["batch"] |= {"ending": "strong"}
    run = fit(data, tmp_path / "run", steps=STEPS, **twice)
    alone = [record["step"] for record in run.metrics("train") if "loss_weak" not in record]
    assert alone == [7, 8, 9]
    assert not run.metrics("ending")


def test_pairs_end_on_strong_labels_too(data, tmp_path, twice) -> None:
    run = fit(data, tmp_path / "run", steps=STEPS, mixing={"use": True}, **twice)
    alone = [record["step"] for record in run.metrics("train") if "loss_weak" not in record]
    assert alone == [10, 11, 12]


def test_without_held_out_labels_a_training_stays_as_it_is(
    tmp_path_factory, tmp_path, twice, make_data
) -> None:
    data = make_data(tmp_path_factory.mktemp("none") / "data", held_out=0)
    twice["input"] = {"val_share": 0.0}
    run = fit(data, tmp_path / "run", steps=STEPS, **twice)
    assert "ending" not in run.facts
    assert all("loss_weak" in record for record in run.metrics("train"))


@pytest.mark.parametrize(
    ("last", "kept", "best"), [(0.805, "as_is", (0.9, 7)), (0.95, "strong", (0.96, 11))]
)
def test_the_best_is_a_checkpoint_of_the_ending_that_was_kept(
    data, tmp_path, twice, monkeypatch, last, kept, best
) -> None:
    figures = [*(n / 10 for n in range(1, 7)), 0.9, 0.85, 0.8, 0.92, 0.96, last]
    told = iter(figures)
    with monkeypatch.context() as patch:
        patch.setattr(Validator, "__call__", lambda *_: {"dice": next(told)})
        run = fit(data, tmp_path / "run", steps=STEPS, keep=1, **twice | {"validate_every": 1})
    (record,) = run.metrics("ending")
    assert record["kept"] == kept
    checkpoint = run.load("best")
    assert (checkpoint.step, checkpoint.notes) == (best[1], ())
    assert run.steps() == [best[1], ALL]
    state = run.load("last").state
    assert (state["best"], state["best_step"]) == best
    assert f"best held-out dice {best[0]:.3f} at step {best[1]}\n" in _trained(run, run.path)


def test_a_stop_before_the_first_batch_of_the_second_ending_changes_nothing(
    data, tmp_path, twice, monkeypatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    fit(data, whole, steps=STEPS, **twice)
    load = trainer.load

    def dying(*args, **options):
        # A signal to the whole group ends the loading processes, too.
        for number, parts in enumerate(load(*args, **options)):
            if number == STEPS:
                os.kill(os.getpid(), signal.SIGTERM)
                raise WorkerError("a loading process was ended by SIGTERM")
            yield parts

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "load", dying)
        with pytest.raises(Stopped, match="after step 9"):
            fit(data, out, steps=STEPS, **twice)
    resume(out)
    assert_same(remembered(out), remembered(whole))


def test_patience_begins_anew_with_the_second_ending_and_a_choice_is_made(
    data, tmp_path, twice, monkeypatch
) -> None:
    told = iter([*(n / 10 for n in range(1, 10)), 0.5, 0.4, 0.3])
    with monkeypatch.context() as patch:
        patch.setattr(Validator, "__call__", lambda *_: {"dice": next(told)})
        run = fit(data, tmp_path / "run", steps=STEPS, patience=2, **twice | {"validate_every": 1})
    assert run.steps()[-1] == STEPS + 2 < ALL
    (record,) = run.metrics("ending")
    assert (record["as_is"], record["strong"], record["kept"]) == (0.9, 0.4, "as_is")
    assert "aside" not in run.load("last").tensors
    twice["batch"]["ending"] = "as_is"
    plain = fit(data, tmp_path / "plain", steps=STEPS, **twice)
    assert same(main_of(run), main_of(plain))


def test_patience_that_ends_a_training_before_leaves_nothing_to_choose(
    data, tmp_path, twice, monkeypatch
) -> None:
    monkeypatch.setattr(Validator, "__call__", lambda *_: {"dice": 0.5})
    run = fit(data, tmp_path / "run", steps=STEPS, patience=2, **twice | {"validate_every": 1})
    assert run.steps()[-1] == 3
    assert not run.metrics("ending")


def test_a_verdict_compares_with_equally_many_steps(data, tmp_path, twice) -> None:
    run = fit(data, tmp_path / "run", steps=STEPS, **twice)
    give_verdict(run, seeds=2)
    others = sorted((run.path / "verdict").iterdir())
    assert [path.name for path in others] == ["full-1", "strong_only-0", "strong_only-1"]
    assert {Run.open(path).steps()[-1] for path in others} == {ALL}
    assert Run.open(others[0]).metrics("ending")
