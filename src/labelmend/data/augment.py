"""Random changes of a sample, alike for its image, its label and what of it is valid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Generator, Tensor

from labelmend.errors import SettingsError, ShapeError


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much may change; everything at 0 or False changes nothing.

    Attributes:
        flip: probability of mirroring, per space axis.
        quarter_turns: turn by 0, 90, 180 or 270 degrees in a plane of two equally long axes.
        noise: largest deviation of added normal noise, drawn uniformly per sample.
        contrast: largest relative change of the distance to the channel's mean.
        brightness: largest shift of all values.

    Raises:
        SettingsError: for values out of range.

    Trap: a mirrored recording runs backwards; set ``flip`` to 0 where the direction has a meaning.
    """

    flip: float = 0.0
    quarter_turns: bool = False
    noise: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0

    def __post_init__(self) -> None:
        checks = {
            "flip wants a probability from 0 to 1": 0 <= self.flip <= 1,
            "noise wants a number of at least 0": 0 <= self.noise < math.inf,
            "contrast wants a number of at least 0 and below 1": 0 <= self.contrast < 1,
            "brightness wants a number of at least 0": 0 <= self.brightness < math.inf,
        }
        for wish, kept in checks.items():
            if not kept:
                raise SettingsError(f"augment.{wish}")


def augment(
    image: Tensor, label: Tensor, valid: Tensor, generator: Generator, augmentation: Augmentation
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One random change of a sample: first where things are, then how bright they are.

    Args:
        image: ``(channels, *space)`` float.
        label: ``(*space)`` class indices or ``(channels, *space)`` float.
        valid: ``(*space)`` bool.
        generator: where randomness comes from; equal states give equal results to the last bit.
        augmentation: how much may change.

    Returns:
        Image, label and valid of the same shapes, and the pose ``(dims, dims)`` int64: what was a
        displacement ``d`` is now ``pose @ d``. The inputs stay as they are.

    Raises:
        ShapeError: when the three are not of the same positions.

    >>> change = Augmentation(flip=1.0)
    >>> label = torch.tensor([0, 0, 1])
    >>> valid = torch.tensor([True, True, True])
    >>> augment(label[None].float(), label, valid, Generator().manual_seed(0), change)[:2]
    (tensor([[1., 0., 0.]]), tensor([1, 0, 0]))
    """
    dims = valid.ndim
    space = valid.shape
    if image.shape[1:] != space or label.shape[-dims:] != space:
        raise ShapeError(
            f"image, label and valid of the same positions are wanted, got "
            f"{tuple(image.shape)}, {tuple(label.shape)} and {tuple(valid.shape)}"
        )
    mirrored = _mirrored_axes(dims, augmentation, generator)
    turn = _turn(tuple(space), augmentation, generator)
    image, label, valid = (_moved(t, mirrored, turn) for t in (image, label, valid))
    pose = _pose(dims, mirrored, turn)
    return _recoloured(image, augmentation, generator), label, valid, pose


def _mirrored_axes(dims: int, augmentation: Augmentation, generator: Generator) -> list[int]:
    if not augmentation.flip:
        return []
    drawn = torch.rand(dims, generator=generator).tolist()
    # counted from the end, so that one list serves tensors with and without channels
    return [a - dims for a, chance in enumerate(drawn) if chance < augmentation.flip]


def _turn(
    space: tuple[int, ...], augmentation: Augmentation, generator: Generator
) -> tuple[int, list[int]]:
    """How many quarter turns in which plane."""
    dims = len(space)
    planes = [[a - dims, b - dims] for a, b in combinations(range(dims), 2) if space[a] == space[b]]
    if not augmentation.quarter_turns or not planes:
        return 0, []
    plane = int(torch.randint(len(planes), (), generator=generator))
    return int(torch.randint(4, (), generator=generator)), planes[plane]


def _moved(tensor: Tensor, mirrored: list[int], turn: tuple[int, list[int]]) -> Tensor:
    if mirrored:
        tensor = tensor.flip(mirrored)
    times, plane = turn
    return torch.rot90(tensor, times, plane).contiguous() if times else tensor


def _pose(dims: int, mirrored: list[int], turn: tuple[int, list[int]]) -> Tensor:
    """What mirroring and turning do to displacements, ``(dims, dims)``."""
    pose = torch.eye(dims, dtype=torch.int64)
    for axis in mirrored:
        pose[axis] *= -1
    times, plane = turn
    for _ in range(times):
        # torch.rot90 turns the first axis of the plane towards the second.
        first, second = plane
        rows = pose.clone()
        rows[first], rows[second] = -pose[second], pose[first]
        pose = rows
    return pose


def _recoloured(image: Tensor, augmentation: Augmentation, generator: Generator) -> Tensor:
    if augmentation.contrast:
        factor = 1 + augmentation.contrast * _between_minus_one_and_one(generator)
        # numpy's sum, whose order does not depend on the number of threads: results must be equal
        # to the last bit in loading processes and without them
        space = tuple(range(1, image.ndim))
        mean = torch.from_numpy(
            image.numpy().mean(axis=space, keepdims=True, dtype=np.float64).astype(np.float32)
        )
        image = (image - mean) * factor + mean
    if augmentation.brightness:
        image = image + augmentation.brightness * _between_minus_one_and_one(generator)
    if augmentation.noise:
        deviation = augmentation.noise * float(torch.rand((), generator=generator))
        noise = torch.randn(image.shape, generator=generator, dtype=image.dtype)
        image = image + deviation * noise
    return image


def _between_minus_one_and_one(generator: Generator) -> float:
    return 2 * float(torch.rand((), generator=generator)) - 1
