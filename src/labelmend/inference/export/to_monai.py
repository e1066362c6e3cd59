"""A bundle that MONAI opens: a program, and the workflow around it as a table of MONAI's parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from labelmend.errors import SettingsError
from labelmend.files.formats import split_name
from labelmend.inference.predictor import Predictor
from labelmend.types import DataSpec

MODEL = "models/model.pt2"
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_VOLUMES = (".nii", ".nii.gz")
_IMPORTS = ("functools", "glob", "math", "numpy", "os", "torch")
_HANN = (
    "$functools.reduce(lambda window, n: window[..., None] * "
    "torch.sin((torch.arange(n) + 0.5) / n * math.pi) ** 2, @patch, torch.ones(()))"
)


def check_expressible(predictor: Predictor) -> None:
    """Refuse what MONAI's own parts cannot do just as it was done in training.

    Raises:
        SettingsError: naming the setting or the kind of file.
    """
    preparation, suffix = predictor.preparation, _suffix(predictor)
    wanted = {
        "input.spectrogram": preparation.spectrogram,
        "input.spacing": preparation.spacing is not None,
        "input.size": preparation.size is not None,
        f"input.denoise = {preparation.denoise!r}": preparation.denoise != "none",
        f"images in {suffix}": not _readable(predictor.spec, suffix),
    }
    for what, found in wanted.items():
        if found:
            raise SettingsError(
                f"{predictor.run.path} was trained with {what}, which MONAI's own parts do not "
                "do in the same way; export --to onnx or torch, whose processing.json says how"
            )


def bundle_files(predictor: Predictor, program: bytes, readme: str) -> dict[str, bytes]:
    """The files of a bundle by their paths in it.

    The trap: it predicts as :meth:`Predictor.predict` does where an image is at least as large as
    a patch; a smaller one is continued to a patch at both ends, and not just to a multiple.

    Args:
        predictor: of the exported network.
        program: the content of a ``.pt2`` file.
        readme: the text of ``docs/README.md``.
    """
    return {
        "configs/metadata.json": _json(_metadata(predictor)),
        "configs/inference.json": _json(_inference(predictor)),
        MODEL: program,
        "docs/README.md": readme.encode(),
    }


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=4, allow_nan=False) + "\n").encode()


def _suffix(predictor: Predictor) -> str:
    return split_name(predictor.run.data.samples[0].image)[1]


def _readable(spec: DataSpec, suffix: str) -> bool:
    """Whether MONAI reads such files into the same axes."""
    if suffix in _PICTURES:
        return spec.dims == 2 and spec.channels in (1, 3)
    return suffix == ".npy" or (suffix in _VOLUMES and spec.dims == 3)


def _metadata(predictor: Predictor) -> dict[str, Any]:
    spec, facts = predictor.spec, predictor.run.facts
    sides = "*n" if predictor.multiple == 1 else f"{predictor.multiple}*n"
    shape = ["*" if predictor.multiple == 1 else sides] * spec.dims
    channels = {str(i): f"channel {i}" for i in range(facts["in_channels"])}
    classes = {str(i): name for i, name in enumerate(spec.classes)}
    kind = "segmentation" if spec.task == "segmentation" else "image"
    tensor = {"type": "image", "modality": "n/a", "dtype": "float32", "spatial_shape": shape}
    return {
        "schema": _SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported at step {predictor.step}"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": metadata.version("torch").partition("+")[0],
        "numpy_version": metadata.version("numpy"),
        "required_packages_version": {},
        "name": predictor.run.path.name,
        "task": f"{spec.task} of {spec.dims}-D images",
        "description": f"{predictor.run.settings.network.name}, trained by labelmend on labels "
        "that were not all trusted; see MODEL_CARD.md",
        "authors": "not said",
        "copyright": "not said",
        "network_data_format": {
            "inputs": {
                "image": {
                    **tensor,
                    "format": "magnitude",
                    "num_channels": facts["in_channels"],
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": channels,
                }
            },
            "outputs": {
                "pred": {
                    **tensor,
                    "format": kind,
                    "num_channels": facts["out_channels"],
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": classes,
                }
            },
        },
    }


def _inference(predictor: Predictor) -> dict[str, Any]:
    suffix = _suffix(predictor)
    return {
        "imports": [f"$import {name}" for name in _IMPORTS] + ["$from PIL import Image"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/predictions'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "files": f"$sorted(glob.glob(glob.escape(@dataset_dir) + '/*{suffix}'))",
        "program": f"$torch.export.load(@bundle_root + '/{MODEL}')",
        "network_def": "$torch.export.unflatten(@program)",
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(predictor, suffix)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': file} for file in @files]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "patch": list(predictor.patch),
        "weights": _HANN,
        "windows": {
            "_target_": "SlidingWindowInferer",
            "roi_size": "@patch",
            "sw_batch_size": 4,
            "overlap": predictor.run.settings.input.overlap,
            "padding_mode": "replicate",
        },
        # MONAI's own windows to blend by are flat or Gaussian; it takes another as an attribute
        "inferer": "$(setattr(@windows, 'roi_weight_map', @weights), @windows)[1]",
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(predictor, suffix)},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "predict": "$torch.no_grad()(lambda item, infer=@inferer, network=@network, device=@device"
        ": {**item, 'pred': infer(item['image'][None].to(device), network)[0].cpu()})",
        "run": [
            "$os.makedirs(@output_dir, exist_ok=True)",
            "$[@postprocessing(@predict(item)) for item in @dataset] and None",
        ],
        "evaluate": ["$os.makedirs(@output_dir, exist_ok=True)", "$@evaluator.run()"],
    }


def _preprocessing(predictor: Predictor, suffix: str) -> list[dict[str, Any]]:
    spec = predictor.spec
    axes: dict[str, int | str] = {"none": "no_channel", "first": 0, "last": -1}
    axis = axes[spec.channel_axis]
    reader: dict[str, Any] = {"_target_": "NumpyReader"}
    if suffix in _VOLUMES:
        reader = {"_target_": "NibabelReader"}
    elif suffix in _PICTURES:
        # by default MONAI takes columns for the first axis of a picture
        reader = {"_target_": "PILReader", "reverse_indexing": False}
        axis = "no_channel" if spec.channels == 1 else -1
    steps: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image", "reader": reader},
        {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": axis},
    ]
    normalise = _normalise(predictor)
    return steps if normalise is None else [*steps, normalise]


def _normalise(predictor: Predictor) -> dict[str, Any] | None:
    preparation = predictor.preparation
    if preparation.normalise == "none":
        return None
    shared = {"keys": "image", "channel_wise": True}
    if preparation.normalise == "percentile":
        low, high = preparation.percentiles
        cut = {"lower": low, "upper": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
        return {"_target_": "ScaleIntensityRangePercentilesd", **shared, **cut}
    step: dict[str, Any] = {"_target_": "NormalizeIntensityd", **shared}
    if preparation.normalise == "set":
        step["subtrahend"] = list(preparation.mean or ())
        step["divisor"] = list(preparation.deviation or ())
    return step


def _postprocessing(predictor: Predictor, suffix: str) -> list[dict[str, Any] | str]:
    spec = predictor.spec
    values = list(spec.values)
    steps: list[dict[str, Any] | str] = []
    if spec.task == "segmentation":
        steps.append({"_target_": "AsDiscreted", "keys": "pred", "argmax": True})
        if values != list(range(len(values))):
            steps.append(
                {
                    "_target_": "MapLabelValued",
                    "keys": "pred",
                    "orig_labels": list(range(len(values))),
                    "target_labels": values,
                }
            )
    return [*steps, _saver(spec, suffix)]


def _saver(spec: DataSpec, suffix: str) -> dict[str, Any] | str:
    """What writes a prediction: NIfTI for volumes, PNG for pictures of few classes, else npy."""
    whole = spec.task == "segmentation"
    small = whole and 0 <= min(spec.values) <= max(spec.values) < 256
    kind = ("uint8" if small else "int32") if whole else "float32"
    if suffix in _VOLUMES:
        return {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "",
            "output_ext": ".nii.gz",
            "output_dtype": kind,
            "resample": False,
            "separate_folder": False,
            "print_log": False,
        }
    stem = "os.path.basename(str(item['image'].meta['filename_or_obj'])).rsplit('.', 1)[0]"
    array = f"item['pred'].numpy().astype('{kind}')"
    place = f"os.path.join(folder, {stem}"
    if suffix in _PICTURES and small:
        written = f"Image.fromarray({array}[0]).save({place} + '.png'))"
    else:
        array = f"{array}[0]" if whole or len(spec.classes) == 1 else array
        written = f"numpy.save({place} + '.npy'), {array})"
    return f"$lambda item, folder=@output_dir: ({written}, item)[1]"
