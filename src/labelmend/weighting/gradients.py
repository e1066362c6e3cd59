"""How alike are many samples' gradients to a trusted one, without a gradient for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from labelmend.errors import SettingsError, ShapeError
from labelmend.weighting.ambient import own_precision
from labelmend.weighting.forward_rules import FusedRules

Parameters = Mapping[str, Tensor]
LossesOf = Callable[[Parameters], Tensor]
"""Parameters in, one loss per sample out: ``(batch,)``, never a mean."""

Mode = Callable[[LossesOf, Parameters, Parameters], tuple[Tensor, Tensor]]
"""``(losses_of, params, direction) -> (losses, similarity)``, each ``(batch,)`` and detached."""

NO_RULE = ("forward AD", "forward mode AD", "forward-mode", "Forward AD")
"""What torch says of an operation without a forward-mode derivative: it has no error of its own."""


@dataclass(frozen=True, slots=True)
class Similarities:
    """What was found, and how.

    Attributes:
        losses: ``(batch,)`` each sample's own loss.
        similarity: ``(batch,)`` g_kᵀ v.
        mode: the mode that gave them: ``central``, ``exact`` or ``slow``.
        note: why it was not the mode that was asked for, one line; empty when it was.
    """

    losses: Tensor
    similarity: Tensor
    mode: str
    note: str = ""


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
    with own_precision(params), torch.enable_grad():
        leaves = _leaves(params)
        losses = per_sample(losses_of(leaves))
        found = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, _filled(leaves, found), strict=True)), len(losses)


def inner(one: Parameters, other: Parameters) -> float:
    """The inner product of two sets of tensors of the same names, summed in double precision.

    Of g_S with itself it is ‖g_S‖², of g_S with v = H⁻¹ g_S the slope of the strong loss along v:
    what :func:`labelmend.weighting.central.checked_central` is checked against.

    >>> inner({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 4.0])})
    11.0
    """
    return sum((one[k].double() * other[k].double()).sum().item() for k in one)


def gradient_similarity(losses_of: LossesOf, params: Parameters, direction: Parameters) -> Tensor:
    """How alike each sample's gradient is to a direction: g_kᵀ v for every sample k, ``(batch,)``.

    Seed A, eq. 7–8. One forward-mode derivative of the vector of losses along v = H⁻¹ g_S; the
    cost is about three forward passes, whatever the number of samples. The trap: a network that
    couples samples (BatchNorm in training mode) has no per-sample gradient;
    :func:`labelmend.weighting.choice.check_uncoupled` refuses it.

    Raises:
        SettingsError: when the network has an operation without a forward-mode rule.
        ShapeError: when the losses have been averaged already, or the direction does not fit.

    >>> x = torch.tensor([1.0, -3.0])
    >>> losses_of = lambda p: p["w"] * x
    >>> gradient_similarity(losses_of, {"w": torch.tensor(2.0)}, {"w": torch.tensor(10.0)})
    tensor([ 10., -30.])
    """
    return exact(losses_of, params, direction)[1]


def exact(losses_of: LossesOf, params: Parameters, direction: Parameters) -> tuple[Tensor, Tensor]:
    """:func:`gradient_similarity` together with the losses, which the same pass gives for free.

    Ambient autocast is switched off: the pass runs in the precision of the parameters.

    >>> x = torch.tensor([1.0, -3.0])
    >>> exact(lambda p: p["w"] * x, {"w": torch.ones(())}, {"w": torch.ones(())})
    (tensor([ 1., -3.]), tensor([ 1., -3.]))
    """
    try:
        return _forward(losses_of, params, direction)
    except RuntimeError as error:
        reason = _missing_rule(error)
        if reason is None:
            raise
        raise SettingsError(
            f"the network or loss has an operation without a forward-mode derivative ({reason}); "
            "replace it, take weighting.gradients.slow, or train with weighting.method = "
            "'constant'"
        ) from error


def slow(losses_of: LossesOf, params: Parameters, direction: Parameters) -> tuple[Tensor, Tensor]:
    """The same as :func:`exact` by backward passes alone, for any network that can be trained.

    h(u) = (∇_θ Σ_k u_k ℓ_k)ᵀ v is linear in u and its derivative is g_kᵀ v for all k: two
    backward passes, about ten forward passes in time. Where an operation cannot be differentiated
    twice, or the sum of the result is not h(1), one backward pass of the batch for every sample.

    >>> x = torch.tensor([1.0, -3.0])
    >>> slow(lambda p: p["w"] * x, {"w": torch.ones(())}, {"w": torch.ones(())})
    (tensor([ 1., -3.]), tensor([ 1., -3.]))
    """
    tangents = fitting(direction, params)
    with own_precision(params), torch.enable_grad():
        leaves = _leaves(params)
        losses = per_sample(losses_of(leaves))
        if losses.requires_grad:
            similarity = _twice(losses, leaves, tangents)
            if similarity is None:
                similarity = _one_by_one(losses, leaves, tangents)
        else:  # no parameter takes part
            similarity = torch.zeros_like(losses)
    return losses.detach(), similarity.detach()


def exact_or_slow(losses_of: LossesOf, params: Parameters, direction: Parameters) -> Similarities:
    """:func:`exact`, and :func:`slow` with a note where an operation has no forward-mode rule.

    In torch 2.13 those are scaled-dot-product attention, LSTM and GRU, ``grid_sample``,
    re-entrant checkpointing, and autograd functions of one's own without ``jvp``.

    >>> x = torch.tensor([1.0, -3.0])
    >>> exact_or_slow(lambda p: p["w"] * x, {"w": torch.ones(())}, {"w": torch.ones(())}).mode
    'exact'
    """
    try:
        return Similarities(*_forward(losses_of, params, direction), "exact")
    except RuntimeError as error:
        reason = _missing_rule(error)
        if reason is None:
            raise
    note = f"backward passes in place of one forward-mode pass: {reason}"
    return Similarities(*slow(losses_of, params, direction), "slow", note)


def _forward(
    losses_of: LossesOf, params: Parameters, direction: Parameters
) -> tuple[Tensor, Tensor]:
    tangents = fitting(direction, params)
    # Torch's own dual numbers rather than torch.func.jvp: the same rules, without the cost of
    # its interpreter on every operation (about a fifth of the pass).
    with own_precision(params), torch.no_grad(), forward_ad.dual_level(), FusedRules():
        make, unpack = forward_ad.make_dual, forward_ad.unpack_dual
        dual = {n: make(p.detach(), tangents[n]) for n, p in params.items()}  # type: ignore[no-untyped-call]
        losses, slope = unpack(per_sample(losses_of(dual)))  # type: ignore[no-untyped-call]
    return losses.detach(), torch.zeros_like(losses) if slope is None else slope.detach()


def _missing_rule(error: RuntimeError) -> str | None:
    """What torch says when an operation has no forward-mode rule, or None for other errors."""
    return str(error).splitlines()[0] if any(words in str(error) for words in NO_RULE) else None


def _twice(losses: Tensor, leaves: Parameters, tangents: Parameters) -> Tensor | None:
    """Backward of a backward pass, or None where that cannot be had or be trusted."""
    ones = torch.ones_like(losses, requires_grad=True)
    try:
        total = _slope(losses, ones, leaves, tangents, create_graph=True)
        # With the graph of the first pass kept, for one by one.
        (similarity,) = torch.autograd.grad(total, [ones], retain_graph=True)
    except RuntimeError:
        return None  # once_differentiable, or a kernel without a second derivative
    # A function of the user's own may be silently wrong when differentiated twice.
    margin = 1e3 * torch.finfo(losses.dtype).eps * similarity.abs().sum()
    return similarity if (similarity.sum() - total).abs() <= margin else None


def _one_by_one(losses: Tensor, leaves: Parameters, tangents: Parameters) -> Tensor:
    one = torch.ones((), dtype=losses.dtype, device=losses.device)
    return torch.stack([_slope(loss, one, leaves, tangents) for loss in losses])


def _slope(
    losses: Tensor, share: Tensor, leaves: Parameters, tangents: Parameters, **more: bool
) -> Tensor:
    """The derivative along the tangents of the losses' sum, each times its share."""
    found = torch.autograd.grad(
        losses, list(leaves.values()), share, retain_graph=True, allow_unused=True, **more
    )
    pairs = zip(_filled(leaves, found), leaves, strict=True)
    return torch.stack([(g * tangents[n]).sum().to(losses) for g, n in pairs]).sum()


