"""Curvature times a direction, by passes through the network and without a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from labelmend.errors import SettingsError, ShapeError
from labelmend.weighting.ambient import derivable
from labelmend.weighting.gradients import LossesOf, Parameters, mean_gradient

Product = Callable[[Parameters], dict[str, Tensor]]
"""A direction in, the curvature times it out, by the names of the parameters."""

LogitsOf = Callable[[Parameters], Tensor]
"""Parameters in, what the network predicts for a batch out: ``(batch, classes, *space)``."""

Mode = Literal["reverse", "forward", "difference"]
"""How a product is differentiated: see :func:`hessian_product`."""

RELATIVE_STEP = {torch.float64: 1e-6, torch.float32: 1e-4}
"""How far a difference goes along the direction, as a share of the length of the parameters.

Shorter, rounding shows (half the digits of a gradient are lost here already); longer, units
cross the kinks of their activations."""

T = TypeVar("T")


def hessian_product(losses_of: LossesOf, params: Parameters, mode: Mode = "reverse") -> Product:
    """The product H v, H = ∇²_θ (1/B) Σ ℓ_i(θ): the Hessian of the mean loss (seed A, eq. 4).

    ===============  =====================================  ======  =======================
    mode             how                                    cost    right (float32)
    ===============  =====================================  ======  =======================
    ``reverse``      a gradient, its graph kept, backwards  2.1–3   to 1e-5
    ``forward``      forward-mode derivative of a gradient  3–5     to 1e-5
    ``difference``   two gradients a short way apart        2       to 6 % along a gradient
    ===============  =====================================  ======  =======================

    Costs are training steps of the same batch, the kept graph shared out over five products
    (``benchmarks/bench_curvature.py``). The trap of ``difference``: it works for whatever has a
    gradient, but gradients jump where units of ReLU and its kin switch, so along an arbitrary
    direction it can be wrong altogether; with smooth activations it has six digits in float64.

    For weighted losses multiply them inside ``losses_of``. The trap: far from a minimum H has
    negative curvature, so what is solved with it must say what it then does; a
    :func:`gauss_newton_product` has none. The graph lives as long as the function: make one for
    each weight step and let it go. Should a parameter change in place, the graph is built anew.

    Args:
        losses_of: a function of parameters that returns ``(batch,)``.
        params: names and tensors; neither they nor anything behind ``losses_of`` change.
        mode: ``reverse``, ``forward`` or ``difference``.

    Raises:
        SettingsError: for an unknown mode, or, at the first product, an operation that has no
            derivative of that kind.
        ShapeError: at the first product, when the losses have been averaged already or a
            direction has other names or shapes than the parameters.

    >>> x = torch.tensor([1.0, 3.0])
    >>> product = hessian_product(lambda p: x * p["w"] ** 2, {"w": torch.tensor(5.0)})
    >>> product({"w": torch.tensor(1.0)})
    {'w': tensor(4.)}
    """
    ways = {
        "reverse": _reverse_hessian,
        "forward": _forward_hessian,
        "difference": _difference_hessian,
    }
    _check_mode(mode)
    return _checked(ways[mode](losses_of, params), params, mode)


def gauss_newton_product(
    logits_of: LogitsOf,
    loss_of_logits: Callable[[Tensor], Tensor],
    params: Parameters,
    mode: Mode = "forward",
) -> Product:
    """The product Jᵀ H_L J v: the Hessian with the network made linear (Martens 2010).

    J is the derivative of the logits in the parameters, H_L the Hessian of the mean loss in the
    logits. A loss that is convex in the logits (``cross_entropy``, ``binary_cross_entropy``,
    ``l2``) makes this positive semi-definite, whatever the network.

    A product costs about 2 training steps (measured: 1.3 to 2.4) with J v by ``forward``, which
    takes less memory, or ``reverse``, and 1 to 1.6 by ``difference``, right to 0.4 % in float32:
    logits, unlike gradients, do not jump.

    The trap: ``dice``, ``dice_ce`` and ``focal`` are not convex in the logits. For a network
    trained with them hand in ``cross_entropy`` here: then H_L = diag(p) − p pᵀ is that of the
    softmax, the generalised Gauss–Newton matrix (the Fisher information of the network's own
    predictions). It does not depend on the labels, only on where they are valid. ``l1`` has no
    curvature in the logits: the product is zero.

    Args:
        logits_of: a function of parameters that returns ``(batch, classes, *space)``.
        loss_of_logits: from these logits to one loss per sample, ``(batch,)``.
        params: names and tensors; nothing of them changes.
        mode: how J v is found; see :func:`hessian_product`.

    Raises:
        SettingsError: as :func:`hessian_product`.
        ShapeError: as :func:`hessian_product`.

    >>> x = torch.tensor([[1.0], [3.0]])
    >>> product = gauss_newton_product(
    ...     lambda p: p["w"] * x, lambda z: z.squeeze(1) ** 2, {"w": torch.tensor(5.0)})
    >>> product({"w": torch.tensor(1.0)})
    {'w': tensor(10.)}
    """
    ways = {"reverse": _reverse_push, "forward": _forward_push, "difference": _difference_push}
    _check_mode(mode)
    graph = _kept(lambda: _pull(logits_of, loss_of_logits, params), params)
    push = ways[mode](graph, logits_of, params)

    def product(direction: Parameters) -> dict[str, Tensor]:
        leaves, logits, bend = graph()
        return _grad([logits], leaves, [bend(push(direction))])

    return _checked(product, params, mode)


# ---------------------------------------------------------------- the Hessian


def _reverse_hessian(losses_of: LossesOf, params: Parameters) -> Product:
    def build() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        leaves = _leaves(params)
        loss = _mean(losses_of(leaves))
        return leaves, _slope(loss, leaves, _seed(loss))

    graph = _kept(build, params)

    def product(direction: Parameters) -> dict[str, Tensor]:
        leaves, slope = graph()
        return _grad(list(slope.values()), leaves, [direction[name] for name in slope])

    return product


def _forward_hessian(losses_of: LossesOf, params: Parameters) -> Product:
    values = {name: value.detach() for name, value in params.items()}
    slope = torch.func.grad(lambda p: _mean(losses_of(p)))

    def product(direction: Parameters) -> dict[str, Tensor]:
        found: dict[str, Tensor] = torch.func.jvp(slope, (values,), (dict(direction),))[1]
        return found

    return product


def _difference_hessian(losses_of: LossesOf, params: Parameters) -> Product:
    def product(direction: Parameters) -> dict[str, Tensor]:
        step = _step(params, direction)
        ahead = mean_gradient(losses_of, _moved(params, direction, step))
        behind = mean_gradient(losses_of, _moved(params, direction, -step))
        return {name: (ahead[name] - behind[name]) / (2 * step) for name in params}

    return product


# ---------------------------------------------------------------- Gauss–Newton


class _Pull(NamedTuple):
    """The way back from the logits, kept for all products."""

    leaves: dict[str, Tensor]
    logits: Tensor
    bend: Callable[[Tensor], Tensor]


Push = Callable[[Parameters], Tensor]


def _pull(
    logits_of: LogitsOf, loss_of_logits: Callable[[Tensor], Tensor], params: Parameters
) -> _Pull:
    leaves = _leaves(params)
    logits = logits_of(leaves)
    at = {"logits": logits.detach().requires_grad_()}
    loss = _mean(loss_of_logits(at["logits"]))
    slope = _slope(loss, at, _seed(loss))["logits"]
    return _Pull(leaves, logits, lambda moved: _grad([slope], at, [moved])["logits"])


def _reverse_push(graph: Callable[[], _Pull], _: LogitsOf, params: Parameters) -> Push:
    # Jᵀ u is linear in u, so its derivative in u, transposed, is J: two reverse passes make a
    # forward one, and the values that it needs are kept already.
    def build() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        leaves, logits, _ = graph()
        at = {"any": torch.zeros_like(logits).requires_grad_()}
        return at, _slope(logits, leaves, at["any"])

    transposed = _kept(build, params)

    def push(direction: Parameters) -> Tensor:
        at, back = transposed()
        return _grad(list(back.values()), at, [direction[name] for name in back])["any"]

    return push


def _forward_push(_: Callable[[], _Pull], logits_of: LogitsOf, params: Parameters) -> Push:
    values = {name: value.detach() for name, value in params.items()}

    def push(direction: Parameters) -> Tensor:
        with torch.no_grad():
            found: Tensor = torch.func.jvp(logits_of, (values,), (dict(direction),))[1]
        return found

    return push


def _difference_push(_: Callable[[], _Pull], logits_of: LogitsOf, params: Parameters) -> Push:
    def push(direction: Parameters) -> Tensor:
        step = _step(params, direction)
        with torch.no_grad():
            ahead = logits_of(_moved(params, direction, step))
            behind = logits_of(_moved(params, direction, -step))
        return (ahead - behind) / (2 * step)

    return push


# ---------------------------------------------------------------- what all of them share


def _kept(build: Callable[[], T], params: Parameters) -> Callable[[], T]:
    """``build()`` when first asked, and again when a parameter has changed in place since."""
    kept: dict[tuple[int, ...], T] = {}

    def get() -> T:
        versions = tuple(value._version for value in params.values())
        if versions not in kept:
            kept.clear()
            with torch.enable_grad():
                kept[versions] = build()
        return kept[versions]

    return get


def _grad(
    outputs: list[Tensor], inputs: Mapping[str, Tensor], along: list[Tensor]
) -> dict[str, Tensor]:
    """Reverse-mode derivative by name, zero where nothing depends; the graph is kept."""
    return _named_grad(outputs, inputs, along, create_graph=False)


def _slope(output: Tensor, inputs: Mapping[str, Tensor], along: Tensor) -> dict[str, Tensor]:
    """:func:`_grad` of one output, to be differentiated once more, in ``along`` too."""
    found = _named_grad([output], inputs, [along], create_graph=True)
    _refuse_dead_ends(found.values())
    return found


def _named_grad(
    outputs: list[Tensor],
    inputs: Mapping[str, Tensor],
    along: list[Tensor],
    *,
    create_graph: bool,
) -> dict[str, Tensor]:
    pairs = [(o, a) for o, a in zip(outputs, along, strict=True) if o.requires_grad]
    if not pairs:
        return {name: torch.zeros_like(value) for name, value in inputs.items()}
    found = torch.autograd.grad(
        [o for o, _ in pairs],
        list(inputs.values()),
        [a for _, a in pairs],
        retain_graph=True,
        create_graph=create_graph,
        allow_unused=True,
    )
    named = zip(inputs.items(), found, strict=True)
    return {n: torch.zeros_like(x) if g is None else g for (n, x), g in named}


def _refuse_dead_ends(slopes: Iterable[Tensor]) -> None:
    # Behind an operation that can be differentiated only once torch puts a node that raises when
    # it is reached; but nothing leads on from there, so asked for certain inputs torch never
    # goes there and takes its slope for a constant.
    seen: set[object] = set()
    waiting: list[Any] = [slope.grad_fn for slope in slopes]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().endswith("::Error"):
            raise RuntimeError("a function of the network's own is marked as once differentiable")
        waiting += [after for after, _ in node.next_functions]


def _seed(loss: Tensor) -> Tensor:
    # A seed that could change makes torch complain of operations that it can differentiate only
    # once; with a constant one it may take their slope for a constant and say nothing.
    return torch.ones_like(loss, requires_grad=True)


def _leaves(params: Parameters) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def _mean(losses: Tensor) -> Tensor:
    if losses.ndim != 1:
        raise ShapeError(
            f"one loss per sample is needed, shaped (batch,), not {tuple(losses.shape)}; "
            "do not average inside the loss"
        )
    return losses.mean()


def _moved(params: Parameters, direction: Parameters, step: float) -> dict[str, Tensor]:
    return {name: value.detach() + step * direction[name] for name, value in params.items()}


def _step(params: Parameters, direction: Parameters) -> float:
    kinds = {value.dtype for value in params.values()}
    odd = kinds - RELATIVE_STEP.keys()
    if odd:
        raise SettingsError(
            f"mode='difference' needs float32 or float64 parameters, not {odd.pop()}"
        )
    return (
        max(RELATIVE_STEP[kind] for kind in kinds) * (_length(params) or 1.0) / _length(direction)
    )


def _length(vector: Parameters) -> float:
    return math.sqrt(
        sum(value.detach().double().square().sum().item() for value in vector.values())
    )


def _check_mode(mode: str) -> None:
    if mode not in get_args(Mode):
        raise SettingsError(f"a product is 'reverse', 'forward' or 'difference', not {mode!r}")


def _checked(product: Product, params: Parameters, mode: Mode) -> Product:
    """The product with its door: names and shapes, no graph, and errors that say a way out."""

    def checked(direction: Parameters) -> dict[str, Tensor]:
        wanted = {name: value.shape for name, value in params.items()}
        got = {name: value.shape for name, value in direction.items()}
        if wanted != got:
            odd = sorted(n for n in wanted.keys() | got.keys() if wanted.get(n) != got.get(n))
            raise ShapeError(
                f"the direction must have the names and shapes of the parameters; {odd[0]!r} is "
                f"{_shape(got.get(odd[0]))}, the parameter {_shape(wanted.get(odd[0]))}"
            )
        along = {n: direction[n].detach().to(p) for n, p in params.items()}
        if not any(value.any() for value in along.values()):
            return {name: torch.zeros_like(value) for name, value in along.items()}
        with _explained(mode), derivable():
            found = product(along)
        return {name: found[name].detach() for name in params}

    return checked


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(tuple(shape))


# What torch says, in its several ways, of an operation that it cannot differentiate so.
_NO_RULE = ("forward AD", "forward-mode", "setup_context", "derivative", "once differentiable")


@contextmanager
def _explained(mode: Mode) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in _NO_RULE):
            raise
        first = str(error).splitlines()[0]
        raise SettingsError(
            f"the network or loss has an operation that cannot be differentiated in mode "
            f"{mode!r} ({first}); replace it or take mode='difference'"
        ) from error
