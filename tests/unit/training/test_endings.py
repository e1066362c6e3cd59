from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labelmend.training.endings import LEAST, Aside, Ending, choose
from labelmend.training.learned import Learned
from labelmend.training.schedule import Timetable
from labelmend.training.state import Progress


@given(steps=st.integers(1, 500), share=st.floats(0.001, 0.999))
def test_both_endings_are_equally_long_and_begin_at_one_point(steps, share) -> None:
    ending = Ending.of(steps, share, twice=True)
    if ending is None:
        assert steps * share < 1
        return
    second = [step for step in range(ending.total(steps)) if ending.repeats(step)]
    assert second == list(range(steps, ending.total(steps)))
    assert len(second) == steps - ending.fork >= 1


def test_one_ending_has_no_fork() -> None:
    ending = Ending.of(100, 0.3, twice=False)
    assert ending == Ending(strong_from=70, fork=None)
    assert ending.total(100) == 100
    assert not ending.repeats(99)


def table(ending: Ending | None) -> Timetable:
    return Timetable(20, 50, 50, 2, 1, None, 2, float, None, 0, ending)


def tasks(ending: Ending | None) -> dict[int, list[str]]:
    every = table(ending)
    return {s: every.due(s, weigh=True, validate=True) for s in range(1, 21)}


def test_two_endings_are_forked_measured_and_chosen_between() -> None:
    due = tasks(Ending(strong_from=14, fork=8))
    assert due[8] == ["weigh", "fork"]
    assert due[14] == ["weigh", "validate", "save"]
    assert due[20] == ["validate", "choose", "save"]
    every = table(Ending(strong_from=14, fork=8))
    assert [step for step in range(20) if every.turns(step)] == [14]
    assert [step for step in range(1, 21) if every.turned(step)] == list(range(15, 21))


@pytest.mark.parametrize("fork", [None, 8])
def test_labels_that_are_not_seen_any_more_are_not_judged(fork) -> None:
    ending = Ending(strong_from=14, fork=fork)
    weighed = [step for step, due in tasks(ending).items() if "weigh" in due]
    assert weighed == list(range(2, 15))
    assert [table(ending).weighings_by(step) for step in (13, 14, 20)] == [12, 13, 13]


def test_one_ending_is_no_reason_to_do_anything_else() -> None:
    one, none = tasks(Ending(strong_from=14, fork=None)), tasks(None)
    assert {s: [t for t in due if t != "weigh"] for s, due in one.items()} == {
        s: [t for t in due if t != "weigh"] for s, due in none.items()
    }


# ---------------------------------------------------------------- what is kept aside


@pytest.fixture
def learned() -> Learned:
    network = nn.Linear(2, 1)
    return Learned({"main": network}, torch.optim.Adam(network.parameters()), None)


def step(learned: Learned) -> None:
    learned.networks["main"](torch.ones(1, 2)).sum().backward()
    learned.optimiser.step()
    learned.optimiser.zero_grad()


def parameters(learned: Learned) -> list[torch.Tensor]:
    return [p.detach().clone() for p in learned.networks["main"].parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("figure", "kept"), [(0.5, "as_is"), (0.7, "strong"), (None, "as_is")])
def test_the_second_ending_starts_at_the_fork_and_the_better_one_stays(
    learned, figure, kept
) -> None:
    aside, progress = Aside(learned), Progress(figure=0.6, stale=3)
    step(learned)
    aside.fork()
    step(learned)
    first = parameters(learned)
    aside.turn(progress)
    assert (progress.first, progress.stale) == (0.6, 0)
    step(learned)
    # The very same step from the very same point, the optimiser's memory included.
    assert same(parameters(learned), first)
    step(learned)
    second = parameters(learned)
    progress.figure = figure
    figures, said = aside.choose(progress, "dice", 1.0)
    assert figures == {"as_is": 0.6, "strong": figure, "trust": 1.0, "kept": kept}
    assert same(parameters(learned), first if kept == "as_is" else second)
    assert not aside.state()
    assert ("not" in said) == (kept == "as_is")


@pytest.mark.parametrize(("figure", "best"), [(0.6, (0.7, 4)), (0.75, (0.8, 9))])
def test_what_is_best_is_of_the_ending_that_is_kept(learned, figure, best) -> None:
    aside, progress = Aside(learned), Progress(figure=0.6, best=0.7, best_step=4)
    aside.fork()
    aside.turn(progress)
    assert (progress.first_best, progress.first_best_step) == (0.7, 4)
    progress.best, progress.best_step, progress.figure = 0.8, 9, figure
    aside.choose(progress, "dice", 1.0)
    assert (progress.best, progress.best_step) == best
    assert progress.first_best is progress.first_best_step is None


