"""What a weight is: laws of the table, and of what a weight does to a training step."""

from __future__ import annotations

import functools

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from labelmend.losses import LOSSES, REGRESSION_LOSSES, make_loss
from labelmend.training.objective import Objective, Parcel
from labelmend.types import Batch
from labelmend.weighting.rules import RULES, Limits
from labelmend.weighting.weights import WeightTable

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 12)
classes_ = st.sampled_from([None, 1, 3])
names = st.sampled_from(sorted(RULES))
rates = st.floats(1e-3, 10)
limits_ = st.builds(
    Limits,
    highest=st.sampled_from([1.0, 2.0]),
    mean=st.sampled_from([None, (0.4, 0.6), (0.5, 0.5), (0.0, 0.2), (0.9, 1.0)]),
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def updates(size, columns, seed, rounds=3, spread=3.0):
    """Which samples are judged at each weight step, and what speaks for them."""
    g = generator(seed)
    for _ in range(rounds):
        index = torch.nonzero(torch.rand(size, generator=g) < 0.6).flatten()
        shape = (len(index),) if columns is None else (len(index), columns)
        yield index, spread * torch.randn(shape, generator=g, dtype=torch.float64)


def begun(size, seed, columns=None, limits=None, pool=None):
    g = generator(seed + 1)
    strong = torch.rand(size, generator=g) < 0.3
    initial = torch.rand(size, generator=g, dtype=torch.float64)
    return WeightTable.start(strong, initial, limits=limits, classes=columns, pool=pool)


# ---------------------------------------------------------------------- the table


@given(sizes, seeds, classes_, names, rates, limits_, st.booleans())
def test_weights_keep_their_limits_and_strong_ones_stay_at_1(
    size, seed, columns, name, rate, limits, pooled
):
    pool = torch.randint(0, 3, (size,), generator=generator(seed)) if pooled else None
    table = begun(size, seed, columns, limits, pool)
    for index, evidence in updates(size, columns, seed):
        table.update(index, evidence, RULES[name], rate)
        assert (table.weight[~table.learns] == 1).all()
        weak = table.weight[table.learns]
        assert (weak >= 0).all() and (weak <= limits.highest).all()
        if limits.mean is not None and weak.numel():
            least, most = limits.mean
            assert least - 1e-12 <= weak.mean() <= most + 1e-12


@given(sizes, seeds, classes_, names, limits_)
def test_permuting_the_samples_permutes_their_weights(size, seed, columns, name, limits):
    order = torch.randperm(size, generator=generator(seed))
    straight = begun(size, seed, columns, limits)
    # Sample i of the other table is sample order[i] of this one.
    first = straight.weight[order].reshape(size, -1)[:, 0]
    other = WeightTable.start(~straight.learns[order], first, limits=limits, classes=columns)
    for index, evidence in updates(size, columns, seed):
        straight.update(index, evidence, RULES[name], 0.1)
        other.update(order.argsort()[index], evidence, RULES[name], 0.1)
    torch.testing.assert_close(other.weight, straight.weight[order], rtol=0, atol=1e-9)
    for kept, values in straight.memory.items():
        torch.testing.assert_close(other.memory[kept], values[order], rtol=1e-9, atol=1e-9)


@given(sizes, seeds, names)
def test_the_order_within_a_weight_step_does_not_matter(size, seed, name):
    straight, other = begun(size, seed), begun(size, seed)
    for index, evidence in updates(size, None, seed):
        order = torch.randperm(len(index), generator=generator(seed))
        straight.update(index, evidence, RULES[name], 0.1)
        other.update(index[order], evidence[order], RULES[name], 0.1)
    torch.testing.assert_close(other.weight, straight.weight, rtol=0, atol=1e-9)


@given(sizes, seeds, classes_, names, limits_)
def test_those_who_share_a_weight_have_the_same_whoever_is_judged(
    size, seed, columns, name, limits
):
    pool = torch.randint(-2, 3, (size,), generator=generator(seed))
    table = begun(size, seed, columns, limits, pool)
    for index, evidence in updates(size, columns, seed, rounds=4):
        before = table.weight
        table.update(index, evidence, RULES[name], 0.1)
        judged = set(pool[index[table.learns[index]]].tolist())
        for number in pool.unique().tolist():
            members = table.weight[table.learns & (pool == number)]
            assert (members == members[:1]).all()
            if number not in judged and limits.mean is None:
                assert torch.equal(members, before[table.learns & (pool == number)])


@given(sizes, seeds, names, st.integers(1, 3), limits_)
def test_a_restart_anywhere_changes_no_bit(size, seed, name, at, limits):
    through, stopped = begun(size, seed, limits=limits), begun(size, seed, limits=limits)
    for number, (index, evidence) in enumerate(updates(size, None, seed, rounds=4)):
        if number == at:
            saved = stopped.state()
            stopped = begun(size, seed, limits=limits)
            stopped.restore(saved)
        for table in (through, stopped):
            table.update(index, evidence, RULES[name], 0.1)
            table.note(index, evidence, evidence.abs(), step=number)
    torch.testing.assert_close(stopped.state(), through.state(), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(stopped.drawn_by(3), through.drawn_by(3))


# ---------------------------------------------------------------------- what a weight means

CASES = [(name, "segmentation") for name in LOSSES]
CASES += [(name, "regression") for name in REGRESSION_LOSSES]
cases = st.sampled_from(CASES)
batches = st.integers(2, 5)


@functools.cache
def network() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Conv1d(1, 3, 3, padding=1).double()


def drawn(task, size, seed) -> Batch:
    g = generator(seed)
    image = torch.randn(size, 1, 9, generator=g, dtype=torch.float64)
    label = torch.randint(0, 3, (size, 9), generator=g)
    if task == "regression":
        label = torch.randn(size, 3, 9, generator=g, dtype=torch.float64)
    return Batch(image, label, torch.rand(size, 9, generator=g) < 0.8, torch.arange(size))


def at(batch: Batch, places) -> Batch:
    return Batch(*(t[places] for t in (batch.image, batch.label, batch.valid, batch.index)))


def step(case, batch: Batch, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """What a training step goes by: the value of the objective and its gradient."""
    name, task = case
    objective = Objective(make_loss(name, task, by_class=weight.ndim == 2))
    net = network()
    total = objective(
        {"main": net}, Parcel(batch, weight, scale, 0, torch.ones(len(batch)) > 0)
    ).total
    return torch.cat([total[None], *map(torch.flatten, gradients(total, net))]).detach()


def gradients(total, net):
    return torch.autograd.grad(total, list(net.parameters()))


def weights_of(size, seed, by_class):
    shape = (size, 3) if by_class else (size,)
    weight = 2 * torch.rand(shape, generator=generator(seed + 2), dtype=torch.float64)
    return weight, 0.1 + torch.rand(size, generator=generator(seed + 3), dtype=torch.float64)


def alike(one, other):
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@settings(max_examples=200)
@given(cases, st.booleans(), batches, seeds)
def test_weight_0_is_a_sample_removed(case, by_class, size, seed):
    batch, (weight, scale) = drawn(case[1], size, seed), weights_of(size, seed, by_class)
    weight[0] = 0
    rest = torch.arange(1, size)
    alike(step(case, batch, weight, scale), step(case, at(batch, rest), weight[rest], scale[rest]))


@settings(max_examples=200)
@given(cases, st.booleans(), batches, seeds)
def test_weight_2_is_a_sample_twice(case, by_class, size, seed):
    batch, (weight, scale) = drawn(case[1], size, seed), weights_of(size, seed, by_class)
    weight[0] = 1
    twice = torch.tensor([0, *range(size)])
    two = step(case, at(batch, twice), weight[twice], scale[twice])
    weight[0] = 2
    alike(step(case, batch, weight, scale), two)
    weight[0] = 1
    assert not torch.allclose(step(case, batch, weight, scale), two) or not batch.valid[0].any()


@settings(max_examples=200)
@given(cases, st.integers(0, 2), batches, seeds)
def test_weight_0_of_a_class_removes_it_and_2_takes_it_twice(case, c, size, seed):
    batch, (weight, scale) = drawn(case[1], size, seed), weights_of(size, seed, True)
    only = torch.zeros_like(weight)
    only[0, c] = 1
    alone = step(case, batch, only, scale)
    weight[0, c] = 1
    once = step(case, batch, weight, scale)
    for times in (0, 2):
        weight[0, c] = times
        alike(step(case, batch, weight, scale), once + (times - 1) * alone)
    # and that class alone is its column of the loss, of its sample
    net, name = network(), make_loss(*case, by_class=True)
    column = name(net(batch.image), batch.label, batch.valid)[0, c] * scale[0]
    found = [column[None], *map(torch.flatten, gradients(column, net))]
    alike(alone, torch.cat(found).detach())


@settings(max_examples=200)
@given(cases, batches, seeds)
def test_one_weight_for_all_classes_is_the_weight_of_the_sample(case, size, seed):
    batch, (weight, scale) = drawn(case[1], size, seed), weights_of(size, seed, False)
    by_class = weight.unsqueeze(1).expand(size, 3)
    alike(step(case, batch, by_class, scale), step(case, batch, weight, scale))


@settings(max_examples=200)
@given(cases, st.booleans(), batches, seeds)
def test_permuting_the_batch_changes_no_step(case, by_class, size, seed):
    batch, (weight, scale) = drawn(case[1], size, seed), weights_of(size, seed, by_class)
    order = torch.randperm(size, generator=generator(seed))
    other = step(case, at(batch, order), weight[order], scale[order])
    alike(step(case, batch, weight, scale), other)


@settings(max_examples=200)
@given(cases, st.booleans(), batches, seeds)
def test_what_is_reported_of_samples_is_not_weighted(case, by_class, size, seed):
    batch, (weight, scale) = drawn(case[1], size, seed), weights_of(size, seed, by_class)
    objective = Objective(make_loss(*case, by_class=by_class))
    found = objective(
        {"main": network()}, Parcel(batch, weight, scale, 0, torch.ones(len(batch)) > 0)
    ).losses
    alike(found, make_loss(*case)(network()(batch.image), batch.label, batch.valid).detach())
