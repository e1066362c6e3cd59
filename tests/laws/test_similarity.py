import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.func import functional_call

from labelmend.losses import LOSSES, make_loss
from labelmend.weighting.central import central
from labelmend.weighting.cosine import gradient_cosine, with_lengths
from labelmend.weighting.gradients import exact, inner, mean_gradient, slow

MODES = {"central": central, "exact": exact, "slow": slow}
NEAR = {"central": 1e-4, "exact": 1e-10, "slow": 1e-10}

seeds = st.integers(0, 2**31)
batches = st.integers(1, 5)
spaces = st.lists(st.integers(2, 5), min_size=1, max_size=3).map(tuple)
losses = st.sampled_from(sorted(LOSSES))
modes = pytest.mark.parametrize("mode", MODES)


class Task:
    """A small network with every kind of layer that matters, samples, and two directions."""

    def __init__(self, loss, batch, space, seed):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        dims = len(space)
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.network = nn.Sequential(
            conv(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.PReLU(), conv(4, 3, 1)
        ).double()
        self.params = {n: 0.5 * draw(*p.shape) for n, p in self.network.named_parameters()}
        self.one = {n: draw(*p.shape) for n, p in self.params.items()}
        self.other = {n: draw(*p.shape) for n, p in self.params.items()}
        self.image = draw(batch, 2, *space)
        self.label = torch.randint(0, 3, (batch, *space), generator=generator)
        self.valid = torch.rand(batch, *space, generator=generator) < 0.8
        self.loss = make_loss(loss)

    def part(self, index=slice(None)):
        image, label, valid = self.image[index], self.label[index], self.valid[index]
        return lambda p: self.loss(functional_call(self.network, dict(p), (image,)), label, valid)


tasks = st.builds(Task, losses, batches, spaces, seeds)


def near(found, right, mode, scale):
    return (found - right).abs().max().item() <= NEAR[mode] * max(scale, 1e-3)


def size(task):
    """What similarities could be at most, so that cancellation is not taken for an error."""
    lengths = [
        inner(g, g) ** 0.5
        for k in range(len(task.image))
        for g in [mean_gradient(task.part(slice(k, k + 1)), task.params)]
    ]
    return max(lengths) * inner(task.one, task.one) ** 0.5


@modes
@settings(max_examples=25, deadline=None)
@given(task=tasks)
def test_it_is_the_inner_product_with_each_samples_own_gradient(mode, task):
    found = MODES[mode](task.part(), task.params, task.one)[1]
    right = torch.tensor(
        [
            inner(mean_gradient(task.part(slice(k, k + 1)), task.params), task.one)
            for k in range(len(task.image))
        ],
        dtype=torch.float64,
    )
    assert near(found, right, mode, size(task))


@modes
@settings(max_examples=25, deadline=None)
@given(task=tasks, seed=seeds)
def test_permuting_the_batch_permutes_the_similarities(mode, task, seed):
    # To rounding: a convolution may add up in another order at another place of the batch.
    order = torch.randperm(len(task.image), generator=torch.Generator().manual_seed(seed))
    losses, found = MODES[mode](task.part(), task.params, task.one)
    again_losses, again = MODES[mode](task.part(order), task.params, task.one)
    assert near(again, found[order], mode, size(task))
    torch.testing.assert_close(again_losses, losses[order], rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(task=tasks, seed=seeds)
def test_permuting_the_batch_permutes_lengths_and_cosines(task, seed):
    order = torch.randperm(len(task.image), generator=torch.Generator().manual_seed(seed))
    found = with_lengths(task.part(), task.params, task.one)
    again = with_lengths(task.part(order), task.params, task.one)
    for one, other in zip(found, again, strict=True):
        assert near(other, one[order], "exact", size(task))
    first, second = (gradient_cosine(task.part(i), task.params, task.one) for i in (..., order))
    # Of a gradient that is nothing but rounding, so is the angle.
    told = found[2][order] > 1e-6
    assert near(second[told], first[order][told], "central", 1) if told.any() else True


@settings(max_examples=25, deadline=None)
@given(task=tasks)
def test_a_cosine_is_the_similarity_over_both_lengths(task):
    _, similarity, length = with_lengths(task.part(), task.params, task.one)
    right = [mean_gradient(task.part(slice(k, k + 1)), task.params) for k in range(len(length))]
    lengths = torch.tensor([inner(g, g) for g in right], dtype=torch.float64).sqrt()
    assert near(length, lengths, "exact", size(task))
    cosines = gradient_cosine(task.part(), task.params, task.one)
    assert cosines.abs().max() <= 1
    along = inner(task.one, task.one) ** 0.5
    assert near(cosines * length * along, similarity, "exact", size(task))


@modes
@settings(max_examples=25, deadline=None)
@given(task=tasks)
def test_dividing_the_batch_changes_nothing(mode, task):
    # So processes that judge shares of the samples, in chunks, agree with one that judges all.
    whole = MODES[mode](task.part(), task.params, task.one)[1]
    parts = [task.part(slice(k, k + 2)) for k in range(0, len(task.image), 2)]
    found = torch.cat([MODES[mode](part, task.params, task.one)[1] for part in parts])
    assert near(found, whole, mode, size(task))


@modes
@settings(max_examples=25, deadline=None)
@given(task=tasks, factor=st.floats(-10, 10))
def test_it_is_linear_in_the_direction(mode, task, factor):
    task.one, one = {n: v + factor * task.other[n] for n, v in task.one.items()}, task.one
    found = MODES[mode](task.part(), task.params, task.one)[1]
    first = MODES[mode](task.part(), task.params, one)[1]
    second = MODES[mode](task.part(), task.params, task.other)[1]
    assert near(found, first + factor * second, mode, 12 * size(task))


@modes
@settings(max_examples=25, deadline=None)
@given(task=tasks)
def test_its_mean_along_the_mean_gradient_is_that_gradients_squared_length(mode, task):
    task.one = mean_gradient(task.part(), task.params)
    found = MODES[mode](task.part(), task.params, task.one)[1]
    assert near(found.mean(), inner(task.one, task.one), mode, size(task))


@given(batch=batches, seed=seeds)
def test_permuting_is_exact_to_the_bit_where_samples_are_computed_alike(batch, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 7, generator=generator)
    params = {"w": torch.randn(7, generator=generator)}
    order = torch.randperm(batch, generator=generator)
    for mode in MODES.values():
        losses, found = mode(lambda p: (x * p["w"]).tanh().sum(1), params, params)
        again = mode(lambda p: (x[order] * p["w"]).tanh().sum(1), params, params)
        assert torch.equal(again[0], losses[order])
        if mode is not slow:  # adds up over the batch
            assert torch.equal(again[1], found[order])
