"""Laws of cutting images into one another: what is left out is gone, what is drawn is there."""

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import assume, given

from labelmend.mixing import NO_CLASS, class_mask, draw_class, mix, soften

seeds = st.integers(0, 2**31)
spaces = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
batches = st.integers(1, 5)
kinds = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.int64, torch.bool])
floats = st.sampled_from([torch.float64, torch.float32])
shares = st.sampled_from([0.0, 0.1, 0.6, 1.1])
either = st.booleans()
deviations = st.sampled_from([0.3, 0.5, 1.0, 2.5, 8.0])
JUST_BELOW = {
    torch.float32: float(np.nextafter(np.float32(1), np.float32(0))),
    torch.float64: float(np.nextafter(1.0, 0.0)),
}


def random_of(seed):
    return torch.Generator().manual_seed(seed)


def values(kind, shape, seed):
    """Numbers of any kind; among floating ones there are NaN and infinities."""
    generator = random_of(seed)
    if kind == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if kind == torch.int64:
        return torch.randint(-(2**62), 2**62, shape, generator=generator)
    found = 10 * torch.randn(shape, generator=generator, dtype=torch.float64)
    strange = torch.tensor([torch.nan, torch.inf, -torch.inf, 6e4])
    where = torch.rand(shape, generator=generator) < 0.2
    which = torch.randint(0, 4, shape, generator=generator)
    return torch.where(where, strange[which].double(), found).to(kind)


def masks(batch, space, seed):
    return torch.rand(batch, *space, generator=random_of(seed)) < 0.5


def labels(batch, space, seed, classes=4):
    """Some lack classes, and some positions hold numbers that are of no class but not valid."""
    generator = random_of(seed)
    there = torch.rand(batch, classes, generator=generator) < 0.5
    there[:, 0] |= ~there.any(1)
    where = torch.multinomial(
        there.double(), int(np.prod(space)), replacement=True, generator=generator
    )
    label = where.reshape(batch, *space)
    valid = (
        torch.rand(batch, *space, generator=generator) < torch.rand((), generator=generator) + 0.2
    )
    return torch.where(valid, label, 255), valid


def same(one, other):
    """To the bit, where NaN is NaN."""
    assert one.dtype == other.dtype and one.shape == other.shape
    if one.is_floating_point():
        return torch.equal(one.isnan(), other.isnan()) and torch.equal(
            one.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf),
            other.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf),
        )
    return torch.equal(one, other)


# ---------------------------------------------------------------- mix


@given(kinds, batches, st.sampled_from([None, 1, 3]), spaces, seeds, either)
def test_a_full_mask_is_the_first_and_an_empty_one_the_second(
    kind, batch, channels, space, seed, blended
):
    shape = (batch, *(() if channels is None else (channels,)), *space)
    one, other = values(kind, shape, seed), values(kind, shape, seed + 1)
    full = torch.ones(batch, *space, dtype=torch.float32 if blended else torch.bool)
    assert same(mix(one, other, full), one)
    assert same(mix(one, other, torch.zeros_like(full)), other)


@given(kinds, batches, st.sampled_from([None, 1, 3]), spaces, seeds)
def test_exchanging_both_and_turning_the_mask_round_changes_nothing(
    kind, batch, channels, space, seed
):
    shape = (batch, *(() if channels is None else (channels,)), *space)
    one, other = values(kind, shape, seed), values(kind, shape, seed + 1)
    mask = masks(batch, space, seed)
    assert same(mix(one, other, mask), mix(other, one, ~mask))


@given(kinds, batches, st.sampled_from([None, 2]), spaces, seeds, either)
def test_what_the_mask_leaves_out_does_not_reach_the_result(
    kind, batch, channels, space, seed, blended
):
    shape = (batch, *(() if channels is None else (channels,)), *space)
    one, other, unseen = (values(kind, shape, seed + n) for n in range(3))
    mask = masks(batch, space, seed)
    over = mask if channels is None else mask.unsqueeze(1)
    drawn = mask.double() if blended else mask
    hidden = torch.where(over, one, unseen), torch.where(over, unseen, other)
    assert same(mix(*hidden, drawn), mix(one, other, drawn))
    assert same(mix(*hidden, drawn), torch.where(over, one, other))


