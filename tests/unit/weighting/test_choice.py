from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from labelmend.errors import SettingsError
from labelmend.weighting.choice import check_uncoupled, choose
from labelmend.weighting.gradients import exact, mean_gradient

from . import oracle_gradients as oracle
from .similarity_cases import WORKS, Case
from .test_gradients import off

# ---------------------------------------------------------------- samples that see each other


class OwnBatchNorm(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


@pytest.mark.parametrize("name", ["unet", "dynunet"])
def test_networks_of_the_builder_are_let_through_in_any_mode(name: str) -> None:
    check_uncoupled(Case(name).network.train())


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm2d(3), nn.SyncBatchNorm(3), nn.LazyBatchNorm2d(), OwnBatchNorm()],
    ids=lambda layer: type(layer).__name__,
)
def test_batch_statistics_are_refused_in_training_mode(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), layer)
    with pytest.raises(SettingsError, match=rf"'1' \({type(layer).__name__}\).*eval\(\)"):
        check_uncoupled(network)


def test_in_evaluation_mode_only_averages_that_were_kept_are_let_through() -> None:
    check_uncoupled(nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).eval())
    none = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    with pytest.raises(SettingsError, match="in every mode"):
        check_uncoupled(none)


def test_running_averages_of_single_images_are_refused_too() -> None:
    with pytest.raises(SettingsError, match="changes its running averages"):
        check_uncoupled(nn.InstanceNorm2d(3, track_running_stats=True))
    check_uncoupled(nn.InstanceNorm2d(3, track_running_stats=True).eval())
    check_uncoupled(nn.InstanceNorm2d(3))
    check_uncoupled(nn.GroupNorm(1, 3))


def test_what_is_refused_would_have_been_wrong() -> None:
    case = Case(batch=3)
    case.network = nn.Sequential(case.network, nn.BatchNorm2d(3).double())
    case.params = {n: p.detach() for n, p in case.network.named_parameters()}
    direction = case.some_direction()
    right = lambda: oracle.alone(case.each(), case.params, direction)  # noqa: E731
    case.network.eval()
    assert off(exact(case.losses_of, case.params, direction)[1], right()) <= 1e-10
    case.network.train()
    assert off(exact(case.losses_of, case.params, direction)[1], right()) > 1e-2
    with pytest.raises(SettingsError):
        check_uncoupled(case.network)


# ---------------------------------------------------------------- which parameters


def test_all_means_all_that_are_trained() -> None:
    network = Case().network
    network.model[0].requires_grad_(False)
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert frozen
    chosen = choose(network)
    assert set(chosen) == {n for n, _ in network.named_parameters()} - frozen


@pytest.mark.parametrize(("name", "dims"), WORKS)
def test_the_last_layer_is_the_head(name: str, dims: int) -> None:
    case = Case(name, dims, dtype=torch.float32)
    chosen = choose(case.network, "last", case.image)
    assert {len(p) for p in chosen.values()} <= {3, 8, 4}
    # With a head of zero the network says nothing but its bias, whatever the image.
    still = {n: torch.zeros_like(p) for n, p in chosen.items()}
    assert not functional_call(case.network, still, (case.image,)).any()


@pytest.mark.parametrize(("name", "dims"), WORKS)
def test_the_decoder_is_what_runs_after_the_bottleneck(name: str, dims: int) -> None:
    case = Case(name, dims, dtype=torch.float32)
    chosen = choose(case.network, "decoder", case.image)
    assert 0 < len(chosen) < len(case.params)
    assert set(choose(case.network, "last", case.image)) <= set(chosen)
    used = _used_at_the_smallest_map(case, set(chosen))
    assert used is False


def _used_at_the_smallest_map(case: Case, names: set[str]) -> bool:
    """Whether the first convolution, or one at the smallest map, holds a chosen parameter."""
    ran = []
    for name, module in case.network.named_modules():
        if "Conv" in type(module).__name__ and hasattr(module, "kernel_size"):
            module.register_forward_hook(
                lambda _m, _i, out, name=name: ran.append((out[0, 0].numel(), name))
            )
    case.network(case.image[:1])
    least = min(size for size, _ in ran)
    inside = [name for size, name in ran if size == least] + [ran[0][1]]
    return any(f"{name}.weight" in names for name in inside)


