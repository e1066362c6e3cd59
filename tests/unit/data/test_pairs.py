"""Pairs of samples: how often, with whom, in whose hands; laws first, then examples."""

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from labelmend.data.pairs import PairPlan
from labelmend.data.plan import Plan
from labelmend.errors import SettingsError

PLAN = Plan(tuple(range(4)), tuple(range(4, 20)), 8, 0.5, 0)


@st.composite
def plans(draw):
    """Plans of which pairs can be made."""
    strong, weak = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    assume(strong + weak)
    places = draw(st.permutations(range(strong + weak)))
    share = draw(st.one_of(st.none(), st.floats(0.01, 0.99)))
    size, seed = 2 * draw(st.integers(2, 8)), draw(st.integers(0, 2**31 - 1))
    return Plan(tuple(places[:strong]), tuple(places[strong:]), size, share, seed)


@st.composite
def pair_plans(draw):
    plan = draw(plans())
    ways = ["alike", "strong_first"] if plan.strong and plan.weak else ["alike"]
    return PairPlan.of(plan, draw(st.sampled_from(ways)))


@st.composite
def weighed(draw):
    """Pairs, and weights of which that of one weak sample is above 0."""
    plan = draw(pair_plans())
    assume(plan.weak)
    gamma = draw(
        st.lists(st.sampled_from([0.0, 1.0, 0.5]) | st.floats(0, 2), min_size=24, max_size=24)
    )
    gamma[draw(st.sampled_from(plan.weak))] = draw(st.floats(0.01, 2))
    return plan, gamma