def test_what_the_optimiser_learned_after_the_fork_is_forgotten(learned) -> None:
    aside = Aside(learned)
    aside.fork()  # before any step: the optimiser knows nothing yet
    step(learned)
    assert learned.optimiser.state
    aside.turn(Progress())
    assert not learned.optimiser.state


def test_what_is_kept_aside_survives_a_checkpoint(learned) -> None:
    step(learned)
    aside, again = Aside(learned), Aside(learned)
    aside.fork()
    again.restore(aside.state())
    assert again.groups.keys() == aside.groups.keys() == {"main", "optimiser"}
    for group, tensors in aside.groups.items():
        assert tensors.keys() == again.groups[group].keys()
        assert all(torch.equal(t, again.groups[group][n]) for n, t in tensors.items())


def test_a_copy_is_kept_and_not_what_goes_on_changing(learned) -> None:
    aside = Aside(learned)
    aside.fork()
    before = aside.groups["main"]["weight"].clone()
    step(learned)
    assert torch.equal(aside.groups["main"]["weight"], before)


def test_what_cannot_be_told_stays_as_it_is_where_weak_labels_count() -> None:
    for mixed, strong in ((0.5, 0.5), (None, 0.5), (0.5, None), (0.5, 0.509)):
        assert choose(mixed, strong, "dice", 1)[0] == "as_is"
    assert choose(0.5, 0.511, "dice", 1)[0] == "strong"
    assert choose(20.0, 20.09, "psnr", 1)[0] == "as_is"
    assert choose(20.0, 20.11, "psnr", 1)[0] == "strong"


def test_what_cannot_be_told_is_decided_by_what_weak_labels_count() -> None:
    for mixed, strong in ((None, 0.5), (0.5, None), (0.5, 0.489)):
        assert choose(mixed, strong, "dice", 0)[0] == "as_is"
    assert choose(0.5, 0.491, "dice", 0)[0] == "strong"
    assert choose(20.0, 19.91, "psnr", 0)[0] == "strong"
    assert [choose(0.5, strong, "dice", 0.5)[0] for strong in (0.5, 0.501)] == ["as_is", "strong"]


FIGURES, TRUST = st.floats(0, 1), st.floats(0, 2)


@given(mixed=FIGURES, strong=FIGURES, one=TRUST, other=TRUST)
def test_more_trust_never_leaves_weak_labels_out(mixed, strong, one, other) -> None:
    less, more = (choose(mixed, strong, "dice", trust)[0] for trust in sorted((one, other)))
    assert (less, more) != ("as_is", "strong")


@given(mixed=FIGURES, strong=FIGURES, trust=TRUST)
def test_what_differs_clearly_is_decided_by_held_out_labels(mixed, strong, trust) -> None:
    kept = choose(mixed, strong, "dice", trust)[0]
    if abs(strong - mixed) > LEAST["dice"] + 1e-9:
        assert kept == ("strong" if strong > mixed else "as_is")


@pytest.mark.parametrize(
    ("trust", "how"),
    [
        (1.0, "no better by more than 0.01"),
        (0.7, "no better by more than 0.004"),
        (0.5, "no better"),
        (0.2, "worse by 0.006 or more"),
    ],
)
def test_why_an_ending_is_not_kept_says_what_was_asked_of_it(trust, how) -> None:
    kept, said = choose(0.5, 0.4, "dice", trust)
    assert (kept, said) == (
        "as_is",
        f"ending on strong labels alone is not kept, being {how}: 0.400 on held-out labels, 0.500 "
        "with weak labels to the end",
    )


def test_why_an_ending_is_kept_that_is_hardly_better() -> None:
    assert ", for weak labels count 0.1 in the mean: 0.499" in choose(0.5, 0.499, "dice", 0.1)[1]
    assert "in the mean" not in choose(0.5, 0.52, "dice", 0.1)[1]


@pytest.mark.parametrize(("metric", "least"), [("dice", "0.01"), ("psnr", "0.1")])
@pytest.mark.parametrize("share", [-2.0, 0.0, 0.2, 0.9])
def test_an_ending_that_is_better_by_little_is_not_called_no_better(metric, least, share) -> None:
    kept, said = choose(0.5, 0.5 + share * float(least), metric, 1)
    assert kept == "as_is"
    assert f"is not kept, being no better by more than {least}: " in said
