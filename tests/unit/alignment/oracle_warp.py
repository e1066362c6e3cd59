"""What a label explains of a prediction, fitted channel by channel in the plainest way."""

from __future__ import annotations

import numpy as np


def misfit(seen, claim, places) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of ``seen = a · claim + b``, over the positions that count.

    Args:
        seen: ``(batch, channels, *space)``, as ``claim``.
        places: ``(batch, *space)`` bool.
    """
    seen, claim = (np.asarray(t, np.float64) for t in (seen, claim))
    places = np.asarray(places)
    left, whole = np.zeros(len(seen)), np.zeros(len(seen))
    for sample in range(len(seen)):
        at, explained = places[sample], 0.0
        for channel in range(seen.shape[1]):
            wanted, said = seen[sample, channel][at], claim[sample, channel][at]
            if not at.any():
                continue
            spread = ((said - said.mean()) ** 2).sum()
            total = ((wanted - wanted.mean()) ** 2).sum()
            whole[sample] += spread
            if not spread or not total:
                continue
            design = np.stack([said, np.ones_like(said)], 1)
            (slope, offset), *_ = np.linalg.lstsq(design, wanted, rcond=None)
            residual = ((wanted - slope * said - offset) ** 2).sum()
            # A label that explains the opposite of a prediction is worse than none.
            explained += spread * np.sign(slope) * (1 - residual / total)
        left[sample] = 1 - explained / whole[sample] if whole[sample] else 1.0
    return left, whole


def dice(one, other, over) -> float:
    """Overlap of two labels, foreground against background, over some positions."""
    one, other = (np.asarray(t)[np.asarray(over)] > 0 for t in (one, other))
    return 2 * (one & other).sum() / max(one.sum() + other.sum(), 1)


def meters(before, after, gain, field, learns, margin) -> dict[str, tuple[float, float]]:
    """The meters of warping, sample by sample: a sum and how many it is of."""
    sums = dict.fromkeys(("bent", "bent_by", "removed", "removed_strong"), (0.0, 0.0))

    def more(name, value, of):
        sums[name] = (sums[name][0] + value, sums[name][1] + of)

    for k in range(len(before)):
        if not learns[k]:
            more("removed_strong", before[k] - after[k], before[k])
            continue
        way = np.asarray(field[k], np.float64).reshape(len(field[k]), -1)
        lengths = [((way[:, p] - way.mean(1)) ** 2).sum() for p in range(way.shape[1])]
        more("bent", float(gain[k] >= margin and gain[k] > 0), 1.0)
        more("bent_by", float(np.sqrt(np.mean(lengths))), 1.0)
        more("removed", before[k] - after[k], before[k])
    return sums
