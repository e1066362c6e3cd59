"""Turn a network into a program of tensor operators that takes any batch and any size."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelmend.errors import SettingsError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

AXES: dict[int, tuple[str, ...]] = {
    1: ("length",),
    2: ("rows", "columns"),
    3: ("first", "second", "third"),
}
"""What the space axes are called in exported models."""

_FORGOTTEN = ("stack_trace", "from_node", "source_fn_stack")
"""What a traced operator remembers of the machine it was traced on."""


def trace(
    network: nn.Module, channels: int, dims: int, *, multiple: int, where: str
) -> ExportedProgram:
    """The network as a program: ``(batch, channels, *space)`` to ``(batch, scores, *space)``.

    Batch and space may be of any size; what is no multiple of ``multiple``, or has other
    channels, is refused by the program itself. The network is not changed.

    Args:
        network: in evaluation mode, on any device; the program is of the CPU.
        channels: of the network's input.
        dims: number of space axes, 1 to 3.
        multiple: what every space axis is a multiple of.
        where: who it is, for the error.

    Raises:
        SettingsError: when it does what depends on the values or the size of its input.

    The trap: what the network does besides tensor operators, such as counting or printing, is
    done once, while it is traced.

    >>> program = trace(nn.Conv1d(2, 3, 1).eval(), 2, 1, multiple=4, where="it")
    >>> program.module()(torch.zeros(5, 2, 8)).shape
    torch.Size([5, 3, 8])
    """
    copied = _with_flat_pools(copy.deepcopy(network).cpu().eval())
    # Sizes that differ and leave two positions or more at the bottom are taken for no constants.
    example = torch.zeros(2, channels, *(multiple * (3 + axis) for axis in range(dims)))
    sizes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    for axis, name in enumerate(AXES[dims]):
        parts = torch.export.Dim(f"{name}_parts", min=1)
        sizes[2 + axis] = multiple * parts if multiple > 1 else parts
    try:
        with quietly():
            program = torch.export.export(copied, (example,), dynamic_shapes=(sizes,), strict=False)
    except Exception as error:
        raise refusal(where, "a program of tensor operators", error) from error
    # With an example the program would also check what tracing happened to assume of it, and
    # refuse inputs of one position at the bottom, for which it is right all the same.
    program.example_inputs = None
    _forget_machine(program)
    return program


def to_bytes(program: ExportedProgram) -> bytes:
    """The program as the content of a ``.pt2`` file."""
    buffer = io.BytesIO()
    with quietly():
        torch.export.save(program, buffer)
    return buffer.getvalue()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Nothing is printed, warned of or logged inside; what is raised comes through."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def refusal(where: str, wanted: str, error: BaseException) -> SettingsError:
    """The error for a network that cannot be exported, with the operator at fault if it is known.

    >>> cause = ValueError("No ONNX function found for <OpOverload(op='aten.median', ...)>")
    >>> str(refusal("run 1", "ONNX", cause))[:73]
    'run 1 cannot be exported as ONNX: operator aten.median has no counterpart'
    """
    return SettingsError(
        f"{where} cannot be exported as {wanted}: {_reason(error)}; use it through "
        "labelmend.load, or change the network and train again"
    )


_OPERATOR = re.compile(r"OpOverload\(op='([\w.]+)'|target=torch\.ops\.(\w+\.\w+)")
_KINDS = {
    "GuardOnDataDependent": "what it does depends on the values of its input",
    "data-dependent": "what it does depends on the values of its input",
    "Constraints violated": "it takes the size of its input for a constant",
}


def _reason(error: BaseException) -> str:
    causes = list(_chain(error))
    told = " ".join(f"{type(e).__name__}: {e}" for e in causes)
    found = _OPERATOR.search(told)
    if found is not None:
        return f"operator {found[1] or found[2]} has no counterpart there"
    for sign, meaning in _KINDS.items():
        if sign in told:
            return meaning
    lines = [line.strip() for line in str(causes[-1]).splitlines() if line.strip()]
    return f"{type(causes[-1]).__name__}: {lines[0] if lines else ''}".rstrip(".: ")[:300]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _forget_machine(program: ExportedProgram) -> None:
    for module in program.graph_module.modules():
        if not isinstance(module, torch.fx.GraphModule):
            continue
        for node in module.graph.nodes:
            for key in _FORGOTTEN:
                node.meta.pop(key, None)


class _FlatPool(nn.Module):
    """Max-pooling over one axis as over two, the same numbers.

    The operator for one axis fixes the size of its input while it is traced.
    """

    def __init__(self, pool: nn.MaxPool1d) -> None:
        super().__init__()
        self.kernel, self.stride = _single(pool.kernel_size), _single(pool.stride)
        self.padding, self.dilation = _single(pool.padding), _single(pool.dilation)
        self.ceil = pool.ceil_mode

    def forward(self, image: Tensor) -> Tensor:
        """``(batch, channels, length)`` pooled."""
        return F.max_pool2d(
            image[:, :, None],
            (1, self.kernel),
            (1, self.stride),
            (0, self.padding),
            (1, self.dilation),
            self.ceil,
        )[:, :, 0]


def _single(value: int | Sequence[int]) -> int:
    return value if isinstance(value, int) else int(value[0])


def _with_flat_pools(module: nn.Module) -> nn.Module:
    if type(module) is nn.MaxPool1d and not module.return_indices:
        return _FlatPool(module)
    for name, child in list(module.named_children()):
        setattr(module, name, _with_flat_pools(child))
    return module