@given(floats, batches, st.sampled_from([None, 3]), spaces, seeds)
def test_a_blend_lies_between_the_two_and_leans_as_its_share_says(
    kind, batch, channels, space, seed
):
    generator = random_of(seed)
    shape = (batch, *(() if channels is None else (channels,)), *space)
    one, other = 100 * torch.randn(2, *shape, generator=generator, dtype=kind)
    share = torch.rand(batch, *space, generator=generator, dtype=kind)
    mixed = mix(one, other, share)
    slack = 4 * torch.finfo(kind).eps * torch.maximum(one.abs(), other.abs())
    assert (mixed >= torch.minimum(one, other) - slack).all()
    assert (mixed <= torch.maximum(one, other) + slack).all()
    over = share if channels is None else share.unsqueeze(1)
    wanted = over * one + (1 - over) * other
    torch.testing.assert_close(mixed, wanted, rtol=1e-5, atol=1e-4)


@given(batches, spaces, seeds, st.sampled_from([torch.int64, torch.bool]))
def test_what_cannot_be_blended_is_of_the_first_from_a_half_on(batch, space, seed, kind):
    share = torch.randint(0, 5, (batch, *space), generator=random_of(seed)) / 4
    one, other = values(kind, (batch, *space), seed), values(kind, (batch, *space), seed + 1)
    assert same(mix(one, other, share), mix(one, other, share >= 0.5))


@given(batches, st.integers(1, 3), spaces, seeds, either, st.data())
def test_one_mask_for_all_goes_with_flips_and_orders_of_batch_and_axes(
    batch, channels, space, seed, blended, data
):
    mask = masks(batch, space, seed)
    if blended:
        mask = soften(mask, 1.0)
    both = [
        (
            values(torch.float32, (batch, channels, *space), seed + n),
            values(torch.int64, (batch, *space), seed + n),
            values(torch.bool, (batch, *space), seed + n),
            values(torch.float64, (batch,), seed + n),
        )
        for n in (1, 2)
    ]
    axis = data.draw(st.integers(1, len(space)))
    order = torch.tensor(data.draw(st.permutations(range(batch))))
    axes = data.draw(st.permutations(range(1, len(space) + 1)))

    def ordered(tensor, extra):
        return tensor.permute(0, *range(1, 1 + extra), *(extra + a for a in axes))

    for number, (one, other) in enumerate(zip(*both, strict=True)):
        mixed, extra = mix(one, other, mask), int(number == 0)
        assert same(mix(one[order], other[order], mask[order]), mixed[order])
        if one.ndim == 1:
            assert same(mix(one, other, mask.flip(axis)), mixed.flip(axis))
            assert same(mix(one, other, ordered(mask, 0)), ordered(mixed, 0))
            continue
        flipped = mix(one.flip(axis + extra), other.flip(axis + extra), mask.flip(axis))
        assert same(flipped, mixed.flip(axis + extra))
        turned = mix(ordered(one, extra), ordered(other, extra), ordered(mask, 0))
        assert same(turned, ordered(mixed, extra))


@given(batches, spaces, seeds, floats)
def test_a_number_per_sample_is_that_number_at_every_position(batch, space, seed, kind):
    mask = masks(batch, space, seed)
    one, other = torch.rand(2, batch, generator=random_of(seed), dtype=kind)

    def spread(numbers):
        return numbers.reshape(-1, *(1,) * len(space)).expand(batch, *space)

    assert same(mix(one, other, mask), mix(spread(one), spread(other), mask))


# ---------------------------------------------------------------- draw_class


def classes_of(label, valid, background):
    """By each label: the classes that its valid positions have, in order."""
    return [
        sorted({v for v, known in zip(one.flatten().tolist(), there.flatten().tolist(), strict=True)
                if known and (background or v > 0)})
        for one, there in zip(label, valid, strict=True)
    ]  # fmt: skip


@given(batches, spaces, seeds, either, floats, st.floats(0, 1, exclude_max=True))
def test_a_class_that_is_drawn_is_there_and_none_only_where_there_is_none(
    batch, space, seed, background, kind, number
):
    label, valid = labels(batch, space, seed)
    for u in (number, 0.0, JUST_BELOW[kind]):
        uniform = torch.full((batch,), u, dtype=kind).clamp(max=JUST_BELOW[kind])
        drawn = draw_class(label, valid, 4, uniform, background=background)
        assert drawn.shape == (batch,) and drawn.dtype == torch.int64
        for chosen, there in zip(drawn.tolist(), classes_of(label, valid, background), strict=True):
            assert chosen in there if there else chosen == NO_CLASS


