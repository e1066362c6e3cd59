"""What has to be done before and after an exported model, in plain values and words."""

from __future__ import annotations

from typing import Any

from labelmend.data.prepare import Preparation
from labelmend.errors import SettingsError
from labelmend.inference.export.program import AXES
from labelmend.inference.predictor import Predictor

FORMAT = 1


def describe_processing(
    predictor: Predictor,
    model: str,
    *,
    smallest: tuple[int, ...],
    temperature: float | None = None,
) -> dict[str, Any]:
    """The content of ``processing.json``: everything between a file and a label but the network.

    Args:
        predictor: of the exported network.
        model: the file of the exported model.
        smallest: the smallest size of space that it was tried with.
        temperature: what scores are divided by before they become probabilities.

    Raises:
        SettingsError: for a temperature that is no number above 0.
    """
    if temperature is not None and not 0 < temperature < float("inf"):
        raise SettingsError(f"a temperature is a number above 0, not {temperature}")
    spec = predictor.spec
    return {
        "format": FORMAT,
        "task": spec.task,
        "dims": spec.dims,
        "model": _model(predictor, model, smallest),
        "image": {
            "channels": spec.channels,
            "channel_order": "first axis; as in the file, so red, green, blue for colours",
            "values": "as the file holds them, converted to float32, not scaled",
            "axes": _axes_words(spec.dims),
            "spacing": None if spec.spacing is None else list(spec.spacing),
        },
        "before": _before(predictor.preparation),
        "windows": _windows(predictor),
        "after": _after(predictor, temperature),
        "temperature": temperature,
        "classes": _classes(predictor),
        "ignore": spec.ignore,
    }


def _model(predictor: Predictor, model: str, smallest: tuple[int, ...]) -> dict[str, Any]:
    axes, facts = list(AXES[predictor.spec.dims]), predictor.run.facts
    meaning = (
        "values of the label's channels"
        if predictor.spec.task == "regression"
        else "logits: softmax over axis 1 gives probabilities, the largest is the class"
    )
    return {
        "file": model,
        "network": predictor.model,
        "step": predictor.step,
        "input": {
            "name": "image",
            "type": "float32",
            "shape": ["batch", facts["in_channels"], *axes],
            "multiple": predictor.multiple,
            "smallest": list(smallest),
        },
        "output": {
            "name": "scores",
            "type": "float32",
            "shape": ["batch", facts["out_channels"], *axes],
            "meaning": meaning,
        },
    }


def _axes_words(dims: int) -> str:
    return {
        1: "positions in time, or along the spectrum",
        2: "rows from top to bottom, columns from left to right",
        3: "as stored: for NIfTI the first, second and third index, for TIFF pages, rows, columns",
    }[dims]


def _before(preparation: Preparation) -> list[dict[str, Any]]:
    """The steps from the file's values to the network's input, in their order."""
    steps = [
        _denoise(preparation),
        _resample(preparation),
        _spectrogram(preparation),
        _normalise(preparation),
    ]
    return [step for step in steps if step is not None]


def _denoise(preparation: Preparation) -> dict[str, Any] | None:
    kind, size = preparation.denoise, preparation.denoise_size
    if kind == "none":
        return None
    if kind == "gaussian":
        how = {"deviation": size, "cut_at": "4 deviations"}
        what = "Gaussian filter over the space axes of every channel"
    else:
        how = {"width": 2 * max(1, round(size)) + 1}
        what = "median over a cube of this width, in every channel"
    return {"step": "denoise", "kind": kind, **how, "border": "nearest", "what": what}


