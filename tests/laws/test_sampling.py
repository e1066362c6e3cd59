"""Laws of sampling: nothing lost, nothing doubled, on any number of processes, from any step."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from labelmend.data.sampling import Plan


@st.composite
def plans(draw):
    strong, weak = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    places = draw(st.permutations(range(strong + weak)))
    share = draw(st.one_of(st.none(), st.floats(0.01, 0.99)))
    if not places:
        strong, places = 1, [0]
    size, seed = draw(st.integers(2, 16)), draw(st.integers(0, 2**31 - 1))
    return Plan(tuple(places[:strong]), tuple(places[strong:]), size, share, seed)


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
