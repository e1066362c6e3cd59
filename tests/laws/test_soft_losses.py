import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from labelmend.losses import SOFT_LOSSES, make_loss, make_soft_loss

names = st.sampled_from(SOFT_LOSSES)
either = st.booleans()  # by class or not
seeds = st.integers(0, 2**31)
spaces = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
batches = st.integers(1, 6)
numbers = st.integers(2, 5)  # of classes
shares = st.sampled_from([0.0, 0.2, 0.8, 1.1])


def draw(batch, space, share, seed, classes=3):
    """Targets are between one-hot and nearly even, and some lack a class."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, batch, classes, *space)
    logits, other = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    target = (3 * torch.rand((), generator=generator) * other).softmax(1)
    there = torch.rand(batch, classes, *(1,) * len(space), generator=generator) < 0.8
    there[:, 0] = True
    target = target * there
    target /= target.sum(1, keepdim=True)
    return logits, target, torch.rand(batch, *space, generator=generator) < share


@settings(max_examples=400)
@given(names, either, batches, numbers, spaces, shares, seeds)
def test_a_sure_target_costs_what_its_label_costs(
    name, by_class, batch, classes, space, share, seed
):
    logits, target, valid = draw(batch, space, share, seed, classes)
    label = target.argmax(1)
    sure = torch.zeros_like(target).scatter_(1, label.unsqueeze(1), 1)
    soft, hard = make_soft_loss(name, by_class=by_class), make_loss(name, by_class=by_class)
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        z = logits.to(dtype).requires_grad_()
        pair = soft(z, sure.to(dtype), valid), hard(z, label, valid)
        torch.testing.assert_close(*pair, rtol=close, atol=close)
        rate = torch.linspace(0.5, 2, pair[0].numel(), dtype=dtype).view_as(pair[0])
        slopes = [torch.autograd.grad((rate * value).sum(), z)[0] for value in pair]
        torch.testing.assert_close(*slopes, rtol=close, atol=close)


@settings(max_examples=200)
@given(names, either, batches, spaces, shares, seeds)
def test_permuting_the_batch_permutes_the_losses(name, by_class, batch, space, share, seed):
    inputs = draw(batch, space, share, seed)
    loss = make_soft_loss(name, by_class=by_class)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    value = loss(*inputs)
    assert torch.equal(loss(*(t[order] for t in inputs)), value[order])
    assert torch.equal(loss(*(t[:1] for t in inputs)), value[:1])


@settings(max_examples=200)
@given(names, either, batches, spaces, shares, seeds)
def test_what_stands_at_ignored_positions_does_not_matter(
    name, by_class, batch, space, share, seed
):
    logits, target, valid = draw(batch, space, share, seed)
    other_logits, other_target, _ = draw(batch, space, share, seed + 1)
    known = valid[:, None]
    other_logits = torch.where(known, logits, 1e300 * other_logits)
    other_target = torch.where(known, target, -1e300 * other_target)
    loss = make_soft_loss(name, by_class=by_class)
    assert torch.equal(loss(other_logits, other_target, valid), loss(logits, target, valid))


@given(names, either, spaces, seeds, st.integers(1, 4), st.floats(-9, 9))
def test_padding_that_is_not_valid_changes_nothing(name, by_class, space, seed, more, value):
    logits, target, valid = draw(3, space, 0.8, seed)
    grow = (more, more + 1) * len(space)
    padded = (
        torch.nn.functional.pad(logits, grow, value=value),
        torch.nn.functional.pad(target, grow, value=value),
        torch.nn.functional.pad(valid, grow, value=False),
    )
    loss = make_soft_loss(name, by_class=by_class)
    torch.testing.assert_close(loss(*padded), loss(logits, target, valid), rtol=1e-12, atol=1e-12)


@given(names, either, batches, spaces, shares, seeds)
def test_a_sample_beside_itself_costs_the_same(name, by_class, batch, space, share, seed):
    inputs = draw(batch, space, share, seed)
    loss = make_soft_loss(name, by_class=by_class)
    twice = loss(*(torch.cat([t, t], -1) for t in inputs))
    torch.testing.assert_close(twice, loss(*inputs), rtol=1e-12, atol=1e-12)


@given(names, either, batches, spaces, shares, seeds)
def test_never_negative_and_never_above_its_bound(name, by_class, batch, space, share, seed):
    value = make_soft_loss(name, by_class=by_class)(*draw(batch, space, share, seed))
    assert (value >= 0).all()
    if name in ("dice", "l1", "l2"):
        assert (value <= 1 + 1e-12).all()


@settings(max_examples=200)
@given(names, batches, numbers, spaces, shares, seeds)
def test_the_classes_add_up_to_the_loss_and_so_do_their_slopes(
    name, batch, classes, space, share, seed
):
    logits, target, valid = draw(batch, space, share, seed, classes)
    towards = torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)).double()

    def both(z):
        columns = make_soft_loss(name, by_class=True)(z, target, valid)
        return columns.sum(1), make_soft_loss(name)(z, target, valid)

    values, slopes = torch.func.jvp(both, (logits,), (towards,))
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)


@settings(max_examples=200)
@given(
    st.sampled_from(["cross_entropy", "dice", "dice_ce", "l1", "l2"]),
    batches,
    numbers,
    spaces,
    shares,
    seeds,
)
def test_no_logits_cost_less_than_those_of_the_target(name, batch, classes, space, share, seed):
    logits, target, valid = draw(batch, space, share, seed, classes)
    loss = make_soft_loss(name)
    least = loss(target.log(), target, valid)
    assert (loss(logits, target, valid) >= least - 1e-12).all()
    near = loss(target.clamp(min=1e-9).log() + 0.01 * logits, target, valid)
    assert (near >= least - 1e-12).all()


@given(st.sampled_from(["cross_entropy", "l1", "l2"]), st.permutations(range(3)), spaces, seeds)
def test_renaming_classes_permutes_the_columns(name, order, space, seed):
    logits, target, valid = draw(3, space, 0.8, seed)
    loss, order = make_soft_loss(name, by_class=True), torch.tensor(order)
    renamed = loss(logits[:, order], target[:, order], valid)
    value = loss(logits, target, valid)[:, order]
    torch.testing.assert_close(renamed, value, rtol=1e-12, atol=1e-12)


@given(st.sampled_from(["dice", "binary_cross_entropy", "dice_ce"]), spaces, seeds)
def test_renaming_foreground_classes_permutes_their_columns(name, space, seed):
    logits, target, valid = draw(3, space, 0.8, seed)
    loss, order = make_soft_loss(name, by_class=True), torch.tensor([0, 2, 1])
    renamed = loss(logits[:, order], target[:, order], valid)
    value = loss(logits, target, valid)[:, order]
    torch.testing.assert_close(renamed, value, rtol=1e-12, atol=1e-12)


@given(st.sampled_from(["cross_entropy", "binary_cross_entropy"]), spaces, shares, seeds)
def test_a_mixed_target_costs_the_mixed_losses(name, space, share, seed):
    logits, target, valid = draw(2, space, share, seed)
    _, other, _ = draw(2, space, share, seed + 1)
    loss = make_soft_loss(name, by_class=True)
    mixed = loss(logits, 0.3 * target + 0.7 * other, valid)
    apart = 0.3 * loss(logits, target, valid) + 0.7 * loss(logits, other, valid)
    torch.testing.assert_close(mixed, apart, rtol=1e-12, atol=1e-12)
