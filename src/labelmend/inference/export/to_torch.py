"""A PyTorch program in one file, for who has PyTorch and not this package."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from labelmend.inference.export.program import quietly, to_bytes

if TYPE_CHECKING:
    from torch.export import ExportedProgram

MODEL = "model.pt2"


def encode(program: ExportedProgram) -> bytes:
    """The content of ``model.pt2``: operators and weights, no Python code, no example input."""
    return to_bytes(program)


def open_model(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """What runs such a file, from its bytes: images ``(batch, channels, *space)`` to scores."""
    with quietly():
        module = torch.export.load(io.BytesIO(content)).module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(images)).numpy())

    return run
