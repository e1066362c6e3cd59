"""Similarities from two forward passes, checked at every use, replaced where the check fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from labelmend.errors import SettingsError
from labelmend.weighting.ambient import own_precision
from labelmend.weighting.gradients import (
    LossesOf,
    Parameters,
    Similarities,
    exact_or_slow,
    fitting,
    per_sample,
)

STEPS = {torch.float32: (1e-5, 1e-4, 1e-6), torch.float64: (1e-7, 1e-6, 1e-8)}
"""Relative steps ‖εv‖ / ‖θ‖ by number type, in the order to try them. The first balances rounding
against the bends of trained networks, where 1e-3 was up to 120 % wrong."""

TOLERANCE = 1e-2
"""How far from the known slope of the strong loss a step may lead, as a share of that slope."""


def central(
    losses_of: LossesOf, params: Parameters, direction: Parameters, *, step: float | None = None
) -> tuple[Tensor, Tensor]:
    """g_kᵀ v ≈ (ℓ_k(θ + εv) - ℓ_k(θ - εv)) / 2ε with ε‖v‖ = ``step`` · ‖θ‖: a :data:`Mode`.

    Two forward passes, with no more memory than one, in the memory layout of the parameters: see
    :func:`channels_last`. The losses are the means of the two. The trap: the step that suits
    fresh parameters can be 100 % wrong on trained ones, and float32 leaves few digits where the
    loss is flat, so prefer :func:`checked_central`.

    Args:
        losses_of: losses of the samples to be judged, ``(batch,)``.
        params: θ.
        direction: v.
        step: ‖εv‖ / ‖θ‖; by default the first of :data:`STEPS` for the parameters' number type.

    Raises:
        SettingsError: for parameters in half precision, which the step would not move.
        ShapeError: when the losses have been averaged already, or the direction does not fit.

    >>> x = torch.tensor([1.0, -3.0], dtype=torch.float64)
    >>> one = {"w": torch.ones((), dtype=torch.float64)}
    >>> central(lambda p: p["w"].square() * x, one, one)[1].round(decimals=6)
    tensor([ 2., -6.], dtype=torch.float64)
    """
    reason = _too_coarse(params)
    if reason:
        raise SettingsError(f"{reason}; use weighting.gradients.exact")
    tangents = fitting(direction, params)
    epsilon = _epsilon(params, tangents, _steps(params)[0] if step is None else step)
    # One after the other: no more than two of them are there at a time.
    places = (_moved(params, tangents, by) for by in (epsilon, -epsilon))
    return _difference(losses_of, places, params, epsilon)


def channels_last(params: Parameters) -> dict[str, Tensor]:
    """The same parameters with the kernels of 2-D and 3-D convolutions channels-last in memory.

    A network called with them works in that layout whatever that of its input, and on a CPU a
    forward pass of a U-Net takes 0.8 to 0.95 of its time: :func:`central` then costs 1.5 to 1.9
    plain forward passes in place of 2. :func:`labelmend.weighting.gradients.exact` grows slower
    with it. The trap: losses that call ``view`` on a prediction fail; ``reshape`` works.

    >>> found = channels_last({"weight": torch.zeros(4, 2, 3, 3), "bias": torch.zeros(4)})
    >>> found["weight"].stride(), found["bias"].stride()
    ((18, 1, 6, 2), (1,))
    """
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    return {
        n: p.detach().to(memory_format=layouts.get(p.ndim, torch.preserve_format))
        for n, p in params.items()
    }


@dataclass(frozen=True, slots=True)
class Step:
    """What the check of one direction found.

    Attributes:
        size: the relative step that passed, or None when none did.
        error: of that step, or the least of all, as a share of the (largest) known slope.
        note: what to tell people when the first step did not pass; one line, else empty.
    """

    size: float | None
    error: float
    note: str = ""


def find_step(
    strong_losses_of: LossesOf,
    params: Parameters,
    direction: Parameters,
    slope: float | Tensor,
    *,
    steps: tuple[float, ...] | None = None,
    tolerance: float = TOLERANCE,
) -> Step:
    """The first step along a direction whose difference of the strong loss is the known slope.

    Two forward passes of the strong samples for every step tried, one step as a rule; once per
    direction, however many weak samples are judged with it. A smaller check is as good: any of
    the strong samples, with their own slope. The trap: a mean can be right while single samples
    are not (2 % of the largest, seen on networks with feature maps of a few positions); one slope
    per strong sample, from :func:`labelmend.weighting.gradients.exact`, checks them singly.

    Args:
        strong_losses_of: losses of trusted samples, ``(strong,)``.
        params: θ.
        direction: v.
        slope: the derivative of their mean loss along v, from their gradient: ‖g_S‖² for
            v = g_S, else g_Sᵀ v (:func:`labelmend.weighting.gradients.inner`). Or ``(strong,)``,
            that of each one's loss.
        steps: relative steps to try; by default :data:`STEPS` for the parameters' number type.
        tolerance: as a share of the slope, or of the largest of the slopes.

    >>> x = torch.tensor([1.0, 3.0])
    >>> one = {"w": torch.ones(())}
    >>> find_step(lambda p: p["w"].square() * x, one, one, slope=4.0, tolerance=0.05).size
    1e-05
    """
    reason = _too_coarse(params)
    if reason:
        return Step(None, math.nan, reason)
    known = torch.as_tensor(slope, dtype=torch.float64).cpu()
    steps = steps or _steps(params)
    errors: list[float] = []
    for step in steps:
        found = central(strong_losses_of, params, direction, step=step)[1].double().cpu()
        errors.append(_share(found - known if known.ndim else found.mean() - known, known))
        if errors[-1] <= tolerance:  # False for NaN
            note = f"relative step {step:g} in place of {steps[0]:g}" if step != steps[0] else ""
            return Step(step, errors[-1], note)
    listed = ", ".join(f"{e:.2g} at {s:g}" for s, e in zip(steps, errors, strict=True))
    return Step(
        None,
        # NaN is neither less nor more: it must not hide a number.
        min(errors, key=lambda e: math.inf if math.isnan(e) else e),
        f"relative error of the strong loss's slope {listed} (allowed: {tolerance:g})",
    )


def checked_central(
    losses_of: LossesOf,
    params: Parameters,
    direction: Parameters,
    slope: float | Tensor,
    strong_losses_of: LossesOf,
    *,
    tolerance: float = TOLERANCE,
) -> Similarities:
    """:func:`central` where it gives the known slope of the strong loss, else the exact mode.

    For one batch of weak samples; for several with one direction call :func:`find_step` and
    :func:`along` once, and what that returns for every batch. The result says which mode it came
    from, and why.

    >>> x, y = torch.tensor([1.0, -3.0]), torch.tensor([2.0])
    >>> one = {"w": torch.ones(())}
    >>> found = checked_central(lambda p: p["w"] * x, one, one, 2.0, lambda p: p["w"] * y)
    >>> found.mode, found.note
    ('central', '')
    """
    step = find_step(strong_losses_of, params, direction, slope, tolerance=tolerance)
    return along(step, params, direction)(losses_of)


def along(
    step: Step, params: Parameters, direction: Parameters
) -> Callable[[LossesOf], Similarities]:
    """What gives the similarities of any batch by the step that was found, or exactly if none was.

    Both places of the step are made here, once for all batches: θ is there three times as long as
    what is returned. The trap: it knows θ as it is now, so no step of training may come between.

    >>> x, one = torch.tensor([1.0, -3.0]), {"w": torch.ones(())}
    >>> similarities = along(Step(None, 0.5, "misses"), one, one)
    >>> similarities(lambda p: p["w"] * x)
    Similarities(losses=tensor([ 1., -3.]), similarity=tensor([ 1., -3.]), mode='exact',
                 note='exact mode in place of the central difference: misses')
    """
    if step.size is None:
        return lambda losses_of: _instead(step, losses_of, params, direction)
    tangents = fitting(direction, params)
    epsilon = _epsilon(params, tangents, step.size)
    places = [_moved(params, tangents, by) for by in (epsilon, -epsilon)]
    return lambda losses_of: Similarities(
        *_difference(losses_of, places, params, epsilon), "central", step.note
    )


def _instead(
    step: Step, losses_of: LossesOf, params: Parameters, direction: Parameters
) -> Similarities:
    """The exact mode where no step passed the check, and why."""
    found = exact_or_slow(losses_of, params, direction)
    note = f"{found.mode} mode in place of the central difference: {step.note}"
    return replace(found, note=f"{note}; {found.note}" if found.note else note)


def _difference(
    losses_of: LossesOf, places: Iterable[Parameters], params: Parameters, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Losses and their slope, from those ahead of θ and behind it."""
    with own_precision(params), torch.no_grad():
        ahead, behind = (per_sample(losses_of(place)) for place in places)
    losses = (ahead.double() + behind.double()) / 2
    similarity = (ahead.double() - behind.double()) / (2 * epsilon)
    return losses.to(ahead), similarity.to(ahead)


