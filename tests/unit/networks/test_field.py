import copy

import pytest
import torch

from labelmend.alignment.fields import warp_field
from labelmend.errors import SettingsError
from labelmend.networks.build import couples_samples
from labelmend.networks.field import build_field_network

SIZES = [
    (1, (1,)),
    (1, (5,)),
    (1, (17,)),
    (1, (24,)),
    (2, (1, 1)),
    (2, (1, 17)),
    (2, (5, 17)),
    (2, (16, 24)),
    (3, (1, 1, 1)),
    (3, (5, 1, 17)),
    (3, (8, 16, 8)),
]


def make(dims, **more):
    return build_field_network(dims, 3, **({"width": 4, "depth": 2, "seed": 0} | more))


def draw(*space, batch=2, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *space, generator=generator)


def stir(network):
    """The network with a last layer other than 0, as after some steps."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(generator=generator)
    return network


def last_of(network):
    return [name for name, parameter in network.named_parameters() if "output_block" in name]


@pytest.mark.parametrize(("dims", "space"), SIZES)
@pytest.mark.parametrize("depth", [1, 3])
def test_every_displacement_is_0_at_the_start_whatever_the_size(dims, space, depth):
    network = make(dims, depth=depth)
    for mode in (network.train(), network.eval()):
        field = mode(draw(*space) * 100)
        assert field.shape == (2, dims, *space) and field.dtype == torch.float32
        assert (field == 0).all()


@pytest.mark.parametrize(("dims", "space"), SIZES)
def test_later_it_is_finite_and_not_0_whatever_the_size(dims, space):
    field = stir(make(dims))(draw(*space))
    assert field.shape == (2, dims, *space)
    assert field.isfinite().all() and (field.flatten(1) != 0).any(1).all()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_gradients_reach_the_last_layer_first_and_then_every_parameter(dims):
    network = make(dims)
    images, aim = draw(*(9, 12, 7)[:dims]), torch.ones(dims)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)

    def learned():
        optimiser.zero_grad()
        (network(images).mean((0, *range(2, dims + 2))) - aim).square().sum().backward()
        return {k for k, p in network.named_parameters() if p.grad is not None and p.grad.any()}

    everything = {k for k, _ in network.named_parameters()}
    assert learned() == set(last_of(network)) and len(last_of(network)) == 3
    optimiser.step()
    assert learned() == everything


def test_the_seed_fixes_the_parameters_and_leaves_the_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, third = make(2), make(2), make(2, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    ours, same, others = (net.state_dict().values() for net in (first, second, third))
    assert all(torch.equal(a, b) for a, b in zip(ours, same, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(ours, others, strict=True))


def test_without_a_seed_the_generator_is_drawn_from():
    torch.manual_seed(1)
    first, second = (make(1, seed=None).state_dict().values() for _ in range(2))
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_no_sample_changes_another_ones_field(dims):
    network = stir(make(dims)).double().train()
    assert couples_samples(network) is None and not list(network.buffers())
    images = draw(*(10, 9, 6)[:dims], batch=4).double()
    whole = network(images)
    order = torch.tensor([2, 0, 3, 1])
    parts = torch.cat([network(images[:1]), network(images[1:])])
    torch.testing.assert_close(network(images[order]), whole[order], rtol=0, atol=1e-9)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-9)
    changed = images.clone()
    changed[1] = 100 * changed[1] + 7
    assert torch.equal(network(changed)[[0, 2, 3]], whole[[0, 2, 3]])
    assert not torch.equal(network(changed)[1], whole[1])


def test_a_padded_input_is_one_whose_outermost_values_go_on():
    network = stir(make(2))
    images = draw(6, 7)
    rows, columns = torch.arange(8).clamp(max=5), torch.arange(8).clamp(max=6)
    larger = network(images[:, :, rows][:, :, :, columns])
    assert torch.equal(network(images), larger[:, :, :6, :7])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_coarsest_level_alone_gives_a_field_without_steps(dims):
    network = stir(make(dims))
    with torch.no_grad():
        for name in last_of(network)[:-1]:
            network.get_parameter(name).zero_()
    steps = network(draw(*(16, 16, 16)[:dims]))[..., 2:-2].diff(dim=-1)
    assert (steps != 0).all()
    modes = {layer.mode for layer in network.modules() if hasattr(layer, "mode")}
    assert modes == {{1: "linear", 2: "bilinear", 3: "trilinear"}[dims]}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_learns_a_constant_shift(dims):
    network = make(dims)
    images, shift = draw(*(13, 11, 6)[:dims]), torch.tensor([2.5, -1.0, 4.0])[:dims]
    aim = shift.view(1, dims, *(1,) * dims)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (network(images) - aim).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


def test_learns_from_a_loss_of_moved_labels():
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    prediction, label = (
        torch.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 18)[None, None]
        for r, c in ((12, 11), (10, 14))
    )
    valid = torch.ones(1, 24, 24, dtype=torch.bool)
    network = build_field_network(2, 2, seed=0)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        field = network(torch.cat([prediction, label], 1))
        moved, _ = warp_field(label, valid, field)
        loss = (moved - prediction).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    inside = prediction[0, 0] > 0.5
    assert (field[0][:, inside].mean(1) - torch.tensor([2.0, -3.0])).abs().max() < 1


def test_a_state_is_kept_to_the_bit():
    first, second = stir(make(2)), make(2, seed=5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    images = draw(11, 8)
    assert torch.equal(first(images), second(images))
    assert torch.equal(copy.deepcopy(first)(images), first(images))


def test_under_autocast_it_still_gives_single_precision():
    network = stir(make(2))
    images = draw(11, 8)
    with torch.autocast("cpu", torch.bfloat16):
        field = network(images)
    assert field.dtype == torch.float32
    exact = network(images)
    assert 0 < (field - exact).norm() < 0.02 * exact.norm()
    field.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_in_double_precision_it_agrees_with_single():
    single = stir(make(3))
    images = draw(5, 6, 7)
    double = copy.deepcopy(single).double()(images.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single(images).double(), double, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("width", "depth"), [(2, 3), (5, 1)])
def test_width_and_depth_say_how_many_channels_and_levels(width, depth):
    network = make(2, width=width, depth=depth)
    channels = [network.get_parameter(name).shape[1] for name in last_of(network)]
    assert channels == [width * 2**level for level in range(depth + 1)]


@pytest.mark.parametrize("width", [1, 3])
def test_odd_widths_work(width):
    assert stir(make(2, width=width))(draw(9, 5)).isfinite().all()


def test_inputs_are_left_alone():
    images = draw(9, 5)
    kept = images.clone()
    stir(make(2))(images)
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dims": 0}, "1, 2 or 3 dimensions, not 0"),
        ({"dims": 4}, "1, 2 or 3 dimensions, not 4"),
        ({"dims": "2"}, "1, 2 or 3 dimensions, not '2'"),
        ({"dims": 2.0}, "1, 2 or 3 dimensions, not 2.0"),
        ({"channels": 0}, "channels must be a whole number of at least 1, not 0"),
        ({"width": 0}, "width must be a whole number of at least 1, not 0"),
        ({"width": 2.5}, "width must be a whole number of at least 1, not 2.5"),
        ({"depth": 0}, "depth must be a whole number of at least 1, not 0"),
        ({"depth": None}, "depth must be a whole number of at least 1, not None"),
        ({"depth": 9}, "at most 8, not 9"),
    ],
)
def test_what_cannot_be_built_says_why(arguments, words):
    with pytest.raises(SettingsError) as caught:
        build_field_network(**({"dims": 2, "channels": 2} | arguments))
    assert words in str(caught.value) and "\n" not in str(caught.value)
