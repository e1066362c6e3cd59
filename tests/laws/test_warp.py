"""Laws of bending labels by a network: bounded, alone, and by nothing but what is known."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch.nn.functional import one_hot

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.fields import warp_field
from labelmend.alignment.warp import CARRIED, WarpAligner, misfit, readings

from ..unit.alignment import oracle_warp as oracle
from ..unit.alignment.warp_scenes import Says, field_network, stirred

BATCH = 3
seeds = st.integers(0, 2**31)
spaces = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)
cases = st.fixed_dictionaries(
    {
        "moves": st.sampled_from(CARRIED),
        "diffeomorphic": st.booleans(),
        "grid": st.integers(1, 4),
        "reach": st.sampled_from([0.7, 2.0, 6.0]),
        "margin": st.sampled_from([0.0, 0.5]),
        "first": st.sampled_from([None, ShiftAligner(2, confidence=0.3, margin=0.0)]),
    }
)


def random_of(seed):
    return torch.Generator().manual_seed(seed)


def anything(continuous, space, seed, batch=BATCH):
    """Labels and predictions that have nothing to do with each other, or much, with gaps."""
    generator = random_of(seed)
    if continuous:
        label = torch.randn(batch, 2, *space, generator=generator).double()
        seen = 2 * label + 1
    else:
        label = torch.randint(0, 3, (batch, *space), generator=generator)
        seen = 5 * one_hot(label, 3).movedim(-1, 1).double()
    share = torch.rand(batch, *[1] * (seen.ndim - 1), generator=generator).double()
    seen = share * seen.roll(1, -1) + (1 - share) * torch.randn(seen.shape, generator=generator)
    valid = torch.rand(batch, *space, generator=generator) < 0.4 + share[:, 0]
    known = torch.rand(batch, *space, generator=generator) < 0.4 + share[:, 0]
    return seen, label, valid, known


def fresh(continuous, space):
    options = {"continuous": continuous, "channels": 2 if continuous else 3}
    return field_network(len(space), width=2, depth=1, **options).double()


def aligner_of(case, continuous, space, seed, by=0.3):
    return WarpAligner(stirred(fresh(continuous, space), by, seed), **case)


# ---------------------------------------------------------------- fields


@given(cases, st.booleans(), spaces, seeds, st.sampled_from([0.1, 100.0]))
def test_no_field_goes_further_than_its_reach(case, continuous, space, seed, by):
    seen, label, valid, _ = anything(continuous, space, seed)
    aligner = aligner_of(case, continuous, space, seed, by)
    field = aligner.propose(seen, label, valid).field
    assert field.shape == (BATCH, len(space), *space) and field.isfinite().all()
    assert field.abs().max() <= case["reach"] * (1 + 1e-9)


@given(cases, spaces, seeds)
def test_one_velocity_is_one_displacement(case, space, seed):
    seen, label, valid, _ = anything(False, space, seed)
    values = torch.randn(1, len(space), *[1] * len(space), generator=random_of(seed)).double()
    field = WarpAligner(Says(values, case["reach"]), **case).propose(seen, label, valid).field
    held = case["reach"] * torch.tanh(values / case["reach"])
    held = held if case["moves"] == "label" else -held
    torch.testing.assert_close(field, held.expand_as(field))


@given(cases, st.booleans(), spaces, st.permutations(range(BATCH)), seeds)
def test_the_order_and_company_of_samples_change_nothing(case, continuous, space, order, seed):
    seen, label, valid, known = anything(continuous, space, seed)
    aligner = aligner_of(case, continuous, space, seed)
    order = list(order)
    whole = aligner.propose(seen, label, valid, known=known)
    for which in (order, order[:1]):
        some = aligner.propose(seen[which], label[which], valid[which], known=known[which])
        for name in ("field", "before", "after", "gain"):
            ours, theirs = getattr(some, name), getattr(whole, name)[which]
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
        cost, costs = aligner.price(some), aligner.price(whole)
        torch.testing.assert_close(cost, costs[which], rtol=1e-6, atol=1e-9)


@given(cases, st.booleans(), spaces, seeds)
def test_what_is_not_known_changes_nothing(case, continuous, space, seed):
    seen, label, valid, known = anything(continuous, space, seed)
    aligner = aligner_of(case, continuous, space, seed)
    over = valid.unsqueeze(1) if continuous else valid
    one = aligner.cost(seen, torch.where(over, label, 0), valid, known=known)
    wild = torch.where(known.unsqueeze(1), seen, torch.nan)
    other = torch.where(over, label, torch.nan if continuous else 255)
    assert torch.equal(aligner.cost(wild, other, valid, known=known), one)
    assert one.isfinite().all()


# ---------------------------------------------------------------- labels


@given(cases, st.booleans(), spaces, seeds)
def test_a_label_is_where_the_search_put_it_or_where_its_field_says(case, continuous, space, seed):
    seen, label, valid, known = anything(continuous, space, seed)
    aligner = aligner_of(case, continuous, space, seed)
    found = aligner.searched(seen, label, valid, known=known)
    moved = aligner(seen, label, valid, known=known)
    if case["moves"] == "prediction":
        assert torch.equal(moved.label, found.label) and torch.equal(moved.valid, found.valid)
        assert torch.equal(moved.displacement, found.displacement)
        bent = moved.carry.flatten(1).any(1)
    else:
        way = found.displacement.view(*found.displacement.shape, *[1] * len(space))
        bent = (moved.displacement - way).flatten(1).any(1)
        to, there = warp_field(label, valid, moved.displacement)
        for k in range(BATCH):
            one, other = (to, there) if bent[k] else (found.label, found.valid)
            assert torch.equal(moved.label[k], one[k]) and torch.equal(moved.valid[k], other[k])
    stays = moved.gain == found.gain
    assert torch.equal(bent, ~stays)
    assert (moved.gain - found.gain)[bent].ge(max(case["margin"], 1e-12) * (1 - 1e-9)).all()
    for name in ("confidence", "reason"):
        assert torch.equal(getattr(moved, name)[stays], getattr(found, name)[stays])
    assert ((moved.confidence >= 0) & (moved.confidence <= 1)).all()
    over = moved.valid.unsqueeze(1) if continuous else moved.valid
    assert not torch.where(over, 0, moved.label).any()


@given(cases, st.booleans(), spaces, seeds)
def test_a_fresh_network_changes_nothing(case, continuous, space, seed):
    seen, label, valid, known = anything(continuous, space, seed)
    aligner = WarpAligner(fresh(continuous, space), **case)
    proposal = aligner.propose(seen, label, valid, known=known)
    assert not proposal.field.any() and not proposal.gain.any()
    assert torch.equal(proposal.before, proposal.after)
    found, moved = aligner.searched(seen, label, valid), aligner(seen, label, valid)
    for name in ("label", "valid", "confidence", "gain", "reason"):
        assert torch.equal(getattr(moved, name), getattr(found, name)), name


# ---------------------------------------------------------------- misfits


@settings(max_examples=50)
@given(st.booleans(), spaces, seeds)
def test_a_misfit_is_what_least_squares_leave(continuous, space, seed):
    seen, label, valid, known = anything(continuous, space, seed)
    one, other = readings(seen, label, valid)
    left, whole = misfit(one, other, valid & known)
    expected, total = oracle.misfit(one, other, valid & known)
    torch.testing.assert_close(left, torch.tensor(expected), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(whole, torch.tensor(total), rtol=1e-9, atol=1e-9)


@given(st.booleans(), spaces, seeds, st.floats(0.1, 10), st.floats(-5, 5))
def test_a_misfit_does_not_see_scale_and_offset(continuous, space, seed, times, more):
    seen, label, valid, _ = anything(continuous, space, seed)
    one, other = readings(seen, label, valid)
    left, whole = misfit(one, other, valid)
    assert ((left >= -1e-9) & (left <= 2 + 1e-9)).all() and (whole >= 0).all()
    again, _ = misfit(times * one + more, other, valid)
    torch.testing.assert_close(again, left, rtol=1e-6, atol=1e-6)
    again, larger = misfit(one, times * other + more, valid)
    torch.testing.assert_close(again, left, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(larger, times**2 * whole, rtol=1e-6, atol=1e-6)
    against, _ = misfit(-one, other, valid)
    torch.testing.assert_close(against, torch.where(whole > 0, 2 - left, 1), rtol=1e-6, atol=1e-6)
    itself, _ = misfit(times * other + more, other, valid)
    assert (itself[whole > 1e-9].abs() < 1e-6).all()
