"""Scenes whose labels belong in a known place, and predictions that are wrong in many ways.

A scene is an array of object numbers, 0 for the background, with a rim around what is compared: a
label out of place shows what lies there, as it does in a patch.
Predictions are evidence: positions inside an object by which a fault still finds it there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter, map_coordinates
from scipy.ndimage import label as components
from scipy.spatial import ConvexHull, QhullError

PAD = 20
"""The width of the rim; 8 in 3-D."""
NUCLEI = Path(__file__).resolve().parents[2] / "shared" / "data" / "dsb2018" / "labels"

Array = np.ndarray
Draw = Callable[[Any], Array]
Fault = Callable[[Array, float, Any], Array]

# ---------------------------------------------------------------------------- scenes


def rim_of(dims: int) -> int:
    return 8 if dims == 3 else PAD


def ball(space: tuple[int, ...], centre: Array, radius: float) -> Array:
    axes = np.meshgrid(*map(np.arange, space), indexing="ij", sparse=True)
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2


def smooth(rng: Any, space: tuple[int, ...], scale: float) -> Array:
    """Noise of deviation 1 that hangs together over some positions."""
    found = gaussian_filter(rng.normal(size=space), scale, mode="wrap")
    return found / found.std()


def blobs(rng: Any, side: int = 96, dims: int = 2) -> Array:
    """Two to seven objects, each the union of three balls."""
    rim = rim_of(dims)
    found = np.zeros((side + 2 * rim,) * dims, dtype=bool)
    space = found.shape
    for _ in range(rng.integers(2, 8)):
        centre, radius = rng.uniform(rim, side + rim, dims), rng.uniform(0.07, 0.14) * side
        for _ in range(3):
            middle = centre + rng.uniform(-radius, radius, dims)
            found |= ball(space, middle, radius * rng.uniform(0.5, 1))
    return components(found)[0]


def discs(rng: Any) -> Array:
    """Three to nine discs."""
    space = (96 + 2 * PAD,) * 2
    found = np.zeros(space, dtype=bool)
    for _ in range(rng.integers(3, 10)):
        found |= ball(space, rng.uniform(PAD, 96 + PAD, 2), rng.uniform(4, 11))
    return components(found)[0]


def border(rng: Any) -> Array:
    """One lumpy region cut by the border of the image."""
    space = (96 + 2 * PAD,) * 2
    angle = rng.uniform(0, 2 * np.pi)
    way = np.array([np.sin(angle), np.cos(angle)])
    centre = PAD + 48 + way * 48 / np.abs(way).max() + rng.uniform(-8, 8, 2)
    rows, columns = np.mgrid[: space[0], : space[1]] - centre[:, None, None]
    turn, radius = np.arctan2(rows, columns), rng.uniform(22, 36)
    lumps = sum(
        rng.normal(0, 0.25 / k) * np.cos(k * turn + rng.uniform(0, 2 * np.pi)) for k in range(2, 7)
    )
    return (np.hypot(rows, columns) < radius * (1 + lumps)).astype(int)


@functools.cache
def _micrographs() -> tuple[Array, ...]:
    images = [np.asarray(Image.open(path)) for path in sorted(NUCLEI.glob("*.png"))]
    return tuple(m for m in images if min(m.shape) >= 96 + 2 * PAD)


def nuclei(rng: Any) -> Array:
    """A cut of a real label."""
    whole, side = _micrographs(), 96 + 2 * PAD
    while True:
        image = whole[rng.integers(len(whole))]
        row, column = (rng.integers(0, n - side + 1) for n in image.shape)
        found = image[row : row + side, column : column + side].astype(int)
        if 0.02 <= (found[PAD:-PAD, PAD:-PAD] > 0).mean() <= 0.5:
            return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def intervals(rng: Any) -> Array:
    """Syllables on a recording of 1000 samples: intervals and gaps of any length."""
    found = np.zeros(1000 + 2 * PAD, dtype=int)
    at, number = rng.integers(0, 100), 0
    while at < len(found):
        length, number = rng.integers(15, 90), number + 1
        found[at : at + length] = number
        at += length + rng.integers(15, 130)
    return found


def beats(rng: Any) -> Array:
    """Heart beats on 1000 samples: three waves each, of a class each, nearly periodic."""
    found = np.zeros(1000 + 2 * PAD, dtype=int)
    every, at, number = rng.uniform(250, 400), rng.integers(-100, 100), 1
    widths = rng.integers((30, 35, 60), (55, 55, 95))
    while at < len(found):
        start = at
        for wave, gap in zip(widths, (25, 45, 0), strict=True):
            length = int(wave + rng.integers(-4, 5))
            found[max(start, 0) : max(start + length, 0)] = number
            start, number = start + length + gap + int(rng.integers(-4, 5)), number + 1
        at += int(every + rng.normal(0, 8))
    return found


def waves(objects: Array) -> Array:
    """The classes of beats: 1, 2 and 3 in turn."""
    return np.where(objects > 0, (objects - 1) % 3 + 1, 0)


SCENES: dict[str, Draw] = {"blobs": blobs, "discs": discs, "border": border, "nuclei": nuclei}
"""In 2-D, 96 x 96."""
RECORDINGS: dict[str, Draw] = {"intervals": intervals, "beats": beats}
VOLUMES: dict[str, Draw] = {"blobs 3-D": functools.partial(blobs, side=40, dims=3)}

# ---------------------------------------------------------------------------- faults


def depth(mask: Array) -> Array:
    """How far inside every position lies; below 0 outside."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, 12.0 if mask.all() else -12.0)
    return distance_transform_edt(mask) - distance_transform_edt(~mask)