def _epsilon(params: Parameters, tangents: Parameters, step: float) -> float:
    """How far to go along a direction for ‖εv‖ to be this share of ‖θ‖."""
    # A direction of zero leads nowhere: any step then gives similarities of zero.
    return step * (_length(params) or 1.0) / (_length(tangents) or 1.0)


def _length(values: Parameters) -> float:
    """‖values‖, by one operation for each: beside two small forward passes that counts."""
    return math.hypot(
        *(torch.linalg.vector_norm(v, dtype=torch.float64).item() for v in values.values())
    )


def _moved(params: Parameters, tangents: Parameters, by: float) -> dict[str, Tensor]:
    # Into memory laid out like the parameter: left to itself, torch.add turns a channels-last
    # kernel of one input channel back, and with it all that follows.
    return {
        n: torch.add(p.detach(), tangents[n], alpha=by, out=torch.empty_like(p.detach()))
        for n, p in params.items()
    }


def _steps(params: Parameters) -> tuple[float, ...]:
    kinds = {value.dtype for value in params.values()}
    return STEPS[torch.float32 if torch.float32 in kinds else torch.float64]


def _too_coarse(params: Parameters) -> str:
    """Why a small step cannot be taken, or nothing."""
    for name, value in params.items():
        if value.dtype not in STEPS:
            kind = str(value.dtype).removeprefix("torch.")
            return f"a central difference needs float32 or float64 parameters; {name!r} is {kind}"
    return ""


def _share(error: Tensor, whole: Tensor) -> float:
    most, of = error.abs().max().item(), whole.abs().max().item()
    if most == 0:
        return 0.0
    return most / of if of else math.inf
