"""A network in the units of its labels."""

from __future__ import annotations

import torch
from torch import nn

from labelmend.networks.rescaled import Rescaled, rescaled


def test_every_channel_has_its_own_units_in_any_dimension() -> None:
    for dims in (1, 2, 3):
        network = Rescaled(nn.Identity(), [10.0, -1.0], [2.0, 0.5])
        found = network(torch.ones(3, 2, *(4,) * dims))
        assert torch.equal(found[:, 0], torch.full((3, *(4,) * dims), 12.0))
        assert torch.equal(found[:, 1], torch.full((3, *(4,) * dims), -0.5))


def test_a_channel_that_is_the_same_everywhere_counts_as_it_is() -> None:
    assert Rescaled(nn.Identity(), [7.0], [0.0])(torch.ones(1, 1, 2)).tolist() == [[[8.0, 8.0]]]


def test_units_are_part_of_what_is_saved_and_learn_nothing() -> None:
    made = rescaled(nn.Conv1d(1, 1, 1), {"label_scale": {"mean": [3.0], "deviation": [2.0]}})
    assert {"mean", "deviation"} <= set(made.state_dict())
    assert {name for name, _ in made.named_parameters()} == {"network.weight", "network.bias"}


def test_where_a_run_says_no_units_the_network_is_left_alone() -> None:
    network = nn.Identity()
    assert rescaled(network, {"out_channels": 1}) is network


def test_half_numbers_inside_do_not_cut_large_values() -> None:
    network = Rescaled(nn.Conv1d(1, 1, 1), [40_000.0], [1.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(torch.zeros(1, 1, 4))
    assert found.dtype == torch.float32
    assert (found - 40_000).abs().max() < 2
