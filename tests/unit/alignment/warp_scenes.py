"""What is bent by a known field, networks that say what they are told, and how they learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, one_hot

from labelmend.alignment.fields import warp_field
from labelmend.alignment.velocity import integrate
from labelmend.alignment.warp import WarpAligner, channels_seen
from labelmend.networks.field import build_field_network

SMOOTHLY = {1: "linear", 2: "bicubic", 3: "trilinear"}


@dataclass(frozen=True)
class Scene:
    """Predictions that show the truth but for noise, and labels that are the truth bent.

    Attributes:
        seen: the prediction.
        label: what was claimed.
        valid: where.
        truth: what should have been.
        back: the field that bends the labels back to the truth.
        bent: the field that the labels were bent by, which the prediction must follow to them.
        edges: positions near an edge of the truth, ``(batch, *space)`` bool.
    """

    seen: Tensor
    label: Tensor
    valid: Tensor
    truth: Tensor
    back: Tensor
    bent: Tensor
    edges: Tensor

    @property
    def given(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.seen, self.label, self.valid

    def aim(self, moves: str) -> Tensor:
        """The field that is to be found."""
        return self.back if moves == "label" else self.bent

    def off(self, field: Tensor, moves: str = "label") -> float:
        """By how much a field misses what is to be found, in positions, near edges."""
        miss = (field - self.aim(moves)).square().sum(1).sqrt()
        return miss[self.edges & self.valid].mean().item()


def bent_scene(space, batch, seed=0, *, most=3.0, size=6, continuous=False) -> Scene:
    """Lumps all over, bent by waves of up to ``most`` positions."""
    generator = torch.Generator().manual_seed(seed)
    dims = len(space)
    knots = 2 * torch.rand(batch, dims, *[3] * dims, generator=generator) - 1
    velocity = interpolate(knots, tuple(space), mode=SMOOTHLY[dims], align_corners=True)
    largest = velocity.flatten(1).abs().amax(1).view(-1, *[1] * (dims + 1))
    return _scene(most * velocity / largest, generator, size, continuous)


def shifted_scene(space, shifts, seed=0, *, size=6) -> Scene:
    """Lumps all over; every label lies off by one shift."""
    generator = torch.Generator().manual_seed(seed)
    by = torch.tensor(shifts).float().view(len(shifts), len(space), *[1] * len(space))
    return _scene(by.expand(-1, -1, *space), generator, size, continuous=False)


def _scene(velocity, generator, size, continuous) -> Scene:
    batch, dims, *space = velocity.shape
    knots = torch.randn(batch, 1, *[-(-n // size) + 1 for n in space], generator=generator)
    values = interpolate(knots, tuple(space), mode=SMOOTHLY[dims], align_corners=False)
    truth = values if continuous else (values[:, 0] > 0.2).long()
    there = torch.ones(batch, *space, dtype=torch.bool)
    label, valid = warp_field(truth, there, integrate(velocity))
    # Of continuous values the network says another multiple, and an offset.
    logits = 0.5 * truth + 2 if continuous else 6 * one_hot(truth, 2).movedim(-1, 1).float() - 3
    noise = torch.randn(logits.shape, generator=generator)
    seen = logits + (0.1 if continuous else 1.0) * noise
    solid = values[:, 0] > 0.2
    edges = torch.zeros_like(solid)
    for axis in range(1, dims + 1):
        differ = solid.diff(dim=axis)
        for start in (0, 1):
            edges.narrow(axis, start, differ.shape[axis]).logical_or_(differ)
    back, bent = integrate(-velocity), integrate(velocity)
    return Scene(seen, label, valid, truth, back, bent, edges)


def field_network(dims, *, continuous=False, channels=None, seed=0, **more) -> nn.Module:
    """A fresh field network, by default for two classes or one channel of values."""
    channels = channels or (1 if continuous else 2)
    seen = channels_seen(channels, classes=not continuous)
    return build_field_network(dims, seen, **({"width": 4, "depth": 2, "seed": seed} | more))


def stirred(network: nn.Module, by=1.0, seed=1) -> nn.Module:
    """The network with a last layer other than 0, as after some steps."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=by, generator=generator)
    return network


class Says(nn.Module):
    """A network that says the same whatever it is shown: a field of cells, to be learned.

    The field is in positions, and what it says a share of the reach.
    """

    def __init__(self, field: Tensor, reach: float = 8.0) -> None:
        super().__init__()
        self.field = nn.Parameter(field.clone())
        self.reach = reach

    def forward(self, images: Tensor) -> Tensor:
        return (self.field / self.reach).expand(len(images), -1, *images.shape[2:])


def learn(aligner: WarpAligner, scene: Scene, steps: int, rate=1e-2, **given) -> list[float]:
    """Train an aligner's network on a scene; what it cost at every step."""
    optimiser = torch.optim.Adam(aligner.network.parameters(), rate)
    costs = []
    for _ in range(steps):
        optimiser.zero_grad()
        cost = aligner.cost(*scene.given, **given).mean()
        cost.backward()
        optimiser.step()
        costs.append(cost.item())
    return costs