def _kept(objects: Array, share: float, rng: Any) -> Array:
    """Some of several objects; one at least."""
    most = int(objects.max())
    keep = rng.random(most + 1) < share
    if most:
        keep[rng.integers(1, most + 1)] = True
    keep[0] = False
    return keep[objects]


def mixed(objects: Array, strength: float, rng: Any, *, long: float = 1.0) -> Array:
    """Outlines that wander, objects missing and made up; on the whole neither moved nor larger.

    Errors hang together over ``long`` times the usual 2 to 9 positions (deviation of a Gaussian).
    """
    unit = np.clip(depth(objects > 0).max() / 8, 1, 4)
    there = _kept(objects, 1 - 0.4 * strength, rng)
    for _ in range(rng.poisson(3 * strength)):
        there |= ball(there.shape, rng.uniform(0, there.shape), unit * rng.uniform(3, 8))
    found = depth(there)
    edge = np.abs(found) <= 1.5
    scales = rng.uniform(2, 6, 2) * long
    bend = np.stack([smooth(rng, found.shape, 1.5 * scales[0]) for _ in found.shape])
    # What warps an outline must not move all of it.
    bend -= bend[:, edge].mean(1).reshape(-1, *[1] * found.ndim) if edge.any() else 0
    places = np.stack(np.meshgrid(*map(np.arange, found.shape), indexing="ij"))
    found = map_coordinates(found, places + 3 * unit * strength * bend, order=1, mode="nearest")
    return found + 3 * unit * strength * smooth(rng, found.shape, scales[1])


def size(objects: Array, strength: float, rng: Any) -> Array:
    """All objects eroded, or all dilated."""
    change = rng.choice((-1, 1)) * 8 * strength
    return depth(objects > 0) + change + 0.5 * smooth(rng, objects.shape, 3)


def holes(objects: Array, strength: float, rng: Any) -> Array:
    """Blurred objects with holes in them."""
    blurred = gaussian_filter((objects > 0).astype(float), 1 + 3 * strength)
    found = 8 * (blurred - 0.5) + 0.2 * smooth(rng, objects.shape, 3)
    noise = smooth(rng, objects.shape, 3)
    return np.where(noise > np.quantile(noise, 1 - 0.4 * strength), -np.abs(found), found)


def missing(objects: Array, strength: float, rng: Any) -> Array:
    """Some objects are missed altogether, the others are well seen."""
    share = 1 - min(0.9 * strength, 0.97)
    return depth(_kept(objects, share, rng)) + 0.5 * smooth(rng, objects.shape, 3)


def one_sided(objects: Array, strength: float, rng: Any, *, alike: bool = False) -> Array:
    """Every object goes on too far to one side: each to its own, or all to the same."""
    ways = rng.normal(size=(2, objects.ndim))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    ways = ways[:1] if alike else np.concatenate([ways, -ways])
    of = rng.integers(0, len(ways), int(objects.max()) + 1)[objects]
    found = objects > 0
    for number, way in enumerate(ways):
        some = (of == number) & (objects > 0)
        for far in range(1, round(16 * strength) + 1):
            by = np.round(far * way).astype(int)
            found = found | np.roll(some, by, range(objects.ndim))
    return depth(found) + 0.5 * smooth(rng, objects.shape, 3)


FAULTS: dict[str, Fault] = {
    "mixed": mixed,
    "mixed, errors three times as long": functools.partial(mixed, long=3.0),
    "eroded or dilated": size,
    "blurred with holes": holes,
    "objects missing": missing,
    "each grown to a side of its own": one_sided,
    "all grown to the same side": functools.partial(one_sided, alike=True),
}

LOGITS: dict[str, Callable[[Array, Any], Array]] = {
    "sharp": lambda evidence, _: np.clip(1.5 * evidence, -8, 8),
    "weak": lambda evidence, rng: 0.4 * np.tanh(evidence / 4) + rng.normal(0, 0.03, evidence.shape),
}
"""Probabilities of 0.4 to 0.6 are weak."""

