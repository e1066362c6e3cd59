"""The slow and obvious way: whole matrices, entry by entry, and textbook solvers on them."""

from __future__ import annotations

import torch


def flat(vector):
    return torch.cat([v.reshape(-1) for v in vector.values()])


def named(shapes, vector):
    parts = vector.split([v.numel() for v in shapes.values()])
    return {n: p.reshape(v.shape) for (n, v), p in zip(shapes.items(), parts, strict=True)}


def rows(outputs, leaves):
    """The derivative of every output, one backward pass each."""
    found = []
    for output in outputs.reshape(-1):
        parts = torch.autograd.grad(output, leaves, retain_graph=True, allow_unused=True)
        pairs = zip(parts, leaves, strict=True)
        found.append(
            torch.cat([(torch.zeros_like(x) if g is None else g).reshape(-1) for g, x in pairs])
        )
    return torch.stack(found).detach()


def hessian(loss, leaves):
    """Of a scalar function of some leaves."""
    slopes = torch.autograd.grad(loss, leaves, create_graph=True)
    return rows(torch.cat([s.reshape(-1) for s in slopes]), leaves)


def loss_hessian(losses_of, params):
    leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
    losses = losses_of(leaves)
    return hessian(sum(losses) / len(losses), list(leaves.values()))


def gauss_newton(logits_of, loss_of_logits, params):
    leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
    logits = logits_of(leaves)
    jacobian = rows(logits, list(leaves.values()))
    at = logits.detach().clone().requires_grad_()
    losses = loss_of_logits(at)
    return jacobian.T @ hessian(sum(losses) / len(losses), [at]) @ jacobian


def softmax_gauss_newton(logits_of, valid, params):
    """Jᵀ (diag p − p pᵀ) J, summed position by position over the valid ones."""
    leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
    logits = logits_of(leaves)
    total = 0
    for k in range(len(logits)):
        known = valid[k].reshape(-1)
        columns = logits[k].reshape(logits.shape[1], -1)
        for place in known.nonzero().flatten():
            jacobian = rows(columns[:, place], list(leaves.values()))
            p = columns[:, place].detach().softmax(0)
            bend = torch.diag(p) - torch.outer(p, p)
            total = total + jacobian.T @ bend @ jacobian / (known.sum() * len(logits))
    return total


def mean_square(losses_of, params):
    leaves = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
    return rows(losses_of(leaves), list(leaves.values())).square().mean(0)


def conjugate_gradients(matrix, g, iterations):
    """Hestenes and Stiefel; the last iterate before negative curvature shows."""
    x, r = torch.zeros_like(g), g.clone()
    p = r
    for _ in range(iterations):
        moved = matrix @ p
        if p @ moved <= 0:
            break
        step = (r @ r) / (p @ moved)
        x = x + step * p
        rest = r - step * moved
        p = rest + (rest @ rest) / (r @ r) * p
        r = rest
    return x


def neumann(matrix, g, iterations, scale):
    power, total = torch.eye(len(g), dtype=g.dtype), torch.zeros_like(g)
    for _ in range(iterations + 1):
        total = total + scale * power @ g
        power = power @ (torch.eye(len(g), dtype=g.dtype) - scale * matrix)
    return total
