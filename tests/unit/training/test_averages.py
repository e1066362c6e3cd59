"""Averages of networks: how far they follow, what they keep, what they refuse."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from labelmend.errors import RunError
from labelmend.training.averages import Averages


def network(seed: int = 0, width: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(2, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 2)
        ).double()


def walk(net: nn.Module, seed: int) -> None:
    """What a step of training changes: parameters, and running statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        net(torch.randn(8, 2, generator=generator, dtype=torch.float64))


def moved(steps: int = 3, keep: float = 0.9, **more: int) -> tuple[dict[str, nn.Module], Averages]:
    nets = {"main": network(0, **more), "auxiliary": network(1, **more)}
    averages = Averages(nets, keep)
    for step in range(1, steps + 1):
        for place, net in enumerate(nets.values()):
            walk(net, 10 * step + place)
        averages.follow(step)
    return nets, averages


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(0.999, [2 / 11, 3 / 12, 4 / 13]), (0.24, [2 / 11, 0.24, 0.24]), (0.0, [0.0, 0.0, 0.0])],
)
def test_it_follows_as_written_and_faster_at_first(keep: float, kept: list[float]) -> None:
    net = network()
    averages = Averages({"main": net}, keep)
    by_hand = [parameter.detach().clone() for parameter in net.parameters()]
    for step, share in enumerate(kept, 1):
        walk(net, step)
        before = [parameter.detach().clone() for parameter in net.parameters()]
        averages.follow(step)
        by_hand = [share * b + (1 - share) * p for b, p in zip(by_hand, before, strict=True)]
        for mean, wanted in zip(averages.networks["main"].parameters(), by_hand, strict=True):
            torch.testing.assert_close(mean.detach(), wanted, rtol=1e-13, atol=1e-14)
        assert all(map(torch.equal, before, net.parameters()))  # the network is left alone


def test_late_steps_keep_what_was_asked_for() -> None:
    net = network()
    averages = Averages({"main": net}, keep=0.99)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    walk(net, 1)
    averages.follow(step=10_000)
    for mean, was, now in zip(
        averages.networks["main"].parameters(), before, net.parameters(), strict=True
    ):
        torch.testing.assert_close(mean, 0.99 * was + 0.01 * now, rtol=1e-12, atol=1e-14)


def test_buffers_are_those_of_the_network() -> None:
    nets, averages = moved()
    for name, net in nets.items():
        kept, now = dict(averages.networks[name].named_buffers()), dict(net.named_buffers())
        assert kept.keys() == now.keys() and now
        assert all(torch.equal(kept[key], now[key]) for key in now)
        assert now["1.num_batches_tracked"] == 3


def test_it_predicts_as_in_use_and_nothing_trains_it() -> None:
    nets, averages = moved()
    image = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name, average in averages.networks.items():
        assert not any(part.training for part in average.modules())
        assert not any(parameter.requires_grad for parameter in average.parameters())
        before = copy.deepcopy(average.state_dict())
        assert torch.equal(average(image), average(image))  # no dropout
        assert all(torch.equal(v, before[k]) for k, v in average.state_dict().items())
        assert nets[name].training and all(p.requires_grad for p in nets[name].parameters())


def test_it_moves_to_the_number_type_of_the_network() -> None:
    nets, averages = moved()
    for net in nets.values():
        net.float()
    averages.join()
    assert {p.dtype for a in averages.networks.values() for p in a.parameters()} == {torch.float32}


def test_a_saved_state_comes_back_to_the_bit_and_goes_on_the_same() -> None:
    nets, averages = moved(steps=2)
    saved = copy.deepcopy(averages.state())
    assert saved.keys() == {"main_average", "auxiliary_average"}
    standing = {name: copy.deepcopy(net.state_dict()) for name, net in nets.items()}
    others = {"main": network(8), "auxiliary": network(9)}
    for name, net in others.items():
        net.load_state_dict(standing[name])
    other = Averages(others, 0.9)
    # beside what else a checkpoint holds
    other.restore({**saved, "main": {}, "optimiser": {}})
    for step in (3, 4):
        for name in nets:
            walk(nets[name], step)
            walk(others[name], step)
        averages.follow(step)
        other.follow(step)
    for one, two in zip(averages.state().values(), other.state().values(), strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert not any(p.requires_grad for a in other.networks.values() for p in a.parameters())


def test_the_state_of_another_network_is_refused() -> None:
    _, averages = moved()
    _, wider = moved(width=4)
    with pytest.raises(
        RunError, match=r"does not fit network 'main_average': .*0\.weight"
    ) as caught:
        averages.restore(wider.state())
    assert "\n" not in str(caught.value)
    only_main = {"main_average": averages.state()["main_average"]}
    with pytest.raises(RunError, match="'auxiliary_average'"):
        averages.restore(only_main)
    with pytest.raises(RunError, match="'main_average'"):
        averages.restore({})
