"""An ONNX file that computes what the network computes, to the accuracy of its number type."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from labelmend.errors import SettingsError
from labelmend.inference.export.program import AXES, quietly, refusal

if TYPE_CHECKING:
    from torch.export import ExportedProgram

MODEL = "model.onnx"
INPUT, OUTPUT = "image", "scores"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def check_installed() -> None:
    """Refuse when a package that writes or runs ONNX files is missing.

    Raises:
        SettingsError: with the line that installs them.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"exporting to ONNX needs {', '.join(missing)}: pip install 'labelmend[onnx]', "
            "or export --to torch"
        )


def encode(program: ExportedProgram, dims: int, where: str) -> bytes:
    """The content of ``model.onnx``, of dynamic batch and space, checked by ONNX itself.

    Normalisation over groups is taken apart into means, axis by axis: the operator that ONNX has
    for it adds up all positions one after the other in 32 bits under onnxruntime, whose error
    grows with the size of an image (1e-4 in the scores at 768 x 768; taken apart 1e-5).

    Raises:
        SettingsError: when ONNX has no counterpart of an operator, naming it.
    """
    import onnx

    aten = torch.ops.aten
    careful: dict[Any, Callable[..., Any]] = {
        aten.group_norm.default: _group_norm,
        aten.instance_norm.default: _instance_norm,
    }
    try:
        with quietly():
            made = torch.onnx.export(
                program.run_decompositions(careful),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
            model = made.model_proto  # type: ignore[union-attr]
            _name_axes(model, dims)
            _forget_machine(model)
            onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise refusal(where, "ONNX", error) from error
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def open_model(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """What runs such a file under onnxruntime on the CPU: images to scores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT], {INPUT: images})[0])


def _group_norm(
    image: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    _cudnn_enabled: bool = True,
) -> Tensor:
    parts = image.reshape(image.shape[0], groups, -1, *image.shape[2:])
    parts = parts - _mean(parts)
    parts = parts * torch.rsqrt(_mean(parts * parts) + eps)
    out = parts.reshape(image.shape)
    shape = (1, -1) + (1,) * (image.ndim - 2)
    out = out if weight is None else out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def _instance_norm(
    image: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    _cudnn_enabled: bool,
) -> Tensor:
    if not use_input_stats:  # then it is an affine map by what was learned
        return torch.batch_norm(
            image, weight, bias, running_mean, running_var, False, momentum, eps, False
        )
    return _group_norm(image, image.shape[1], weight, bias, eps)


def _mean(parts: Tensor) -> Tensor:
    """The mean over all axes but batch and group, one axis at a time: short sums round little."""
    for axis in range(parts.ndim - 1, 1, -1):
        parts = parts.mean(axis, keepdim=True)
    return parts


def _name_axes(model: Any, dims: int) -> None:
    for value in (*model.graph.input, *model.graph.output):
        shape = value.type.tensor_type.shape.dim
        for axis, name in zip((0, *range(2, 2 + dims)), ("batch", *AXES[dims]), strict=True):
            shape[axis].dim_param = name


def _forget_machine(model: Any) -> None:
    """Take away what the exporter notes of the code and the machine it ran on."""
    del model.graph.value_info[:]  # in names that are no longer used
    for part in _parts(model):
        part.doc_string = ""
        del part.metadata_props[:]


def _parts(model: Any) -> Iterator[Any]:
    yield model
    graphs = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        yield graph
        for node in graph.node:
            yield node
            graphs += [a.g for a in node.attribute if a.HasField("g")]
        if hasattr(graph, "initializer"):
            yield from (*graph.initializer, *graph.input, *graph.output)
