import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from labelmend.losses import LOSSES, REGRESSION_LOSSES, make_loss, present

CASES = [(name, False) for name in LOSSES] + [(name, True) for name in REGRESSION_LOSSES]
cases = st.sampled_from(CASES)
either = st.booleans()  # by class or not
seeds = st.integers(0, 2**31)
spaces = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
batches = st.integers(1, 6)
shares = st.sampled_from([0.0, 0.2, 0.8, 1.1])


def draw(continuous, batch, space, share, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, 3, *space, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 3, (batch, *space), generator=generator)
    if continuous:
        label = torch.randn(batch, 3, *space, generator=generator, dtype=torch.float64)
    return logits, label, torch.rand(batch, *space, generator=generator) < share


@settings(max_examples=400)
@given(cases, either, batches, spaces, shares, seeds)
def test_permuting_the_batch_permutes_the_losses(case, by_class, batch, space, share, seed):
    inputs = draw(case[1], batch, space, share, seed)
    loss = make_loss(case[0], by_class=by_class)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    value = loss(*inputs)
    assert torch.equal(loss(*(t[order] for t in inputs)), value[order])
    assert torch.equal(loss(*(t[:1] for t in inputs)), value[:1])


@settings(max_examples=200)
@given(cases, either, batches, spaces, shares, seeds)
def test_what_stands_at_ignored_positions_does_not_matter(
    case, by_class, batch, space, share, seed
):
    logits, label, valid = draw(case[1], batch, space, share, seed)
    other_logits, other_label, _ = draw(case[1], batch, space, share, seed + 1)
    other_logits = torch.where(valid[:, None], logits, 1e300 * other_logits)
    known = valid[:, None] if case[1] else valid
    other_label = torch.where(known, label, 1000 * other_label)
    loss = make_loss(case[0], by_class=by_class)
    assert torch.equal(loss(other_logits, other_label, valid), loss(logits, label, valid))
    assert torch.equal(present(other_label, valid, 3), present(label, valid, 3))


@settings(max_examples=30)
@given(cases, spaces, seeds)
def test_dividing_the_batch_changes_nothing(case, space, seed):
    logits, label, _ = draw(case[1], 8, space, 1.1, seed)
    # every sample ignores another share of itself, one of them everything
    generator = torch.Generator().manual_seed(seed)
    share = torch.linspace(0, 1, 8).view(-1, *(1,) * len(space))
    valid = torch.rand(8, *space, generator=generator) < share
    loss, rate = make_loss(case[0]), torch.rand(8, generator=generator, dtype=torch.float64)
    sums = []
    for part in (8, 4, 2, 1):
        z = logits.clone().requires_grad_()
        total = sum(
            (
                rate[i : i + part] * loss(z[i : i + part], label[i : i + part], valid[i : i + part])
            ).sum()
            for i in range(0, 8, part)
        )
        sums.append((total, torch.autograd.grad(total, z)[0]))
    for total, gradient in sums[1:]:
        torch.testing.assert_close(total, sums[0][0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, sums[0][1], rtol=1e-12, atol=1e-12)


@given(cases, either, spaces, seeds, st.integers(1, 4), st.floats(-9, 9))
def test_padding_that_is_not_valid_changes_nothing(case, by_class, space, seed, more, value):
    logits, label, valid = draw(case[1], 3, space, 0.8, seed)
    grow = (more, more + 1) * len(space)
    padded = (
        torch.nn.functional.pad(logits, grow, value=value),
        torch.nn.functional.pad(label, grow, value=int(value)),
        torch.nn.functional.pad(valid, grow, value=False),
    )
    loss = make_loss(case[0], by_class=by_class)
    torch.testing.assert_close(loss(*padded), loss(logits, label, valid), rtol=1e-12, atol=1e-12)


@given(cases, either, batches, spaces, shares, seeds)
def test_a_sample_beside_itself_costs_the_same(case, by_class, batch, space, share, seed):
    inputs = draw(case[1], batch, space, share, seed)
    loss = make_loss(case[0], by_class=by_class)
    twice = loss(*(torch.cat([t, t], -1) for t in inputs))
    torch.testing.assert_close(twice, loss(*inputs), rtol=1e-12, atol=1e-12)


@given(cases, either, batches, spaces, shares, seeds)
def test_never_negative_and_never_above_its_bound(case, by_class, batch, space, share, seed):
    value = make_loss(case[0], by_class=by_class)(*draw(case[1], batch, space, share, seed))
    assert (value >= 0).all()
    if case[0] == "dice" or (case[0] in REGRESSION_LOSSES and not case[1]):
        assert (value <= 1).all()


@settings(max_examples=200)
@given(cases, batches, spaces, shares, seeds)
def test_the_classes_add_up_to_the_loss_and_so_do_their_slopes(case, batch, space, share, seed):
    logits, label, valid = draw(case[1], batch, space, share, seed)
    towards = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)).double()

    def both(z):
        columns = make_loss(case[0], by_class=True)(z, label, valid)
        return columns.sum(1), make_loss(case[0])(z, label, valid)

    values, slopes = torch.func.jvp(both, (logits,), (towards,))
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)
    rate = torch.linspace(0.5, 2, batch, dtype=torch.float64)
    logits.requires_grad_()
    apart, whole = (torch.autograd.grad((rate * v).sum(), logits)[0] for v in both(logits))
    torch.testing.assert_close(apart, whole, rtol=1e-12, atol=1e-12)


@settings(max_examples=200)
@given(
    st.sampled_from(["cross_entropy", "focal", "l1", "l2"]),
    st.permutations(range(3)),
    batches,
    spaces,
    shares,
    seeds,
)
def test_renaming_classes_permutes_the_columns(name, order, batch, space, share, seed):
    logits, label, valid = draw(False, batch, space, share, seed)
    order, loss = torch.tensor(order), make_loss(name, by_class=True)
    # column i is what was class order[i]
    renamed = loss(logits[:, order], order.argsort()[label], valid)
    value = loss(logits, label, valid)
    torch.testing.assert_close(renamed, value[:, order], rtol=1e-12, atol=1e-12)


@given(st.sampled_from(["dice", "binary_cross_entropy", "dice_ce"]), batches, spaces, shares, seeds)
def test_renaming_foreground_classes_permutes_their_columns(name, batch, space, share, seed):
    logits, label, valid = draw(False, batch, space, share, seed)
    order, loss = torch.tensor([0, 2, 1]), make_loss(name, by_class=True)
    renamed = loss(logits[:, order], order[label], valid)
    value = loss(logits, label, valid)
    torch.testing.assert_close(renamed, value[:, order], rtol=1e-12, atol=1e-12)


@given(batches, spaces, shares, seeds)
def test_what_is_there_is_what_costs_cross_entropy(batch, space, share, seed):
    logits, label, valid = draw(False, batch, space, share, seed)
    columns = make_loss("cross_entropy", by_class=True)(logits, label, valid)
    assert torch.equal(present(label, valid, 3), columns > 0)


@pytest.mark.parametrize(("name", "continuous"), CASES)
def test_a_step_against_the_gradient_is_a_gain(name, continuous):
    logits, label, valid = draw(continuous, 4, (5, 5), 0.8, 3)
    loss = make_loss(name)
    (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), label, valid).sum(), logits)
    assert (loss(logits - 0.01 * gradient, label, valid) < loss(logits, label, valid)).all()
