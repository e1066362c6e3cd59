"""Mirror images: the mean of what a network says of them, and half as many bits."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from labelmend.inference.flips import Flipped, HalfBits


def network(dims: int) -> nn.Module:
    torch.manual_seed(dims)
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    return convolution(1, 3, 3, padding=1)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_it_is_the_mean_over_all_mirror_images(dims: int, task: str) -> None:
    inner, image = network(dims), torch.randn(2, 1, *(4, 5, 6)[:dims])
    every = []
    for turned in product((False, True), repeat=dims):
        axes = [axis + 2 for axis, on in enumerate(turned) if on]
        scores = inner(image.flip(axes)).flip(axes)
        every.append(scores.softmax(1) if task == "segmentation" else scores)
    found = Flipped(inner, task)(image)  # type: ignore[arg-type]
    found = found.softmax(1) if task == "segmentation" else found
    assert torch.allclose(found, torch.stack(every).mean(0), atol=1e-6)


def test_probabilities_too_small_for_their_type_are_no_nan() -> None:
    class Sure(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([image * 1e6, -image * 1e6], 1)

    assert torch.isfinite(Flipped(Sure(), "segmentation")(torch.randn(1, 1, 4, 4))).all()


def test_half_the_bits_agree_to_two_digits() -> None:
    inner, image = network(2), torch.randn(1, 1, 8, 8)
    found = HalfBits(inner)(image)
    assert found.dtype == torch.float32
    assert torch.allclose(found, inner(image), atol=0.03)
    assert not torch.equal(found, inner(image))