def _resample(preparation: Preparation) -> dict[str, Any] | None:
    if preparation.spacing is None and preparation.size is None:
        return None
    goal: dict[str, Any] = {"size": list(preparation.size or ())}
    if preparation.spacing is not None:
        goal = {
            "spacing": list(preparation.spacing),
            "size": "floor(positions * spacing of the file / spacing + 0.5), at least 1",
        }
    return {
        "step": "resample",
        **goal,
        "grid": "both grids cover the same extent: position g lies at (step - 1) / 2 + step * g "
        "of the file, step = positions / size",
        "what": "a new position is the mean over a cell as wide as max(1, step) around it; at a "
        "step of 1 or less that is linear interpolation; beyond the first and last position their "
        "values go on; axis by axis",
    }


def _spectrogram(preparation: Preparation) -> dict[str, Any] | None:
    if not preparation.spectrogram:
        return None
    return {
        "step": "spectrogram",
        "window": preparation.window,
        "hop": preparation.hop,
        "window_function": "periodic Hann",
        "scale": "magnitude: divided by the sum of the window",
        "frames": "frame f is centred on sample f * hop, (samples - 1) // hop + 1 of them; zeros "
        "beyond the ends",
        "channels": "channel * (window // 2 + 1) + frequency",
        "floor": "max(1e-5 * the largest magnitude of the file, 1e-12)",
        "what": "natural logarithm of max(magnitude, floor)",
    }


def _normalise(preparation: Preparation) -> dict[str, Any]:
    kind = preparation.normalise
    step: dict[str, Any] = {"step": "normalise", "kind": kind}
    flat = "; 0 for a channel without variation"
    if kind == "none":
        return {**step, "what": "nothing"}
    if kind == "zscore":
        what = (
            "(value - mean) / deviation, of every channel over all positions of the image, n not "
        )
        return {**step, "what": f"{what}n - 1 in the deviation{flat}"}
    if kind == "set":
        if preparation.mean is None or preparation.deviation is None:
            raise AssertionError("a run keeps what it measured of the set")
        constants = {"mean": list(preparation.mean), "deviation": list(preparation.deviation)}
        return {
            **step,
            **constants,
            "what": f"(value - mean) / deviation, a constant per channel{flat}",
        }
    return {
        **step,
        "percentiles": list(preparation.percentiles),
        "what": "(value - low) / (high - low) cut to 0..1, low and high being these percentiles "
        f"(linear between values) of every channel; where they are equal, its extremes{flat}",
    }


def _windows(predictor: Predictor) -> dict[str, Any]:
    return {
        "patch": list(predictor.patch),
        "overlap": predictor.run.settings.input.overlap,
        "stride": "patch - ceil(patch * overlap) per axis, at least 1; the last window is moved "
        "inward; along an axis shorter than the patch one window as long as the axis",
        "pad": "a window whose side is no multiple of model.input.multiple is continued at its end "
        "by its edge values, and the scores are cut again",
        "blend": "hann",
        "weights": "product over axes of sin(pi * (position + 0.5) / length) ** 2",
    }


def _after(predictor: Predictor, temperature: float | None) -> list[dict[str, Any]]:
    preparation = predictor.preparation
    steps = [{"step": "join", "what": "the weighted mean of the scores of all windows"}]
    if preparation.spacing or preparation.size or preparation.spectrogram:
        what = "scores back to the file's positions by the inverse of the grid, as resample above"
        steps.append({"step": "restore", "what": f"{what}, linear between grid positions"})
    if predictor.spec.task == "regression":
        return [*steps, {"step": "values", "what": "the scores are the label"}]
    if temperature is not None:
        what = "probabilities are softmax(scores / temperature); the classes stay the same"
        steps.append({"step": "temperature", "what": what})
    what = "the class with the largest score, the lower one when equal; no threshold"
    steps.append({"step": "argmax", "what": what})
    what = "label files hold the value of a class, see classes, and not its index"
    return [*steps, {"step": "values", "what": what}]


def _classes(predictor: Predictor) -> list[dict[str, Any]]:
    spec = predictor.spec
    values = spec.values or (None,) * len(spec.classes)
    return [
        {"index": index, "name": name, "value": value}
        for index, (name, value) in enumerate(zip(spec.classes, values, strict=True))
    ]
