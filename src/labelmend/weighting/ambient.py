"""What a caller may have switched on around us, switched off: no gradient may depend on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor


@contextmanager
def derivable() -> Iterator[None]:
    """Inference mode switched off, and what was compiled run as it was written.

    Both lose what forward mode carries along and say nothing: similarities would be 0. The trap:
    who leaves inference mode has gradients switched on; switch them off inside, not outside.

    >>> with torch.inference_mode(), derivable():
    ...     torch.is_inference_mode_enabled()
    False
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if "torch._dynamo" in sys.modules:  # nothing is compiled before; to read it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def own_precision(params: Mapping[str, Tensor]) -> Iterator[None]:
    """:func:`derivable`, and autocast switched off: half numbers lose small differences.

    >>> with torch.autocast("cpu"), own_precision({"w": torch.ones(1)}):
    ...     torch.is_autocast_enabled("cpu")
    False
    """
    with ExitStack() as stack:
        stack.enter_context(derivable())
        for device in {value.device.type for value in params.values()}:
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


def bare(values: Tensor) -> Tensor:
    """The same values as a tensor that can be differentiated through, copied where it must be.

    Tensors with extras, as MONAI's, lose them: forward mode does not know such kinds. Those made
    in inference mode are copied: no backward pass may keep them.

    >>> with torch.inference_mode():
    ...     made = torch.ones(1)
    >>> bare(made).is_inference()
    False
    """
    if type(values) not in (Tensor, torch.nn.Parameter):
        values = values.as_subclass(Tensor)
    return values.clone() if values.is_inference() else values
