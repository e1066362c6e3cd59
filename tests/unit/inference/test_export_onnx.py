"""An ONNX file computes what the network does, at any size, or is refused by its operator."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelmend.errors import SettingsError
from labelmend.inference.export import to_onnx
from labelmend.inference.export.program import trace
from labelmend.inference.export.proof import prove
from labelmend.networks.build import NETWORKS, build_network, size_multiple

onnx = pytest.importorskip("onnx")


def _content(network: nn.Module, channels: int, dims: int, multiple: int) -> bytes:
    program = trace(network.eval(), channels, dims, multiple=multiple, where="it")
    return to_onnx.encode(program, dims, "it")


def _plain(network: nn.Module, number: type = np.float32) -> Callable[[np.ndarray], np.ndarray]:
    network = copy.deepcopy(network)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(images.astype(number))).numpy()

    return run


@pytest.fixture(scope="module")
def content() -> bytes:
    """Of the smallest network of two axes."""
    return _content(nn.Conv2d(2, 3, 1), 2, 2, 2)


def test_its_axes_have_names_and_it_knows_no_place_of_this_machine(content: bytes) -> None:
    model = onnx.load_from_string(content)
    for value, name, channels in (
        (model.graph.input[0], "image", 2),
        (model.graph.output[0], "scores", 3),
    ):
        axes = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        assert (value.name, axes) == (name, ["batch", channels, "rows", "columns"])
    assert b".py" not in content and b"stack_trace" not in content
    assert len(model.graph.input) == len(model.graph.output) == 1


class _Normalised(nn.Module):
    """Nothing but normalisations, of images far from zero."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(torch.cat([image, image * image], 1))


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(1, 2), nn.InstanceNorm2d(2, affine=True)], ids=["group", "instance"]
)
def test_normalisation_of_large_images_is_as_exact_as_of_small_ones(norm: nn.Module) -> None:
    network = _Normalised(norm).eval()
    run = to_onnx.open_model(_content(network, 1, 2, 1))
    image = np.random.default_rng(0).normal(3, 1, (1, 1, 1024, 1024)).astype(np.float32)
    with torch.inference_mode():
        exact = network.double()(torch.from_numpy(image).double()).numpy()
    # by the operator that ONNX has for it: 2e-5
    assert np.abs(run(image) - exact).max() < 4e-6


class _Median(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image - image.median()


def test_an_operator_that_onnx_lacks_is_named() -> None:
    with pytest.raises(SettingsError, match=r"as ONNX: operator aten\.median has no") as caught:
        _content(_Median(), 1, 2, 4)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_missing_package_is_answered_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    with pytest.raises(SettingsError, match=r"needs onnxscript: pip install 'labelmend\[onnx\]'"):
        to_onnx.check_installed()


SIZES = {
    1: ((8,), (12,), (20,)),
    2: ((3, 3), (4, 4), (3, 5)),
    3: ((2, 2, 2), (3, 3, 3), (2, 3, 4)),
}
"""Of the inputs, in multiples of what a side is a multiple of."""


def _inputs(dims: int, multiple: int, count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for number in range(count):
        size = [multiple * n for n in SIZES[dims][number % 3]]
        scale = 10.0 ** rng.uniform(-0.5, 1)
        yield rng.normal(rng.normal(), scale, (1 + number % 2, 1, *size)).astype(np.float32)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_agrees_on_a_thousand_inputs(name: str, dims: int) -> None:
    if (name, dims) == ("segresnet", 1):
        pytest.skip("MONAI has none for one axis")
    depth = 5 if name == "basic_unet" else 4
    network = build_network(name, dims, 1, 3, width=8, depth=depth, seed=0).eval()
    multiple = size_multiple(name, depth)
    run = to_onnx.open_model(_content(network, 1, dims, multiple))
    inputs = partial(_inputs, dims, multiple, 1000)
    proof = prove(_plain(network), run, inputs(), task="segmentation", tolerance=1e-5)
    assert (proof.inputs, len(proof.sizes)) == (1000, 3) and proof.equal >= 0.9999, proof
    if not proof.holds:  # no two programs agree better than either does with the exact result
        exact = _plain(network.double(), np.float64)
        own = prove(exact, _plain(network.float()), inputs(), task="segmentation", tolerance=1)
        theirs = prove(exact, run, inputs(), task="segmentation", tolerance=1)
        assert theirs.worst <= own.worst, (proof, own, theirs)
