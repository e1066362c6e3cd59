"""The slow and obvious way: one backward pass for every sample."""

from __future__ import annotations

import torch


def similarities(losses_of, params, direction):
    """g_kᵀ v by a loop over samples."""
    leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
    losses = losses_of(leaves)
    out = []
    for k in range(len(losses)):
        gradients = torch.autograd.grad(
            losses[k], list(leaves.values()), retain_graph=True, allow_unused=True
        )
        pairs = zip(gradients, direction.values(), strict=True)
        out.append(sum((g * v).sum() for g, v in pairs if g is not None))
    return torch.stack(out)