def _leaves(params: Parameters) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def _filled(leaves: Parameters, found: Iterable[Tensor | None]) -> list[Tensor]:
    pairs = zip(leaves.values(), found, strict=True)
    return [torch.zeros_like(p) if g is None else g for p, g in pairs]


def fitting(direction: Parameters, params: Parameters) -> dict[str, Tensor]:
    """The direction in the number types of the parameters.

    Raises:
        ShapeError: when names or shapes are not those of the parameters.

    >>> fitting({"w": torch.ones(2)}, {"v": torch.ones(2)})
    Traceback (most recent call last):
    labelmend.errors.ShapeError: the direction must have the parameters' names; only one has: v, w
    """
    odd = sorted(direction.keys() ^ params.keys())
    if odd:
        listed = ", ".join(odd[:5]) + (" …" if len(odd) > 5 else "")
        raise ShapeError(f"the direction must have the parameters' names; only one has: {listed}")
    for name, value in params.items():
        if direction[name].shape != value.shape:
            raise ShapeError(
                f"the direction of {name!r} must be shaped {tuple(value.shape)} like the "
                f"parameter, not {tuple(direction[name].shape)}"
            )
    return {n: direction[n].detach().to(params[n]) for n in params}


def per_sample(losses: Tensor) -> Tensor:
    """The same losses, refused unless there is one per sample.

    >>> per_sample(torch.zeros(3)).shape
    torch.Size([3])
    """
    if losses.ndim != 1:
        raise ShapeError(
            f"one loss per sample is needed, shaped (batch,), not {tuple(losses.shape)}; "
            + ("sum over the rest" if losses.ndim else "do not average inside the loss")
        )
    return losses
