"""The network that proposes a displacement field between a prediction and a label.

It is MONAI's LocalNet: a U-Net that adds up what it reads off at every level, so that coarse
displacements are learned at coarse levels. Between levels and to the output it goes linearly;
nearest positions, MONAI's default, would leave steps in the field. All its normalisation is by
groups, as in :mod:`labelmend.networks.build`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelmend.errors import SettingsError
from labelmend.losses.valid_positions import at_least_single
from labelmend.networks.build import normalise_by_groups

MOST_DEPTH = 8
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def build_field_network(
    dims: int, channels: int, *, width: int = 8, depth: int = 3, seed: int | None = None
) -> nn.Module:
    """A network from what is to be compared to a field, with fresh parameters, on the CPU.

    It takes ``(batch, channels, *space)`` floating of any size and returns ``(batch, dims,
    *space)``, in positions of that same grid, float32 at least, under autocast too. At the
    start every displacement is exactly 0. No sample changes what another one yields.

    Args:
        dims: number of space axes, 1 to 3.
        channels: channels of prediction and label together.
        width: channels of the first level; each further level has twice as many.
        depth: how many times the grid is halved, 1 to 8.
        seed: the same seed gives the same parameters to the bit and leaves torch's generator
            alone; without one they are drawn from it.

    Raises:
        SettingsError: for numbers from which no network can be made.

    Source: seed B6 and figure 5 (who proposes); Hu et al., Weakly-supervised convolutional
    neural networks for multimodal image registration, 2018 (the network). The trap: ``depth``
    counts halvings, while :func:`labelmend.networks.build.build_network` counts levels, which
    are one more; and while the last layer is 0, only the last layer has a gradient.

    >>> network = build_field_network(2, 3, seed=0)
    >>> field = network(torch.randn(4, 3, 17, 5))
    >>> field.shape, bool((field == 0).all())
    (torch.Size([4, 2, 17, 5]), True)
    """
    if not isinstance(dims, int) or dims not in _LINEAR:
        raise SettingsError(f"field networks work in 1, 2 or 3 dimensions, not {dims!r}")
    for name, value in {"channels": channels, "width": width, "depth": depth}.items():
        if not isinstance(value, int) or value < 1:
            raise SettingsError(f"{name} must be a whole number of at least 1, not {value!r}")
    if depth > MOST_DEPTH:
        raise SettingsError(
            f"depth of a field network must be at most {MOST_DEPTH}, not {depth}; "
            "each step halves the grid"
        )
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        return _AnySize(_local_net(dims, channels, width, depth), 2**depth)


class _AnySize(nn.Module):
    """A network that wants sizes of a multiple, for any size."""

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, images: Tensor) -> Tensor:
        """What the network says of the images, at their own size."""
        space = images.shape[2:]
        missing = [-size % self.multiple for size in space]
        # The outermost values go on: an edge of zeros would look like the border of an object.
        pads = [pad for size in reversed(missing) for pad in (0, size)]
        field: Tensor = self.network(F.pad(images, pads, mode="replicate") if any(pads) else images)
        for axis, size in enumerate(space, start=2):
            field = field.narrow(axis, 0, size)
        return at_least_single(field)


def _local_net(dims: int, channels: int, width: int, depth: int) -> nn.Module:
    # MONAI takes seconds to import, and settings are checked without it.
    from monai.networks.nets import LocalNet

    network: Any = LocalNet(
        spatial_dims=dims,
        in_channels=channels,
        num_channel_initial=width,
        extract_levels=tuple(range(depth + 1)),
        out_kernel_initializer="zeros",  # its last layer has no offset
        out_activation=None,
        out_channels=dims,
        mode=_LINEAR[dims],
        align_corners=False,
    )
    # LocalNet does not hand its mode on to the last step.
    network.output_block.mode, network.output_block.align_corners = _LINEAR[dims], False
    normalise_by_groups(network)
    made: nn.Module = network
    return made
