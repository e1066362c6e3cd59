"""A program of operators takes every size that the network takes, and no other."""

from __future__ import annotations

import io
import logging
import zipfile
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from labelmend.errors import SettingsError
from labelmend.inference.export.program import quietly, to_bytes, trace
from labelmend.networks.build import build_network


def _reloaded(network: nn.Module, dims: int, multiple: int) -> nn.Module:
    content = to_bytes(trace(network, 1, dims, multiple=multiple, where="it"))
    return torch.export.load(io.BytesIO(content)).module()


@cache
def _pair(dims: int) -> tuple[nn.Module, nn.Module]:
    network = build_network("unet", dims, 1, 2, width=4, depth=3, seed=0).eval()
    return network, _reloaded(network, dims, 4)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_any_batch_and_size_gives_the_networks_own_bits(dims: int) -> None:
    network, program = _pair(dims)
    for batch, sizes in ((1, (4, 4, 4)), (3, (4, 12, 8)), (2, (20, 4, 8))):
        image = torch.randn(batch, 1, *sizes[:dims])
        assert torch.equal(program(image), network(image)), (batch, sizes)


@pytest.mark.parametrize("shape", [(1, 1, 6, 8), (1, 1, 8, 5), (1, 2, 8, 8)])
def test_what_the_network_is_not_for_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="Expected input"):
        _pair(2)[1](torch.zeros(shape))


def test_pooling_over_one_axis_is_exported_too() -> None:
    network = nn.Sequential(nn.MaxPool1d(2), nn.Sequential(nn.MaxPool1d(3, 1, padding=1))).eval()
    program = _reloaded(network, 1, 2)
    for length in (2, 14, 30):
        image = torch.randn(2, 1, length)
        assert torch.equal(program(image), network(image))
    assert type(network[0]) is nn.MaxPool1d  # the network itself stays as it was


def test_the_network_is_not_changed() -> None:
    network = build_network("unet", 2, 1, 2, width=4, depth=2, dropout=0.5, seed=0).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trace(network, 1, 2, multiple=2, where="it")
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class _Branches(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image if image.sum() > 0 else -image


class _OneSize(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image if image.shape[2] == 12 else image.new_zeros(3)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (_Branches(), "depends on the values of its input"),
        (_OneSize(), "takes the size of its input for a constant"),
        (nn.Conv2d(5, 1, 1), "channels"),
    ],
)
def test_what_cannot_be_a_program_is_refused_in_one_line(network: nn.Module, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        trace(network.eval(), 1, 2, multiple=4, where="the network of runs/one")
    text = str(caught.value)
    assert text.startswith("the network of runs/one cannot be exported") and "\n" not in text
    assert "\x1b" not in text and "labelmend.load" in text


def test_no_code_no_input_and_no_place_of_this_machine_is_in_the_file() -> None:
    network = build_network("unet", 2, 1, 2, width=4, depth=2, seed=0).eval()
    archive = zipfile.ZipFile(io.BytesIO(to_bytes(trace(network, 1, 2, multiple=2, where="it"))))
    content = {name: archive.read(name) for name in archive.namelist()}
    assert not [name for name in content if name.endswith((".py", ".pyc"))]
    for data in content.values():
        assert b".py" not in data and b"stack_trace" not in data
    assert [data for name, data in content.items() if "sample_inputs" in name] == [b""]
    assert not [data for data in content.values() if data[:2] in (b"\x80\x02", b"PK")]  # a pickle


def test_it_is_quiet_and_leaves_logging_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.root.manager.disable
    with quietly():
        print("a")
        logging.getLogger("torch").error("b")
        assert logging.root.manager.disable == logging.CRITICAL
    assert logging.root.manager.disable == before
    with pytest.raises(ZeroDivisionError), quietly():
        raise ZeroDivisionError
    assert logging.root.manager.disable == before
    assert capfd.readouterr() == ("", "")
