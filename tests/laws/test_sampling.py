"""Laws of sampling: nothing lost, nothing doubled, on any number of processes, from any step."""

from collections import Counter
from fractions import Fraction

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from labelmend.data.plan import Plan, _locate


@st.composite
def plans(draw):
    strong, weak = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    places = draw(st.permutations(range(strong + weak)))
    share = draw(st.one_of(st.none(), st.floats(0.01, 0.99)))
    if not places:
        strong, places = 1, [0]
    size, seed = draw(st.integers(2, 16)), draw(st.integers(0, 2**31 - 1))
    return Plan(tuple(places[:strong]), tuple(places[strong:]), size, share, seed)


@st.composite
def weighed(draw):
    """A plan with weak samples, and weights of which one of a weak sample is above 0."""
    plan = draw(plans())
    assume(plan.weak)
    usual = st.sampled_from([0.0, 1.0, 0.5]) | st.floats(0, 2)
    count = len(plan.strong + plan.weak)
    gamma = draw(st.lists(usual, min_size=count, max_size=count))
    gamma[draw(st.sampled_from(plan.weak))] = draw(st.floats(1e-3, 2))
    return plan, gamma


def weak_stream(plan, gamma, turns):
    """The indices that whole passes over the pool of the weak samples draw."""
    name, pool = ("all", plan.strong + plan.weak)
    if plan.strong_share is not None:
        name, pool = ("weak", plan.weak)
    first, last = turns.start * len(pool), turns.stop * len(pool)
    taken, number = plan.counts[name], {"all": 0, "weak": 2}[name]
    drawn = [
        draw.index
        for step in range(first // taken, -(-last // taken))
        for draw in plan.batch(step, gamma)
        if draw.key % 3 == number and first <= draw.key // 3 < last
    ]
    assert len(drawn) == last - first
    return Counter(drawn)


def expected(plan, gamma):
    """How often each sample should be drawn in a pass: the definition, slow and plain."""
    strong = plan.strong if plan.strong_share is None else ()
    odds = dict.fromkeys(strong, 1.0) | {i: gamma[i] for i in plan.weak}
    return {i: len(odds) * odd / sum(odds.values()) for i, odd in odds.items()}


def pools(plan):
    if plan.strong_share is None:
        return [plan.strong + plan.weak]
    return [pool for pool in (plan.strong, plan.weak) if pool]


@given(plans(), st.integers(1, 40))
def test_no_sample_is_ever_more_than_one_draw_ahead_of_another(plan, steps):
    drawn = Counter(d.index for step in range(steps) for d in plan.batch(step))
    for pool in pools(plan):
        counts = [drawn[i] for i in pool]
        assert max(counts) - min(counts) <= 1
    assert sum(drawn.values()) == steps * plan.size


@given(plans())
def test_an_epoch_shows_every_sample_of_the_larger_pool(plan):
    drawn = Counter(d.index for s in range(plan.steps_per_epoch) for d in plan.batch(s))
    longest = max(len(pool) for pool in pools(plan))
    larger = [i for pool in pools(plan) if len(pool) == longest for i in pool]
    assert longest <= sum(drawn[i] >= 1 for i in larger)
    fewer = Counter(d.index for s in range(plan.steps_per_epoch - 1) for d in plan.batch(s))
    assert any(fewer[i] == 0 for i in larger)


@given(plans(), st.integers(0, 30))
def test_keys_are_unique_in_a_training(plan, steps):
    keys = [d.key for step in range(steps) for d in plan.batch(step)]
    assert len(set(keys)) == len(keys) and all(k >= 0 for k in keys)


@given(plans(), st.lists(st.integers(0, 1000), min_size=1, max_size=8))
def test_a_step_is_the_same_whatever_was_asked_before(plan, steps):
    asked = {step: plan.batch(step) for step in steps}
    twin = Plan(plan.strong, plan.weak, plan.size, plan.strong_share, plan.seed)
    for step in sorted(asked):
        assert twin.batch(step) == asked[step]


@settings(max_examples=60)
@given(plans(), st.data())
def test_ranks_and_parts_divide_a_batch_without_rest(plan, data):
    world = data.draw(st.integers(1, plan.size))
    parts = data.draw(st.integers(1, plan.size // world))
    step = data.draw(st.integers(0, 10**6))
    shares = [plan.share(step, rank, world, parts) for rank in range(world)]
    assert all(len(share) == parts and all(share) for share in shares)
    assert [d for share in shares for piece in share for d in piece] == plan.batch(step)
    lengths = [len(piece) for share in shares for piece in share]
    assert max(lengths) - min(lengths) <= 1


@given(plans())
def test_every_number_of_processes_draws_the_same_in_an_epoch(plan):
    def drawn(world):
        return Counter(
            (d.index, d.key)
            for step in range(plan.steps_per_epoch)
            for rank in range(world)
            for piece in plan.share(step, rank, world)
            for d in piece
        )

    assert all(drawn(world) == drawn(1) for world in (1, 2, 4) if world <= plan.size)


@given(plans(), st.integers(0, 50), st.sampled_from([1, 2, 4]))
def test_strong_samples_are_spread_over_the_processes(plan, step, world):
    if plan.strong_share is None or world > plan.size:
        return
    strong = set(plan.strong)
    counts = [
        sum(d.index in strong for d in plan.share(step, rank, world)[0]) for rank in range(world)
    ]
    assert max(counts) - min(counts) <= 2


@given(weighed(), st.integers(0, 1000), st.integers(1, 12))
def test_samples_are_drawn_in_proportion_to_their_weights(case, turn, turns):
    plan, gamma = case
    once = weak_stream(plan, gamma, range(turn, turn + 1))
    often = weak_stream(plan, gamma, range(turn, turn + turns))
    for index, due in expected(plan, gamma).items():
        assert abs(once[index] - due) < 1 + 1e-6  # rounded up or down
        assert abs(often[index] - turns * due) <= 2


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.integers(0, 2**64 - 1), st.data())
def test_a_point_on_a_border_belongs_to_the_sample_that_begins_there(units, shift, data):
    assume(any(units))
    point = data.draw(st.integers(0, len(units) - 1))
    shift = data.draw(st.sampled_from([0, 2**63, shift]))
    left = (point + Fraction(shift, 2**64)) * sum(units) / len(units)
    wanted = 0
    while left >= units[wanted]:  # walk along the line: never stop on a sample without length
        left -= units[wanted]
        wanted += 1
    assert _locate(point, shift, np.cumsum(units)) == wanted


@given(plans(), st.lists(st.sampled_from([0.0, 5e-324, 1e-9, 1.0, 1e308]), min_size=60))
def test_a_weight_of_0_is_never_drawn(plan, gamma):
    if not plan.strong:
        gamma[plan.weak[0]] = 1e-300
    weak = set(plan.weak)
    drawn = {d.index for step in range(10) for d in plan.batch(step, gamma)}
    assert all(gamma[i] > 0 for i in drawn & weak)


@given(plans(), st.floats(1e-300, 1e300), st.integers(0, 100))
def test_equal_weights_draw_what_no_weights_draw(plan, weight, step):
    gamma = [weight if i in plan.weak else 0.7 for i in range(60)]
    if plan.strong_share is None and plan.strong:
        gamma = [1.0 if i in plan.weak else 0.7 for i in range(60)]
    assert plan.batch(step, gamma) == plan.batch(step)


@given(weighed(), st.integers(0, 100), st.integers(-60, 60))
def test_only_the_ratios_of_weights_matter(case, step, exponent):
    plan, gamma = case
    assume(plan.strong_share is not None)
    assert plan.batch(step, [g * 2.0**exponent for g in gamma]) == plan.batch(step, gamma)


@given(weighed(), st.integers(0, 100), st.randoms(use_true_random=False))
def test_other_names_for_the_samples_change_nothing_else(case, step, random):
    plan, gamma = case
    names = list(range(len(gamma)))
    random.shuffle(names)
    renamed, moved = dict(enumerate(names)), [0.0] * len(gamma)
    for old, new in renamed.items():
        moved[new] = gamma[old]
    strong, weak = (tuple(renamed[i] for i in pool) for pool in (plan.strong, plan.weak))
    other = Plan(strong, weak, plan.size, plan.strong_share, plan.seed)
    wanted = [(renamed[d.index], d.key) for d in plan.batch(step, gamma)]
    assert [(d.index, d.key) for d in other.batch(step, moved)] == wanted


@given(weighed(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_no_share(case, random):
    plan, gamma = case
    weak = list(plan.weak)
    random.shuffle(weak)
    other = Plan(plan.strong, tuple(weak), plan.size, plan.strong_share, plan.seed)
    one, two = (weak_stream(p, gamma, range(8)) for p in (plan, other))
    assert all(abs(one[i] - two[i]) <= 4 for i in plan.weak)


@given(weighed(), weighed(), st.lists(st.integers(0, 1000), min_size=1, max_size=8))
def test_a_step_knows_only_its_own_weights(case, others, steps):
    plan, gamma = case
    wanted = {step: plan.batch(step, gamma) for step in steps}
    twin = Plan(plan.strong, plan.weak, plan.size, plan.strong_share, plan.seed)
    for step in sorted(steps):
        others[0].batch(step, others[1])
        twin.batch(step)
        assert twin.batch(step, gamma) == wanted[step]
        assert [d.key for d in wanted[step]] == [d.key for d in twin.batch(step)]


@given(weighed(), st.integers(0, 1000), st.data())
def test_ranks_and_parts_divide_a_weighed_batch_too(case, step, data):
    plan, gamma = case
    world = data.draw(st.integers(1, plan.size))
    parts = data.draw(st.integers(1, plan.size // world))
    shares = [plan.share(step, rank, world, parts, gamma) for rank in range(world)]
    assert [d for share in shares for piece in share for d in piece] == plan.batch(step, gamma)


@given(weighed(), st.integers(0, 12), st.booleans())
def test_from_its_end_on_a_plan_draws_strong_samples_only(case, strong_from, by_weight):
    plan, gamma = case
    assume(plan.strong)
    weights = gamma if by_weight else None
    ending = plan.ending(strong_from)
    steps = range(strong_from + 9)
    drawn = [ending.batch(step, weights) for step in steps]
    assert drawn[:strong_from] == [plan.batch(step, weights) for step in range(strong_from)]
    assert {d.index for batch in drawn[strong_from:] for d in batch} <= set(plan.strong)
    assert [ending.counts_at(step, weights) for step in steps[strong_from:]] == [
        {"strong": plan.size}
    ] * 9
    keys = [d.key for batch in drawn for d in batch]
    assert len(set(keys)) == len(keys)


@given(plans(), st.integers(0, 12), st.integers(0, 12))
def test_strong_samples_go_on_in_turn_when_they_are_alone(plan, strong_from, more):
    assume(plan.strong and plan.strong_share is not None)
    ending = plan.ending(strong_from)
    drawn = [d.index for step in range(strong_from + more) for d in ending.batch(step)]
    often = Counter(index for index in drawn if index in plan.strong)
    counts = [often[index] for index in plan.strong]
    assert max(counts) - min(counts) <= 1
