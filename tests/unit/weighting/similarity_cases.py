"""Networks of the builder with drawn samples, for the tests of similarity."""

from __future__ import annotations

import torch

from labelmend.losses import dice_ce
from labelmend.networks.build import NETWORKS, build_network, size_multiple
from labelmend.weighting.calls import call_with

DEPTHS = {"basic_unet": 5}
WORKS = [
    (name, dims) for name in NETWORKS for dims in (1, 2, 3) if (name, dims) != ("segresnet", 1)
]


class Case:
    """A network in evaluation mode and a batch; ``part`` gives the losses of some samples."""

    def __init__(
        self, name="unet", dims=2, batch=3, dtype=torch.float64, seed=0, size=2, width=4, **more
    ):
        depth = DEPTHS.get(name, 3)
        self.network = build_network(name, dims, 1, 3, width=width, depth=depth, seed=seed, **more)
        self.network = self.network.to(dtype).eval()
        generator = torch.Generator().manual_seed(seed + 1)
        side = max(8, size * size_multiple(name, depth))
        space = (side,) * dims if dims < 3 else (side, side // 2, side // 2)
        self.image = torch.randn(batch, 1, *space, generator=generator, dtype=dtype)
        self.label = torch.randint(0, 3, (batch, *space), generator=generator)
        self.valid = torch.rand(batch, *space, generator=generator) > 0.2
        self.params = {n: p.detach() for n, p in self.network.named_parameters()}
        self.batch = batch

    def losses_of(self, values):
        return self.part(slice(None))(values)

    def part(self, which, network=None):
        image, label, valid = self.image[which], self.label[which], self.valid[which]
        network = self.network if network is None else network

        def losses_of(values):
            return dice_ce(call_with(network, values, image), label, valid)

        return losses_of

    def each(self):
        return [self.part(slice(k, k + 1)) for k in range(self.batch)]

    def some_direction(self, seed=7):
        generator = torch.Generator().manual_seed(seed)
        return {
            n: torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)
            for n, p in self.params.items()
        }
