"""Slow and obvious twins of the search for transforms: try every one, at full resolution."""

import torch

from labelmend.alignment.affine import warp_affine
from labelmend.alignment.placement import belief, edge_length
from labelmend.alignment.score_maps import displacements
from labelmend.alignment.scores import score_shifts


def best_transform(family, prediction, label, valid, grid, window):
    """Parameters and displacement of the sample, by moving the label to everywhere."""
    edges, best = edge_length(label, valid), None
    for row in grid:
        for move in displacements(window, label.device).tolist():
            parameters = torch.tensor([row])
            displacement = torch.tensor([move], dtype=torch.float32)
            to, known = warp_affine(label, valid, family.matrices(parameters, displacement))
            maps = score_shifts(prediction, to, known, "normalised", 0)
            nats = belief(maps, "normalised", edges).score.flatten().item()
            if best is None or nats > best[0]:
                best = nats, row, move
    return best[1:]


def apart(label, one, other):
    """How far two matrices put the label's foreground apart, root of the mean square."""
    total, number = 0.0, 0
    for position in (label > 0).nonzero().tolist():
        p = torch.tensor([*position, 1.0])
        total += float(((one @ p) - (other @ p)).square().sum())
        number += 1
    return (total / number) ** 0.5