# ---------------------------------------------------------------------------- labels


def exact(objects: Array) -> Array:
    return objects > 0


def hulls(objects: Array) -> Array:
    """The convex hull of every object."""
    canvas = Image.new("1", objects.shape[::-1])
    for number, box in enumerate(find_objects(objects), start=1):
        if box is None:
            continue
        points = np.argwhere(objects[box] == number) + [part.start for part in box]
        try:
            corners = points[ConvexHull(points).vertices]
        except QhullError:
            corners = points  # too thin to have one
        outline = [(int(c), int(r)) for r, c in corners]
        ImageDraw.Draw(canvas).polygon(outline, fill=1) if len(outline) > 1 else None
    return np.asarray(canvas) | (objects > 0)


def circles(objects: Array) -> Array:
    """A circle around every object: the middle of its box, as far as its farthest position."""
    found = np.zeros(objects.shape, dtype=bool)
    for number, box in enumerate(find_objects(objects), start=1):
        if box is not None:
            points = np.argwhere(objects[box] == number) + [part.start for part in box]
            middle = (points.min(0) + points.max(0)) / 2
            far = np.sqrt(((points - middle) ** 2).sum(1).max())
            found |= ball(objects.shape, middle, far + 0.5)
    return found


LABELS: dict[str, Callable[[Array], Array]] = {
    "exact": exact,
    "convex hulls": hulls,
    "circles": circles,
    "three classes": waves,
}

# ---------------------------------------------------------------------------- cases


@dataclass(frozen=True)
class Case:
    """A scene, how its predictions and labels are made, how far labels are off at most."""

    scene: str
    fault: str
    label: str
    far: int

    @property
    def draw(self) -> Draw:
        """What draws a scene."""
        return (SCENES | RECORDINGS | VOLUMES)[self.scene]


@dataclass(frozen=True)
class Drawn:
    """One sample.

    Attributes:
        evidence: ``(classes, *space)`` without the background.
        label: ``(*space)``, out of place by ``displacement``.
        right: the same label in place.
        displacement: ``(dims,)``, what puts it in place.
        dice: of the evidence with the scene, all classes together.
    """

    evidence: Array
    label: Array
    right: Array
    displacement: Array
    dice: float


def draw(case: Case, strength: float, rng: Any) -> Drawn:
    """One sample of a case with a fault of some strength."""
    objects = case.draw(rng)
    claim = LABELS[case.label](objects).astype(np.int64)
    kinds = waves(objects) if case.label == "three classes" else (objects > 0).astype(int)
    rim = rim_of(objects.ndim)
    inner = (slice(rim, -rim),) * objects.ndim
    evidence = []
    for kind in range(1, 4 if case.label == "three classes" else 2):
        own = np.unique(np.where(kinds == kind, objects, 0), return_inverse=True)[1]
        evidence.append(FAULTS[case.fault](own.reshape(objects.shape), strength, rng)[inner])
    seen = np.stack(evidence)
    given = np.where((seen > 0).any(0), seen.argmax(0) + 1, 0)
    truth = kinds[inner]
    both = ((given == truth) & (truth > 0)).sum()
    dice = 2 * both / max(1, (given > 0).sum() + (truth > 0).sum())
    move = rng.integers(-case.far, case.far + 1, objects.ndim)
    there = tuple(
        slice(rim + m, rim + m + n) for m, n in zip(move, claim[inner].shape, strict=True)
    )
    return Drawn(seen, claim[there], claim[inner], move, float(dice))


STRENGTHS = np.array([0, 0.1, 0.2, 0.35, 0.5, 0.7, 1, 1.4, 2])


@functools.cache
def dice_by_strength(scene: str, fault: str, classes: bool, number: int) -> tuple[float, ...]:
    """Mean Dice at every strength, on scenes of their own."""
    case = Case(scene, fault, "three classes" if classes else "exact", 0)
    means = []
    for strength in STRENGTHS:
        drawn = [draw(case, strength, np.random.default_rng([7000, k])) for k in range(number)]
        means.append(float(np.mean([d.dice for d in drawn])))
    return tuple(means)


def strength_of(case: Case, quality: float, number: int = 48) -> float:
    """How strong a fault must be for a mean Dice; the strongest where that is not enough.

    A Dice of 1 is a strength of 0, which some faults do not quite reach.
    """
    if quality >= 1:
        return 0.0
    dice = dice_by_strength(case.scene, case.fault, case.label == "three classes", number)
    falling = np.minimum.accumulate(dice)
    return float(np.interp(-quality, -falling, STRENGTHS))