def test_frozen_parameters_of_the_decoder_stay_out() -> None:
    case = Case(dtype=torch.float32)
    last = choose(case.network, "last", case.image)
    for value in last.values():
        value.requires_grad_(False)
    assert not set(last) & set(choose(case.network, "decoder", case.image))
    with pytest.raises(SettingsError, match="no parameter that can be trained"):
        choose(case.network, "last", case.image)


def test_the_pass_that_finds_layers_leaves_no_trace() -> None:
    network = nn.Sequential(Case().network, nn.BatchNorm2d(3).double(), nn.Dropout(0.5))
    network[0].eval()
    network.train()
    network[1].eval()
    modes = [m.training for m in network.modules()]
    state, drawn = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    choose(network, "decoder", torch.zeros(2, 1, 16, 16, dtype=torch.float64))
    assert modes == [m.training for m in network.modules()]
    assert not any(m._forward_hooks for m in network.modules())
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(v, state[n]) for n, v in network.state_dict().items())
    with pytest.raises(RuntimeError):
        choose(network, "last", torch.zeros(2, 7, 16, 16, dtype=torch.float64))
    assert modes == [m.training for m in network.modules()]
    assert not any(m._forward_hooks for m in network.modules())


class Squeezing(nn.Module):
    """A squeeze-and-excitation block in the decoder, and attention whose parts are never called."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv1d(4, 2, 1)  # named before what runs before it
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Conv1d(4, 4, 1))
        self.down = nn.Conv1d(1, 4, 3, stride=2, padding=1)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.up = nn.ConvTranspose1d(4, 4, 2, stride=2)
        self.wide = nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, x):
        y = self.wide(self.up(self.down(x)))
        y = y * self.squeeze(y)
        z = y.transpose(1, 2)
        return self.head(self.attention(z, z, z)[0].transpose(1, 2))


def test_a_pooled_vector_is_no_bottleneck_and_parts_that_never_run_are_found() -> None:
    network = Squeezing()
    image = torch.zeros(2, 1, 16)
    chosen = choose(network, "decoder", image)
    assert set(chosen) == {n for n, _ in network.named_parameters() if not n.startswith("down")}
    assert set(choose(network, "last", image)) == {"head.weight", "head.bias"}


def test_a_network_without_bottleneck_has_no_decoder() -> None:
    flat = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.Conv1d(2, 1, 3, padding=1))
    for network in (flat, nn.Sequential(nn.Conv1d(1, 2, 1))):
        with pytest.raises(SettingsError, match="no bottleneck"):
            choose(network, "decoder", torch.zeros(1, 1, 8))


def test_patterns_choose_by_name() -> None:
    network = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 1, 1))
    assert list(choose(network, ["^2[.]", r"0\.bias"])) == ["0.bias", "2.weight", "2.bias"]
    with pytest.raises(SettingsError, match="has 'decoder' in its name; names are like"):
        choose(network, ["bias", "decoder"])
    with pytest.raises(SettingsError, match="no regular expression"):
        choose(network, ["("])
    with pytest.raises(SettingsError, match="no parameter that can be trained"):
        choose(network, [])


def test_an_unknown_choice_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'decoder'"):
        choose(nn.Conv1d(1, 1, 1), "decode")
    with pytest.raises(SettingsError, match="give an image"):
        choose(nn.Conv1d(1, 1, 1), "last")


@pytest.mark.parametrize("which", ["decoder", "last", ["weight$"]])
def test_the_rest_is_held_fixed(which) -> None:
    case = Case()
    chosen = choose(case.network, which, case.image)
    direction = mean_gradient(case.losses_of, chosen)
    assert direction.keys() == chosen.keys()
    whole = {n: direction.get(n, torch.zeros_like(p)) for n, p in case.network.named_parameters()}
    found = exact(case.losses_of, chosen, direction)[1]
    assert off(found, oracle.alone(case.each(), case.params, whole)) <= 1e-10
    assert all(p.grad is None for p in case.network.parameters())
