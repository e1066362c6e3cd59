"""How often could any search find a label's place, on the scenes of ``bench_estimators.py``?

Along the outline in view, the prediction lies off the truth by a random field whose covariance is
known here, for ``estimator_scenes.mixed`` makes it: a bend, of which the part across the outline
shows, and noise, both Gaussian; each position adds the rounding of two grids. The displacement is
what all these errors have in common with a shift. To first order,

- the best linear estimate knows that covariance C, and has the covariance (NᵀC⁻¹N)⁻¹, where the
  rows of N are the normals of the outline (Gauss and Markov; for Gaussian errors no unbiased
  estimate of any kind does better: Cramér and Rao);
- least squares, which does not know it, has (NᵀN)⁻¹NᵀCN(NᵀN)⁻¹.

Both are told which part of the outline is which. Printed is how often their errors are below 1.5
positions along both axes, so that rounding can be right within one; objects that are missing or
made up make it harder still and are left out. Run: ``python benchmarks/bound_of_estimators.py``;
a minute on one core.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from estimator_scenes import PAD, SCENES, Array, Case, depth, strength_of

SEED = 9000
NUMBER = 100
DRAWS = 4000
DICE = (0.95, 0.9, 0.8)
ROUNDING = 2 / 12
"""Variance of a position on two grids, of label and of prediction."""


def outline(objects: Array) -> tuple[Array, Array]:
    """Positions just inside the outlines in view, and the normals there; both ``(number, 2)``."""
    inside = depth(objects > 0)
    places = np.argwhere((inside > 0) & (inside <= 1))
    seen = ((places >= PAD) & (places < np.array(objects.shape) - PAD)).all(1)
    places = places[seen]
    slope = np.stack(np.gradient(gaussian_filter(inside, 1)))[(slice(None), *places.T)].T
    return places, slope / (np.linalg.norm(slope, axis=1, keepdims=True) + 1e-9)


def covariance(places: Array, normals: Array, amount: float, scales: Array) -> Array:
    """Of the errors across the outline that ``estimator_scenes.mixed`` makes."""
    apart = ((places[:, None] - places) ** 2).sum(-1)
    # Noise that a Gaussian of deviation s has smoothed hangs together as one of s√2.
    bend, noise = (np.exp(-apart / (4 * s**2)) for s in (1.5 * scales[0], scales[1]))
    errors: Array = amount**2 * (normals @ normals.T * bend + noise)
    return errors + ROUNDING * np.eye(len(places))


def found(scene: str, dice: float) -> tuple[float, float]:
    """The share that the best estimate, and least squares, find within one position."""
    case = Case(scene, "mixed", "exact", 12)
    strength, shares = strength_of(case, dice), []
    for k in range(NUMBER):
        rng = np.random.default_rng([SEED, k])
        objects = case.draw(rng)
        places, normals = outline(objects)
        if len(places) < 3:
            shares.append((0.0, 0.0))
            continue
        unit = np.clip(depth(objects > 0).max() / 8, 1, 4)
        errors = covariance(places, normals, 3 * unit * strength, rng.uniform(2, 6, 2))
        best = np.linalg.inv(normals.T @ np.linalg.solve(errors, normals))
        flat = np.linalg.inv(normals.T @ normals)
        both = (best, flat @ (normals.T @ errors @ normals) @ flat)
        drawn = [rng.multivariate_normal([0, 0], of, DRAWS) for of in both]
        shares.append(tuple((np.abs(off) < 1.5).all(1).mean() for off in drawn))
    best_share, flat_share = np.mean(shares, axis=0)
    return float(best_share), float(flat_share)


def main() -> None:
    """Print a line for every scene."""
    print("| scene | " + " | ".join(f"Dice {d:g}" for d in DICE) + " |")
    print("|---" * (1 + len(DICE)) + "|")
    for scene in SCENES:
        entries = [f"{a:.0%}, {b:.0%}" for a, b in (found(scene, d) for d in DICE)]
        print("| " + " | ".join([scene, *entries]) + " |", flush=True)


if __name__ == "__main__":
    main()