@given(spaces, seeds, either, floats)
def test_every_class_that_is_there_is_drawn_equally_often(space, seed, background, kind):
    label, valid = labels(1, space, seed)
    there = classes_of(label, valid, background)[0]
    assume(there)
    grid = (torch.arange(12 * 7, dtype=kind) + 0.5) / (12 * 7)
    many = [tensor.expand(len(grid), *space) for tensor in (label[0], valid[0])]
    drawn = draw_class(*many, 4, grid, background=background).tolist()
    assert [drawn.count(c) for c in there] == [len(grid) // len(there)] * len(there)


@given(batches, spaces, seeds, st.data())
def test_a_label_is_drawn_from_alone_whatever_stands_beside_it(batch, space, seed, data):
    label, valid = labels(batch, space, seed)
    uniform = torch.rand(batch, generator=random_of(seed))
    order = torch.tensor(data.draw(st.permutations(range(batch))))
    drawn = draw_class(label, valid, 4, uniform)
    assert torch.equal(draw_class(label[order], valid[order], 4, uniform[order]), drawn[order])
    # A number per class more changes nothing where there are no positions of it.
    assert torch.equal(draw_class(label, valid, 9, uniform), drawn)


# ---------------------------------------------------------------- class_mask


@given(batches, spaces, seeds)
def test_the_masks_of_all_classes_divide_what_is_valid(batch, space, seed):
    label, valid = labels(batch, space, seed)
    each = torch.stack([class_mask(label, valid, c) for c in range(4)])
    assert each.dtype == torch.bool
    assert torch.equal(each.long().sum(0), valid.long())
    assert (label[valid] == each.long().argmax(0)[valid]).all()
    assert not class_mask(label, valid, NO_CLASS).any()


@given(batches, spaces, seeds)
def test_a_class_per_label_is_that_class_alone(batch, space, seed):
    label, valid = labels(batch, space, seed)
    chosen = torch.randint(-1, 4, (batch,), generator=random_of(seed))
    mask = class_mask(label, valid, chosen)
    for k in range(batch):
        alone = class_mask(label[k : k + 1], valid[k : k + 1], int(chosen[k]))
        assert torch.equal(mask[k : k + 1], alone)


# ---------------------------------------------------------------- soften


@given(batches, spaces, seeds, deviations)
def test_full_and_empty_masks_stay_and_all_stays_between(batch, space, seed, deviation):
    full = torch.ones(batch, *space, dtype=torch.bool)
    kept = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(soften(full, deviation), full.float(), **kept)
    torch.testing.assert_close(soften(~full, deviation), torch.zeros(batch, *space), **kept)
    soft = soften(masks(batch, space, seed), deviation)
    assert soft.dtype == torch.float32 and soft.shape == full.shape
    assert ((soft >= 0) & (soft <= 1)).all()


@given(batches, spaces, seeds, deviations, st.data())
def test_softening_goes_with_flips_and_orders_and_the_rest_is_what_is_missing(
    batch, space, seed, deviation, data
):
    mask = masks(batch, space, seed)
    soft, near = soften(mask, deviation), {"rtol": 0, "atol": 2e-6}
    axis = data.draw(st.integers(1, len(space)))
    axes = (0, *data.draw(st.permutations(range(1, len(space) + 1))))
    order = torch.tensor(data.draw(st.permutations(range(batch))))
    torch.testing.assert_close(soften(mask.flip(axis), deviation), soft.flip(axis), **near)
    torch.testing.assert_close(soften(mask.permute(axes), deviation), soft.permute(axes), **near)
    torch.testing.assert_close(soften(mask[order], deviation), soft[order], **near)
    torch.testing.assert_close(soften(~mask, deviation), 1 - soft, **near)


@given(batches, spaces, seeds)
def test_no_deviation_is_the_mask_itself(batch, space, seed):
    mask = masks(batch, space, seed)
    assert torch.equal(soften(mask, 0), mask.float())


@given(st.integers(1, 3), st.integers(2, 6), st.sampled_from([0.5, 1.0, 2.0]))
def test_the_border_is_where_it_was_and_falls_off_on_both_sides(dims, half, deviation):
    mask = torch.zeros(1, 2 * half, *(3,) * (dims - 1), dtype=torch.bool)
    mask[:, half:] = True
    soft = soften(mask, deviation)
    assert torch.equal(soft > 0.5, mask)
    line = soft[0].reshape(2 * half, -1)[:, 0]
    assert (line.diff() >= -1e-6).all() and line[half] - line[half - 1] < 1
