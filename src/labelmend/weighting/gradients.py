"""How alike are many samples' gradients to a trusted one, without a gradient for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from labelmend.errors import SettingsError, ShapeError

Parameters = Mapping[str, Tensor]
LossesOf = Callable[[Parameters], Tensor]
"""Parameters in, one loss per sample out: ``(batch,)``, never a mean."""


def mean_gradient(losses_of: LossesOf, params: Parameters) -> dict[str, Tensor]:
    """The gradient of the mean loss of a batch, g_S = ∇_θ (1/N) Σ ℓ_i(θ).

    Seed A, eq. 6, ¶58. Over several batches use :func:`mean_gradient_of`: a mean of means is
    wrong when the batches differ in size.

    Args:
        losses_of: a function of parameters that returns ``(batch,)``.
        params: names and tensors; neither they nor anything behind ``losses_of`` change.

    Raises:
        ShapeError: when the losses have been averaged already.

    >>> x = torch.tensor([1.0, 3.0])
    >>> mean_gradient(lambda p: p["w"] * x, {"w": torch.tensor(2.0)})
    {'w': tensor(2.)}
    """
    return mean_gradient_of([losses_of], params)


def mean_gradient_of(batches: Iterable[LossesOf], params: Parameters) -> dict[str, Tensor]:
    """The gradient of the mean loss over all samples of several batches, of whatever sizes.

    >>> few, many = torch.tensor([1.0]), torch.tensor([3.0, 5.0])
    >>> batches = [lambda p: p["w"] * few, lambda p: p["w"] * many]
    >>> mean_gradient_of(batches, {"w": torch.tensor(2.0)})
    {'w': tensor(3.)}
    """
    total: dict[str, Tensor] = {}
    count = 0
    for losses_of in batches:
        sums, size = _summed_gradient(losses_of, params)
        total = {k: total[k] + g for k, g in sums.items()} if total else sums
        count += size
    if count == 0:
        raise ShapeError("a trusted gradient needs at least one sample; there were none")
    return {name: gradient / count for name, gradient in total.items()}


def _summed_gradient(losses_of: LossesOf, params: Parameters) -> tuple[dict[str, Tensor], int]:
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with torch.enable_grad():
        losses = _per_sample(losses_of(leaves))
        found = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}, len(losses)


def gradient_similarity(losses_of: LossesOf, params: Parameters, direction: Parameters) -> Tensor:
    """How alike each sample's gradient is to a direction: g_kᵀ v for every sample k, ``(batch,)``.

    Seed A, eq. 7–8. One forward-mode derivative of the vector of losses along v = H⁻¹ g_S; the
    cost is about three forward passes, whatever the number of samples. The trap: a network that
    couples samples (BatchNorm in training mode) has no per-sample gradient, so put it in
    evaluation mode first.

    Raises:
        SettingsError: when the network has an operation without a forward-mode rule.
        ShapeError: when the losses have been averaged already.

    >>> x = torch.tensor([1.0, -3.0])
    >>> losses_of = lambda p: p["w"] * x
    >>> gradient_similarity(losses_of, {"w": torch.tensor(2.0)}, {"w": torch.tensor(10.0)})
    tensor([ 10., -30.])
    """
    return loss_and_similarity(losses_of, params, direction)[1]


def loss_and_similarity(
    losses_of: LossesOf, params: Parameters, direction: Parameters
) -> tuple[Tensor, Tensor]:
    """:func:`gradient_similarity` together with the losses, which the same pass gives for free.

    >>> x = torch.tensor([1.0, -3.0])
    >>> loss_and_similarity(lambda p: p["w"] * x, {"w": torch.ones(())}, {"w": torch.ones(())})
    (tensor([ 1., -3.]), tensor([ 1., -3.]))
    """
    names = list(params)

    def of(*values: Tensor) -> Tensor:
        return _per_sample(losses_of(dict(zip(names, values, strict=True))))

    primals = tuple(params[name].detach() for name in names)
    tangents = tuple(direction[name].detach().to(params[name].dtype) for name in names)
    try:
        with torch.no_grad():
            losses, similarity = torch.func.jvp(of, primals, tangents)[:2]
    except RuntimeError as error:
        # torch has no error type of its own for this: NotImplementedError (a RuntimeError) for
        # its operations, RuntimeError for functions of the user's.
        if not any(word in str(error) for word in ("forward AD", "setup_context", "forward-mode")):
            raise
        first = str(error).splitlines()[0]
        raise SettingsError(
            f"the network or loss has an operation without a forward-mode derivative ({first}); "
            "replace it, or train with weighting.method = 'constant'"
        ) from error
    return losses.detach(), similarity.detach()


def _per_sample(losses: Tensor) -> Tensor:
    if losses.ndim != 1:
        raise ShapeError(
            f"one loss per sample is needed, shaped (batch,), not {tuple(losses.shape)}; "
            "do not average inside the loss"
        )
    return losses
