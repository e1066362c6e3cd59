import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap

from labelmend.errors import SettingsError
from labelmend.networks.build import (
    NETWORKS,
    build_network,
    check_output,
    couples_samples,
    size_multiple,
)

DEPTHS = {"basic_unet": 5}
WORKS = [
    (name, dims) for name in NETWORKS for dims in (1, 2, 3) if (name, dims) != ("segresnet", 1)
]


def depth_of(name):
    return DEPTHS.get(name, 3)


def make(name, dims, **more):
    more = {"width": 4, "depth": depth_of(name), "seed": 0} | more
    return build_network(name, dims, 2, 3, **more)


def draw(name, dims, factors=(1, 2, 1), batch=2):
    multiple = size_multiple(name, depth_of(name))
    generator = torch.Generator().manual_seed(dims)
    return torch.randn(batch, 2, *(multiple * f for f in factors[:dims]), generator=generator)


@pytest.mark.parametrize(("name", "dims"), WORKS)
@pytest.mark.parametrize("factors", [(1, 1, 1), (3, 1, 2)])
def test_gives_one_map_per_class_at_any_allowed_size(name, dims, factors):
    images = draw(name, dims, factors)
    logits = make(name, dims)(images)
    assert isinstance(logits, torch.Tensor) and logits.isfinite().all()
    assert logits.shape == (2, 3, *images.shape[2:])


@pytest.mark.parametrize(("name", "dims"), WORKS)
def test_samples_do_not_see_each_other_in_training_mode(name, dims):
    network = make(name, dims).train()
    images = draw(name, dims)
    changed = images.clone()
    changed[1] = 100 * changed[1] + 7
    before, after = network(images), network(changed)
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
    assert couples_samples(network) is None
    assert not list(network.buffers())


