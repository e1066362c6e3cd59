"""Write a run's network as one portable model, proved equal, with what belongs beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from labelmend.errors import RunError, SettingsError, unknown
from labelmend.inference.export import to_monai, to_onnx, to_torch
from labelmend.inference.export.card import write_card, write_readme
from labelmend.inference.export.processing import describe_processing
from labelmend.inference.export.program import trace
from labelmend.inference.export.proof import (
    LEAST_EQUAL,
    TOLERANCE,
    Proof,
    proof_inputs,
    proof_sizes,
    prove,
    real_images,
    reference_of,
)
from labelmend.inference.predictor import Predictor
from labelmend.runs.appearing import appearing
from labelmend.runs.atomic import keeping, sync_folder, write_file
from labelmend.runs.sums import SUMS, make_sums
from labelmend.telling import Telling

Target = Literal["onnx", "torch", "monai"]
PROCESSING, CARD, PROOF = "processing.json", "MODEL_CARD.md", "proof.json"
_MODELS: dict[Target, str] = {
    "onnx": to_onnx.MODEL,
    "torch": to_torch.MODEL,
    "monai": to_monai.MODEL,
}


@dataclass(frozen=True, slots=True)
class Exported(Telling):
    """A folder that :func:`export` wrote.

    Attributes:
        path: the folder.
        to: the kind of model in it.
        model: the file of the model, relative to the folder.
        files: all files, relative to the folder.
        proof: how far the model is from the network.
    """

    path: Path
    to: Target
    model: str
    files: tuple[str, ...]
    proof: Proof

    def to_text(self) -> str:
        """What was written, and the proof."""
        return f"proved:  {self.proof.said()}\nwritten: {self.path} ({', '.join(self.files)})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "path": str(self.path),
            "to": self.to,
            "model": self.model,
            "files": list(self.files),
            "proof": self.proof.to_json(),
        }


class _Coded(NamedTuple):
    """An exported model: its bytes, and what runs them."""

    content: bytes
    run: Callable[[np.ndarray], np.ndarray]


def export(
    predictor: Predictor,
    out: Path,
    to: Target,
    *,
    tolerance: float = TOLERANCE,
    inputs: int = 24,
    temperature: float | None = None,
) -> Exported:
    """Write the predictor's network as ``model.onnx``, ``model.pt2`` or a MONAI bundle.

    Beside the model: ``processing.json`` (what to do before and after it), ``MODEL_CARD.md``
    (what it was trained on, how good it was found, its limits), ``proof.json`` and ``SHA256SUMS``.
    The model, as read back from its own bytes, is run beside the network at four sizes before
    anything is written. The network stays as it is.

    Args:
        predictor: from :func:`load`, which also says which of two networks is exported.
        out: a folder that does not exist or is empty; it appears when all is written.
        to: ``onnx``, ``torch`` or ``monai``.
        tolerance: the most that a score may differ, relative to ``max(1, |score|)``.
        inputs: how many inputs are compared, at the least.
        temperature: what scores are divided by before they become probabilities; by default that
            of the predictor's calibration, where it has one.

    Raises:
        SettingsError: for an unknown target, a missing package, or a network or preparation that
            the target cannot express, naming the operator or setting.
        RunError: when the folder is not empty, or the exported model is not equal to the network.
        NonFiniteError: when the network yields NaN or infinity.
        StorageError: when the disk refuses; then there is no folder.

    Source: house promise N7. The trap: whoever runs the model must prepare images as
    ``processing.json`` says; a model without its preparation predicts nonsense and no error.
    """
    _check(predictor, out, to, tolerance)
    if temperature is None and predictor.calibration is not None:
        temperature = predictor.temperature
    sizes = proof_sizes(predictor)
    processing = describe_processing(
        predictor, _MODELS[to], smallest=sizes[0], temperature=temperature
    )
    coded = _encode(predictor, to)
    proof = _prove(predictor, to, coded, sizes, inputs, tolerance)
    about = {
        PROCESSING: _json(processing),
        PROOF: _json(proof.to_json()),
        CARD: write_card(predictor, _MODELS[to], coded.content, proof, temperature).encode(),
    }
    files = {**_model_files(predictor, to, coded.content), **about}
    _write_folder(out, files)
    return Exported(out, to, _MODELS[to], (*files, SUMS), proof)


def _check(predictor: Predictor, out: Path, to: str, tolerance: float) -> None:
    if to not in get_args(Target):
        raise unknown("target", to, get_args(Target))
    if not 0 <= tolerance < 1:
        raise SettingsError(f"tolerance is at least 0 and below 1, not {tolerance}")
    if to == "onnx":
        to_onnx.check_installed()
    if to == "monai":
        to_monai.check_expressible(predictor)
    file = next((p for p in (out, *out.parents) if p.exists() and not p.is_dir()), None)
    if file is not None:
        raise RunError(f"a model cannot go to {out}: {file} is a file; name a folder")
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty, and a model there might be lost; give another --out")


def _encode(predictor: Predictor, to: Target) -> _Coded:
    where, dims = str(predictor.run.path), predictor.spec.dims
    channels = predictor.run.facts["in_channels"]
    program = trace(
        predictor.network,
        channels,
        dims,
        multiple=predictor.multiple,
        where=f"the network of {where}",
    )
    if to == "onnx":
        content = to_onnx.encode(program, dims, f"the network of {where}")
        return _Coded(content, to_onnx.open_model(content))
    content = to_torch.encode(program)
    return _Coded(content, to_torch.open_model(content))


def _prove(
    predictor: Predictor,
    to: Target,
    coded: _Coded,
    sizes: Sequence[tuple[int, ...]],
    inputs: int,
    tolerance: float,
) -> Proof:
    real, notes = real_images(predictor)
    off = to_monai.preparation_off(predictor, real) if to == "monai" else None
    given = partial(proof_inputs, predictor, sizes, inputs, list(real.values()))
    network = reference_of(predictor)
    check = partial(prove, task=predictor.spec.task, tolerance=tolerance)
    proof = check(network, coded.run, given())
    count = len(real) * (len(sizes) - 1)
    proof = replace(proof, real=count, notes=tuple(notes), preparation=off)
    if proof.holds:
        return proof
    rounding = check(reference_of(predictor, torch.float64), network, given()).worst
    raise RunError(
        f"the exported model is not equal to the network of {predictor.run.path}: {proof.said()}; "
        f"{tolerance:.0e} and {100 * LEAST_EQUAL:g} % are wanted, and the network itself is off by "
        f"{rounding:.0e} from its own result in 64 bits; nothing was written; where little more "
        "than that is good enough, --tolerance allows it"
    )


def _model_files(predictor: Predictor, to: Target, content: bytes) -> dict[str, bytes]:
    if to == "monai":
        return to_monai.bundle_files(predictor, content, write_readme(predictor))
    return {_MODELS[to]: content}


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder of these files, sub-folders too, and their checksums, in one step."""
    size = sum(map(len, files.values()))
    with appearing(path, "the model") as folder, keeping("the model", path, size):
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        for name, data in {**files, SUMS: make_sums(hashes)}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_file(folder / name, data)
        for inner in {(folder / name).parent for name in files} - {folder}:
            sync_folder(inner)