def halves(plan, step, weights=None):
    """The draws of all firsts, and of all seconds."""
    batch = plan.batch(step, weights)
    assert len(batch) == plan.size and len(batch) % 2 == 0
    return batch[: len(batch) // 2], batch[len(batch) // 2 :]


def pools(plan):
    """The pools of one half, each with how many of it are in every batch, as ``counts`` says."""
    by_name = {"all": plan.strong + plan.weak, "strong": plan.strong, "weak": plan.weak}
    return [(by_name[name], taken) for name, taken in plan.counts.items()]


def kinds(plan, draws):
    """How many of every kind are among draws, as ``counts`` names kinds."""
    if "all" in plan.counts:
        return {"all": len(draws)}
    return dict(Counter("strong" if d.index in plan.strong else "weak" for d in draws))


# ---------------------------------------------------------------- laws


@given(pair_plans())
def test_whole_passes_draw_every_sample_of_a_pool_equally_often_in_each_half(plan):
    for half, single in enumerate((plan.first, plan.second)):
        for pool, taken in pools(single):
            # as many steps as the pool has samples are `taken` passes over it
            steps = range(3 * len(pool), 4 * len(pool))
            drawn = Counter(d.index for step in steps for d in halves(plan, step)[half])
            assert [drawn[i] for i in pool] == [taken] * len(pool)


@given(weighed(), st.integers(1, 30), st.booleans())
def test_keys_are_unique_over_both_halves_and_all_steps(case, steps, by_weight):
    plan, gamma = case
    keys = [d.key for step in range(steps) for d in plan.batch(step, gamma if by_weight else None)]
    assert len(set(keys)) == len(keys) and min(keys) >= 0


@given(weighed(), st.integers(0, 10**6), st.booleans(), st.data())
def test_processes_and_parts_have_all_pairs_once_and_whole(case, step, by_weight, data):
    plan, gamma = case
    gamma = gamma if by_weight else None
    pairs = plan.size // 2
    world = data.draw(st.integers(1, pairs))
    parts = data.draw(st.integers(1, pairs // world))
    shares = [plan.share(step, rank, world, parts, gamma) for rank in range(world)]
    assert all(len(share) == parts for share in shares)
    pieces = [piece for share in shares for piece in share]
    assert all(piece and len(piece) % 2 == 0 for piece in pieces)
    firsts = [d for piece in pieces for d in piece[: len(piece) // 2]]
    seconds = [d for piece in pieces for d in piece[len(piece) // 2 :]]
    assert firsts + seconds == plan.batch(step, gamma)
    lengths = [len(piece) for piece in pieces]
    assert max(lengths) - min(lengths) <= 2


@given(pair_plans(), st.lists(st.integers(0, 1000), min_size=1, max_size=6))
def test_a_step_is_the_same_whatever_was_asked_before(plan, steps):
    asked = {step: plan.batch(step) for step in steps}
    twin = PairPlan(plan.first, plan.second)
    assert all(twin.batch(step) == asked[step] for step in sorted(asked))


@given(weighed(), st.integers(0, 1000))
def test_weights_say_who_is_first_and_never_who_is_second(case, step):
    plan, gamma = case
    firsts, seconds = halves(plan, step, gamma)
    assert seconds == halves(plan, step)[1]
    assert all(d.index in plan.strong or gamma[d.index] > 0 for d in firsts)
    assert [d.key for d in firsts] == [d.key for d in halves(plan, step)[0]]


@given(weighed(), st.integers(0, 50))
def test_counts_are_what_is_drawn_with_and_without_weights(case, step):
    plan, gamma = case
    for weights in (None, gamma, [0.0] * 24):
        if weights and not any(weights) and not plan.strong:
            continue  # nothing could be drawn
        drawn = plan.batch(step, weights)
        assert kinds(plan, drawn) == {k: n for k, n in plan.counts_at(step, weights).items() if n}
    assert plan.counts_at(step) == plan.counts
    assert sum(plan.counts.values()) == plan.size


@given(plans(), st.integers(0, 50), st.data())
def test_counts_of_a_single_plan_are_what_it_draws(plan, step, data):
    gamma = data.draw(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=24, max_size=24))
    for weights in (None, gamma, [0.0] * 24):
        if weights and not plan.strong and not any(weights[i] for i in plan.weak):
            continue
        drawn = plan.batch(step, weights)
        assert kinds(plan, drawn) == {k: n for k, n in plan.counts_at(step, weights).items() if n}


@given(weighed(), st.integers(1, 4))
def test_firsts_come_by_weight_and_seconds_uniformly(case, turns):
    plan, gamma = case
    for half, single in enumerate((plan.first, plan.second)):
        for pool, taken in pools(single):
            by_weight = half == 0 and not set(pool) <= set(plan.strong)
            odds = {i: gamma[i] if by_weight and i in plan.weak else 1.0 for i in pool}
            steps, passes = range(turns * len(pool)), turns * taken
            drawn = Counter(d.index for step in steps for d in halves(plan, step, gamma)[half])
            for i, odd in odds.items():
                due = passes * len(pool) * odd / sum(odds.values())
                # By weight, Plan promises 2 over a dozen passes; these are up to 64.
                assert abs(drawn[i] - due) <= (4 if by_weight else 0)


@given(pair_plans())
def test_an_epoch_draws_as_many_of_the_larger_pool_as_it_has(plan):
    taken = Counter()
    for single in (plan.first, plan.second):
        for pool, many in pools(single):
            taken[pool] += many
    length, many = max((len(pool), many) for pool, many in taken.items())
    steps = plan.steps_per_epoch
    assert (steps - 1) * many < length <= steps * many


@given(plans())
def test_strong_first_is_what_it_says(plan):
    assume(plan.strong and plan.weak)
    pairs = PairPlan.of(plan, "strong_first")
    for step in range(3):
        firsts, seconds = halves(pairs, step)
        assert {d.index for d in firsts} <= set(plan.strong)
        assert {d.index for d in seconds} <= set(plan.weak)
    assert pairs.counts == {"strong": plan.size // 2, "weak": plan.size // 2}
    assert (pairs.strong, pairs.weak, pairs.size) == (plan.strong, plan.weak, plan.size)


@given(plans())
def test_alike_pairs_have_the_samples_of_their_plan(plan):
    pairs = PairPlan.of(plan)
    assert (pairs.strong, pairs.weak, pairs.size) == (plan.strong, plan.weak, plan.size)
    assert all({*half.strong, *half.weak} <= {*plan.strong, *plan.weak} for half in (
        pairs.first, pairs.second
    ))  # fmt: skip


# ---------------------------------------------------------------- examples


def test_a_weight_of_0_is_never_first_and_comes_second_as_often_as_any():
    gamma = [1.0] * 20
    gamma[7] = 0.0
    plan = PairPlan.of(PLAN)
    firsts, seconds = Counter(), Counter()
    for step in range(16 * 10):  # ten passes over the 16 weak ones by two per step and half
        one, other = halves(plan, step, gamma)
        firsts.update(d.index for d in one)
        seconds.update(d.index for d in other)
    assert firsts[7] == 0 and seconds[7] == 20 == seconds[8]


def test_the_two_of_a_pair_are_not_the_same_ones_in_every_pass():
    plan = PairPlan.of(Plan((), tuple(range(10)), 20, None, 3))
    met = Counter(
        (one.index, other.index)
        for step in range(200)
        for one, other in zip(*halves(plan, step), strict=True)
    )
    assert len(met) == 100  # everyone met everyone, itself too
    # 2000 draws over 100 meetings: 20 each, give or take 5 deviations of a fair draw
    assert min(met.values()) > 0 and max(met.values()) < 45


def test_a_strong_image_meets_weak_ones_too():
    """Seed A, ¶77: the second is drawn uniformly, whatever the first is."""
    plan = PairPlan.of(Plan(tuple(range(6)), tuple(range(6, 30)), 8, 0.25, 0))
    met = {
        (one.index < 6, other.index < 6)
        for step in range(200)
        for one, other in zip(*halves(plan, step), strict=True)
    }
    assert met == {(True, True), (True, False), (False, True), (False, False)}


@pytest.mark.parametrize(
    ("share", "drawn", "keys"),
    [
        (
            None,
            [[0, 4, 3, 6, 5, 2, 6, 8], [1, 5, 8, 9, 0, 3, 4, 9]],
            [[0, 6, 12, 18, 13, 7, 19, 1], [24, 30, 36, 42, 37, 43, 25, 31]],
        ),
        (
            0.5,
            [[3, 7, 8, 4, 3, 7, 4, 8], [5, 1, 5, 9, 8, 6, 5, 1]],
            [[2, 4, 8, 10, 9, 5, 11, 3], [14, 16, 20, 22, 21, 23, 15, 17]],
        ),
    ],
)
def test_the_pairs_are_the_same_for_ever(share, drawn, keys):
    # whoever changes this breaks the resuming of every run on disk
    plan = PairPlan.of(Plan((3, 5, 8), (0, 1, 2, 4, 6, 7, 9), 8, share, 11))
    assert [[d.index for d in plan.batch(step)] for step in range(2)] == drawn
    assert [[d.key for d in plan.batch(step)] for step in range(2)] == keys


@given(pair_plans(), st.integers(0, 1000))
def test_the_halves_are_what_their_plans_draw_with_keys_of_their_own(plan, step):
    for half, single in enumerate((plan.first, plan.second)):
        wanted = {(d.index, 2 * d.key + half) for d in single.batch(step)}
        assert {(d.index, d.key) for d in halves(plan, step)[half]} == wanted


def test_a_batch_of_two_is_one_pair():
    plan = PairPlan.of(Plan((0, 1), (2, 3), 2, None, 0))
    assert [len(piece) for piece in plan.share(0)] == [2] and plan.counts == {"all": 2}


def test_a_strong_and_a_weak_sample_are_one_pair():
    plan = PairPlan.of(Plan((0, 1), (2, 3), 2, 0.5, 0), "strong_first")
    assert plan.counts == {"strong": 1, "weak": 1}


def test_without_a_weak_sample_a_pair_needs_no_room_for_one():
    assert PairPlan.of(Plan((0, 1), (), 2, 0.5, 0)).counts == {"strong": 2}


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "pairs", "said"),
    [
        ({"size": 5}, "alike", "an even number from 4 on, got 5"),
        ({"size": 2}, "alike", "an even number from 4 on, got 2"),
        ({"size": 1, "strong_share": None}, "alike", "an even number from 2 on, got 1"),
        ({"size": 7}, "strong_first", "an even number from 2 on, got 7"),
        ({"weak": ()}, "strong_first", "there are 4 and 0; take 'alike'"),
        ({"strong": ()}, "strong_first", "there are 0 and 16; take 'alike'"),
    ],
)
def test_batches_that_no_pairs_make_are_refused(change, pairs, said):
    parts = {"strong": PLAN.strong, "weak": PLAN.weak, "size": 8, "strong_share": 0.5, "seed": 0}
    with pytest.raises(SettingsError, match=said) as caught:
        PairPlan.of(Plan(**parts | change), pairs)
    assert "\n" not in str(caught.value)


def test_divisions_that_leave_someone_without_a_pair_are_refused():
    plan = PairPlan.of(PLAN)
    plan.check(0, 4, 1)
    with pytest.raises(SettingsError, match="at least 10 samples, two for every pair, for 5 proc"):
        plan.check(0, 5, 1)
    with pytest.raises(SettingsError, match="with 3 parts .* got 8"):
        plan.share(0, 0, 2, 3)
    for rank, world, parts in ((2, 2, 1), (-1, 1, 1), (0, 0, 1), (0, 1, 0)):
        with pytest.raises(SettingsError, match="a rank from 0 below world"):
            plan.share(0, rank, world, parts)


def test_steps_and_weights_that_are_none_are_refused():
    plan = PairPlan.of(PLAN)
    with pytest.raises(SettingsError, match="count from 0"):
        plan.batch(-1)
    with pytest.raises(SettingsError, match="got -1.0 at place 3"):
        plan.batch(0, [1.0] * 3 + [-1.0] + [1.0] * 16)
    with pytest.raises(SettingsError, match=r"got shape \(3,\)"):
        plan.counts_at(0, [1.0] * 3)
    with pytest.raises(SettingsError, match="got 0 for all"):
        PairPlan.of(Plan((), (0, 1), 4, None, 0)).batch(0, [0.0, 0.0])
