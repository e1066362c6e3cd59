"""When labels are judged, how many at a time, and that it costs no more than was allowed."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelmend.config import Settings
from labelmend.errors import SettingsError
from labelmend.training.assembly.costs import step_cost
from labelmend.training.assembly.weighing import schedule
from labelmend.training.turns import Turns

OPTIONS = {
    "signal": st.sampled_from(["both", "alike", "fit", "loss", "similarity"]),
    "mode": st.sampled_from(["exact", "central"]),
    "curvature": st.sampled_from(["identity", "fisher", "gauss_newton", "hessian", "neumann"]),
    "parameters": st.sampled_from(["all", "decoder", "last", ["norm"]]),
    "iterations": st.integers(1, 20),
    "strong_samples": st.integers(1, 64),
    "overhead": st.floats(0.01, 10),
}
METHODS = st.sampled_from(
    [
        {},
        {"mixing": {"use": True, "target": "predictions", "average": 0.9}},
        {"mixing": {"use": True}, "dual": {"use": True, "judges": "both"}},
    ]
)
RHYTHMS = st.sampled_from([(), ("every",), ("weak_samples",)])


@st.composite
def settings(draw, rhythm=RHYTHMS) -> Settings:
    """Any settings in which overhead decides how often, or how many, or both."""
    chosen = {name: draw(values) for name, values in OPTIONS.items()}
    chosen |= {name: draw(st.integers(1, 400)) for name in draw(rhythm)}
    batch = {"size": draw(st.integers(2, 64))}
    return Settings.make(draw(METHODS), {"weighting": chosen, "batch": batch})


weak_labels = st.integers(1, 5_000)
training = st.integers(1, 100_000)


@given(settings(), weak_labels, training)
def test_weight_steps_never_cost_more_than_was_allowed(settings, weak, steps) -> None:
    chosen = settings.weighting
    try:
        found = schedule(settings, weak, steps)
    except SettingsError as refusal:
        assert chosen.every is not None, "without wishes there is always a way"
        enough = re.search(r"set weighting\.every to (\d+)", str(refusal))
        found = schedule(over(settings, every=int(enough[1])), weak, steps)
    assert found.cost <= chosen.overhead + 1e-6
    assert 1 <= found.judged <= found.first <= min(weak, chosen.weak_samples or weak)
    assert 0.05 <= found.rate <= 0.5
    if found.judged < weak and chosen.weak_samples is None:
        one_more = over(settings, every=found.every, weak_samples=found.judged + 1)
        assert schedule(one_more, weak, steps).cost > chosen.overhead, "time is left unused"


def over(settings: Settings, **weighting) -> Settings:
    return Settings.make(settings.model_dump(), {"weighting": weighting})


@given(settings(), weak_labels, st.integers(1, 3_000))
def test_the_longest_wait_is_kept_or_refused_with_numbers_that_do(settings, weak, wait) -> None:
    settings = over(settings, longest_wait=wait)
    try:
        found = schedule(settings, weak, 10_000)
    except SettingsError as refusal:
        if "longest_wait" not in str(refusal):
            return  # of no time for a single label
        longer = int(re.search(r"let it be (\d+)", str(refusal))[1])
        assert schedule(over(settings, longest_wait=longer), weak, 10_000).wait(weak) == longer
        dearer = re.search(r"take weighting\.overhead = ([\d.]+)(?= |$)", str(refusal))
        if dearer:
            free = {"overhead": float(dearer[1]), "every": None, "weak_samples": None}
            assert schedule(over(settings, **free), weak, 10_000).wait(weak) <= wait
    else:
        assert found.wait(weak) <= wait
        assert found.cost <= settings.weighting.overhead + 1e-6


def test_a_short_wait_is_bought_by_larger_weight_steps_before_it_is_refused() -> None:
    """A trusted gradient costs the same for one weak label as for all."""
    chosen = {"parameters": "all", "strong_samples": 64}
    patient = schedule(Settings.make({"weighting": chosen}), 3000, 10_000)
    hasty = Settings.make({"weighting": {**chosen, "longest_wait": patient.wait(3000) - 300}})
    found = schedule(hasty, 3000, 10_000)
    assert found.judged > patient.judged
    assert found.wait(3000) <= patient.wait(3000) - 300
    assert found.cost <= 0.25


@given(settings(), weak_labels, st.integers(1, 3_000))
def test_what_was_saved_up_pays_for_the_first_look(settings, weak, start) -> None:
    settings = over(settings, start=start)
    try:
        found = schedule(settings, weak, 10_000)
    except SettingsError:
        return  # of no time for a single label
    larger = {"every": start, "weak_samples": found.first}
    paid = schedule(over(settings, **larger), weak, 10_000)
    if found.first > found.judged:
        assert paid.cost <= settings.weighting.overhead + 1e-6
    elif settings.weighting.weak_samples is None and found.first < weak:
        larger["weak_samples"] += 1
        assert schedule(over(settings, **larger), weak, 10_000).cost > settings.weighting.overhead


def test_a_small_set_is_looked_at_as_a_whole_at_first() -> None:
    found = schedule(Settings.make(), 150, 1500)
    assert (found.start, found.first) == (150, 150)
    assert found.judged < 150


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5))
def test_every_label_is_looked_at_within_the_announced_wait(weak, size, seed) -> None:
    size = min(size, weak)
    turns = Turns(tuple(range(weak)), size, seed, min(2 * size, weak))
    rounds = math.ceil(weak / size)
    looks = [{draw.index for draw in turns.draws(number)} for number in range(4 * rounds)]
    for first in range(3 * rounds):
        assert set.union(*looks[first : first + rounds]) == set(range(weak))


@pytest.mark.parametrize(
    ("steps", "start"), [(1, 0), (10, 2), (100, 25), (400, 100), (2000, 150), (100_000, 150)]
)
def test_the_first_weight_step_waits_for_a_network_that_knows_something(steps, start) -> None:
    assert schedule(Settings.make(), 200, steps).start == start


def test_the_defaults_look_at_a_small_set_often_and_at_a_large_one_in_turns() -> None:
    small = schedule(Settings.make(), 30, 2000)
    assert (small.every, small.judged, small.first) == (25, 30, 30)
    large = schedule(Settings.make(), 5000, 100_000)
    assert large.every < 100
    assert large.wait(5000) < 3000
    assert large.cost == pytest.approx(0.25, abs=0.02)


def test_a_label_can_go_all_the_way_in_a_third_of_its_looks() -> None:
    found = schedule(Settings.make(), 60, 1500)
    looks = (1500 - found.start) / found.every * found.judged / 60
    assert found.rate * looks == pytest.approx(3)
    assert schedule(Settings.make(), 60, 10).rate == 0.5
    assert schedule(Settings.make(), 60, 10**6).rate == 0.05


def test_both_wishes_given_are_taken_as_they_are_and_their_cost_is_said() -> None:
    chosen = {"every": 5, "weak_samples": 100}
    found = schedule(Settings.make({"weighting": chosen}), 60, 1000)
    assert (found.every, found.judged) == (5, 60)
    assert found.cost > 1


def test_how_many_alone_decides_how_often() -> None:
    found = schedule(Settings.make({"weighting": {"weak_samples": 120}}), 500, 1000)
    assert found.judged == 120
    assert found.every > 25
    assert found.cost <= 0.25


# ------------------------------------------------------------------ mixed images, two networks

PASSES = [
    # What is trained on what, and the passes of a step over an image of the batch (3: plain).
    ({}, {}, 3),
    ({"use": True}, {}, 4.5),
    ({"use": True, "target": "labels"}, {}, 4.5),
    ({"use": True, "target": "predictions"}, {}, 4.5),
    ({"use": True, "average": 0.9}, {}, 5.5),
    ({"use": True, "target": "predictions", "average": 0.9}, {}, 5.5),
    ({"use": True}, {"use": True, "both": False}, 7),
    ({"use": True, "average": 0.9}, {"use": True, "both": False}, 8),
    ({"use": True}, {"use": True}, 9),
    ({"use": True, "average": 0.9}, {"use": True}, 11),
    ({"average": 0.9}, {"judges": "both"}, 3),
]


@pytest.mark.parametrize(("mixing", "dual", "passes"), PASSES)
def test_a_training_step_costs_its_passes(mixing, dual, passes) -> None:
    """And what it costs, it pays for weight steps: their share is of these training steps."""
    method = {"mixing": mixing, "dual": dual}
    assert step_cost(Settings.make(method)) == pytest.approx(passes / 3)
    rhythm = {"weighting": {"every": 30, "weak_samples": 20}}
    plain = schedule(Settings.make(rhythm), 60, 1000)
    found = schedule(Settings.make(rhythm, method), 60, 1000)
    assert found.cost * passes / 3 == pytest.approx(plain.cost)
    often, usual = (schedule(Settings.make(m), 5000, 100_000) for m in (method, {}))
    assert often.cost == pytest.approx(0.25, abs=0.02)
    assert (often.wait(5000) < usual.wait(5000)) == (passes > 3)


def test_two_judges_cost_twice_what_one_does() -> None:
    rhythm = {"weighting": {"every": 30, "weak_samples": 20}, "mixing": {"use": True}}
    one = schedule(Settings.make(rhythm, {"dual": {"use": True}}), 60, 1000)
    two = schedule(Settings.make(rhythm, {"dual": {"use": True, "judges": "both"}}), 60, 1000)
    assert two.cost == pytest.approx(2 * one.cost)