@pytest.mark.parametrize(("name", "dims"), WORKS)
def test_forward_mode_agrees_with_a_small_step(name, dims):
    network = make(name, dims).double()
    images = draw(name, dims).double()
    at = {k: v.detach() for k, v in network.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    along = {k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in at.items()}

    def forward(parameters):
        return (
            functional_call(network, parameters, (images,)).square().mean((1, *range(2, 2 + dims)))
        )

    _, slope = jvp(forward, (at,), (along,))
    reverse = vmap(
        lambda image: grad(lambda p: functional_call(network, p, (image[None],)).square().mean())(
            at
        )
    )(images)
    twin = sum((reverse[k] * along[k]).flatten(1).sum(1) for k in at)
    torch.testing.assert_close(slope, twin, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_takes_part(name):
    network = make(name, 2)
    network(draw(name, 2)).square().mean().backward()
    idle = [k for k, p in network.named_parameters() if p.grad is None]
    assert not idle


@pytest.mark.parametrize("name", NETWORKS)
def test_the_seed_fixes_the_parameters_and_leaves_the_generator_alone(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, third = make(name, 2), make(name, 2), make(name, 2, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    others = zip(first.parameters(), third.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in others)


def test_without_a_seed_the_generator_is_drawn_from():
    torch.manual_seed(1)
    first = make("unet", 1, seed=None)
    second = make("unet", 1, seed=None)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_default_works_at_any_depth_and_the_smallest_size(depth):
    multiple = size_multiple("unet", depth)
    assert multiple == 2 ** (depth - 1)
    image = torch.randn(1, 2, multiple, multiple)
    assert make("unet", 2, depth=depth)(image).shape == (1, 3, multiple, multiple)


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_is_passed_on(name):
    network = make(name, 2, dropout=0.3)
    shares = [m.p for m in network.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    assert 0.3 in shares and set(shares) <= {0.0, 0.3}  # MONAI's attention gates take none
    image = draw(name, 2)
    assert torch.equal(network.eval()(image), network(image))
    network.train()
    assert not torch.equal(network(image), network(image))


@pytest.mark.parametrize(("name", "width"), [("unet", 1), ("dynunet", 3), ("segresnet", 6)])
def test_odd_widths_work(name, width):
    assert make(name, 2, width=width)(draw(name, 2)).isfinite().all()


def test_arguments_win():
    plain = make("unet", 2)
    residual = make("unet", 2, arguments={"num_res_units": 2})
    assert len(list(residual.parameters())) > len(list(plain.parameters()))
    wide = {"channels": (4, 4, 8), "strides": (2, 4)}
    assert size_multiple("unet", 4, wide) == 8
    assert make("unet", 2, arguments=wide)(torch.zeros(1, 2, 8, 16)).shape == (1, 3, 8, 16)
    assert couples_samples(make("unet", 2, arguments={"norm": "batch"})) is not None


OWN = """
import torch
from torch import nn
from monai.networks.nets import VNet

class Three(nn.Module):
    size_multiple = 4
    def __init__(self, dims, in_channels, out_channels, scale=1.0):
        super().__init__()
        self.got = (dims, in_channels, out_channels, scale)
        self.one = nn.LazyLinear(1)
class Bare(nn.Linear):
    pass
class Open(nn.Module):
    def __init__(self, **more):
        super().__init__()
        self.got = more
class Spatial(nn.Module):
    def __init__(self, spatial_dims, **more):
        super().__init__()
        self.got = more | {"spatial_dims": spatial_dims}
def number(dims):
    return dims
value = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_networks_of_a_test.py").write_text(OWN)
    (tmp_path / "broken_network_of_a_test.py").write_text("import not_there_at_all\n")
    (tmp_path / "leaving_network_of_a_test.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "own_networks_of_a_test"


def test_a_network_of_ones_own_gets_what_its_signature_names(own):
    three = build_network(f"{own}:Three", 2, 1, 5, arguments={"scale": 2.0})
    assert three.got == (2, 1, 5, 2.0)
    bare = build_network(f"{own}:Bare", 2, 1, 5, arguments={"in_features": 3, "out_features": 4})
    assert bare.weight.shape == (4, 3)
    three_words = {"dims": 2, "in_channels": 1, "out_channels": 5}
    assert build_network(f"{own}:Open", 2, 1, 5).got == three_words
    assert build_network(f"{own}:Open", 2, 1, 5, arguments={"dims": 9}).got == three_words | {
        "dims": 9
    }
    spatial = build_network(f"{own}:Spatial", 2, 1, 5).got
    assert spatial == {"spatial_dims": 2, "in_channels": 1, "out_channels": 5}
    assert size_multiple(f"{own}:Three") == 4
    assert size_multiple(f"{own}:Bare") == 16


def test_a_network_of_ones_own_obeys_the_seed(own):
    more = {"arguments": {"in_features": 3, "out_features": 4}, "seed": 3}
    first, second = (build_network(f"{own}:Bare", 2, 1, 5, **more) for _ in range(2))
    assert torch.equal(first.weight, second.weight)


def test_any_network_of_monai_can_be_had_by_its_path():
    network = build_network("monai.networks.nets:VNet", 3, 1, 2)
    assert couples_samples(network) is not None


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("unett", {}, "did you mean 'unet'"),
        ("unet", {"arguments": {"colour": 3}}, "colour"),
        ("unet", {"width": 0}, "at least 1"),
        ("unet", {"depth": 0}, "at least 1"),
        ("basic_unet", {"depth": 4}, "network.depth = 5"),
        ("dynunet", {"depth": 1}, "cannot be made"),
        ("dynunet", {"arguments": {"deep_supervision": True}}, "several predictions"),
        ("not_there_at_all:Net", {}, "No module named 'not_there_at_all'"),
        ("OWN:Thre", {}, "has no 'Thre'; did you mean 'Three'?"),
        ("OWN:", {}, "has no ''"),
        (":Net", {}, "cannot be imported"),
        ("OWN:value", {}, "not a int"),
        ("OWN:number", {}, "must make a torch.nn.Module, not int"),
        ("OWN:Three", {"arguments": {"colour": 3}}, "colour"),
        ("broken_network_of_a_test:Net", {}, "not_there_at_all"),
        ("leaving_network_of_a_test:Net", {}, "SystemExit"),
    ],
)
def test_what_cannot_be_built_says_why(own, name, more, words):
    with pytest.raises(SettingsError) as caught:
        build_network(name.replace("OWN", own), 2, 1, 2, **more)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("dims", [0, 4, "2"])
def test_other_dimensions_are_refused(dims):
    with pytest.raises(SettingsError, match="1, 2 or 3"):
        build_network("unet", dims, 1, 2)


def test_segresnet_is_refused_in_one_dimension():
    with pytest.raises(SettingsError, match="2 or 3"):
        make("segresnet", 1)


def test_the_first_coupling_layer_is_named():
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SyncBatchNorm(2), nn.BatchNorm2d(2))
    assert couples_samples(nn.Sequential(nn.ReLU(), inner)) == "1.1 (SyncBatchNorm)"
    assert couples_samples(inner.eval()) == "1 (SyncBatchNorm)"
    assert couples_samples(nn.BatchNorm1d(3)) == "the network (BatchNorm1d)"
    assert couples_samples(nn.Sequential(nn.GroupNorm(1, 2), nn.InstanceNorm2d(2))) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_learns_a_threshold(name):
    network = make(name, 2)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    images = draw(name, 2, (2, 2), batch=4)
    label = (images[:, 0] > 0).long() + (images[:, 1] > 1).long()
    losses = []
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(images), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


class Gives(nn.Module):
    """A network that makes something else of what its layer gives."""

    def __init__(self, make, channels=3):
        super().__init__()
        self.layer, self.make = nn.Conv2d(2, channels, 1), make

    def forward(self, image):
        return self.make(self.layer(image))


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (Gives(lambda y: [y, y]), "gave a list for an image of shape (1, 2, 8, 4), and has to"),
        (Gives(lambda y: (y, None)), "gave a tuple for"),
        (Gives(lambda y: {"out": y}), "gave a dict for"),
        (Gives(lambda y: y, channels=7), "gave a tensor of shape (1, 7, 8, 4)"),
        (Gives(lambda y: y[..., 1:-1]), "gave a tensor of shape (1, 3, 8, 2)"),
        (nn.Conv2d(3, 3, 1), "fails on an image of shape (1, 2, 8, 4), for which it has to give"),
        (Gives({}.pop), "KeyError"),
        (nn.LazyConv2d(3, 1), "has lazy layers"),
    ],
)
def test_what_is_no_map_per_class_is_refused_in_one_line(network, says):
    with pytest.raises(SettingsError) as caught:
        check_output("mine:Net", network.eval(), torch.zeros(1, 2, 8, 4), 3)
    assert says in str(caught.value) and "mine:Net" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_looking_at_what_a_network_gives_draws_no_random_numbers():
    network = Gives(lambda y: y + torch.rand(1))
    before = torch.get_rng_state()
    check_output("mine:Net", network, torch.zeros(1, 2, 8, 4), 3)
    assert torch.equal(torch.get_rng_state(), before)
