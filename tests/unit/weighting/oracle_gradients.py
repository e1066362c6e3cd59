"""The slow and obvious way: one backward pass for every sample."""

from __future__ import annotations

import torch


def similarities(losses_of, params, direction):
    """g_kᵀ v by a loop over the losses of one batch."""
    leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
    losses = losses_of(leaves)
    return torch.stack([_slope(loss, leaves, direction) for loss in losses])


def alone(losses_of_each, params, direction):
    """g_kᵀ v of samples that never shared a batch: one function of parameters for every sample."""
    found = []
    for losses_of in losses_of_each:
        leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
        found.append(_slope(losses_of(leaves).sum(), leaves, direction))
    return torch.stack(found)


def _slope(loss, leaves, direction):
    gradients = torch.autograd.grad(
        loss, list(leaves.values()), retain_graph=True, allow_unused=True
    )
    pairs = zip(gradients, leaves, strict=True)
    return sum((g * direction[n]).sum() for g, n in pairs if g is not None)


def angles(losses_of_each, params, direction):
    """g_kᵀ v, ‖g_k‖ and their cosine in float64, every sample in a batch of its own."""
    v = torch.cat([direction[n].double().flatten() for n in params])
    found = []
    for losses_of in losses_of_each:
        leaves = {n: p.detach().double().requires_grad_() for n, p in params.items()}
        g = torch.autograd.grad(losses_of(leaves).sum(), list(leaves.values()))
        g = torch.cat([part.flatten() for part in g])
        found.append(torch.stack([g @ v, g.norm(), g @ v / (g.norm() * v.norm())]))
    return torch.stack(found).unbind(1)


def off(found, right):
    """The largest error as a share of the largest value."""
    return ((found - right).abs().max() / right.abs().max()).item()
