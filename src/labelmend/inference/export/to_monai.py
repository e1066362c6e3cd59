"""A bundle that MONAI opens: a program, and the workflow around it as a table of MONAI's parts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from labelmend.errors import RunError, SettingsError
from labelmend.files.formats import split_name
from labelmend.inference.predictor import Predictor
from labelmend.types import DataSpec, Raster

MODEL = "models/model.pt2"
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_VOLUMES = (".nii", ".nii.gz")
_FAMILIES = (_PICTURES, _VOLUMES, (".npy",))
_IMPORTS = ("functools", "glob", "math", "numpy", "os", "torch")
_HANN = (
    "$functools.reduce(lambda window, n: window[..., None] * "
    "torch.sin((torch.arange(n) + 0.5) / n * math.pi) ** 2, @patch, torch.ones(()))"
)
# MONAI's own transforms differ where an image hardly varies: they leave one whose percentiles are
# equal as it is, and divide one of a single value by what its mean was rounded by.
_SCALE = (
    "$lambda image, find=@statistics: numpy.stack([(channel.astype('float64') - centre) / width "
    "if width > 0 else 0 * channel for channel, (centre, width) in zip(image, find(image))])"
    ".astype('float32')"
)
_MOMENTS = (
    "$lambda image: [(c.mean(dtype='float64'), c.std(dtype='float64') if c.min() < c.max() else 0) "
    "for c in image]"
)
_PERCENTILES = (
    "$lambda image, extremes=lambda c: [float(c.min()), float(c.max())]: "
    "[(low, high - low) for low, high in (pair if pair[0] < pair[1] else extremes(c) for c, pair "
    "in ((c, numpy.percentile(c, {}).tolist()) for c in image))]"
)


def check_expressible(predictor: Predictor) -> None:
    """Refuse what MONAI's own parts cannot do just as it was done in training.

    Raises:
        SettingsError: naming the setting or the kind of file.
    """
    preparation, suffixes = predictor.preparation, _suffixes(predictor)
    wanted = {
        "input.spectrogram": preparation.spectrogram,
        "input.spacing": preparation.spacing is not None,
        "input.size": preparation.size is not None,
        f"input.denoise = {preparation.denoise!r}": preparation.denoise != "none",
        f"images in {' and '.join(suffixes)}": not _readable(predictor.spec, suffixes),
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


def read_by_bundle(predictor: Predictor) -> tuple[str, ...]:
    """The kinds of files that the bundle takes from a folder: all that its one reader reads."""
    return next(family for family in _FAMILIES if _suffixes(predictor)[0] in family)


def preparation_off(predictor: Predictor, real: Mapping[Path, np.ndarray]) -> float:
    """By how much the images that the bundle prepares differ most from those of the predictor.

    Relative to ``max(1, |value|)``. Whole files are read by the bundle; beside them it is given
    images that hardly vary, since those are what two ways of normalising differ in.

    Args:
        predictor: for which :func:`check_expressible` has nothing to say.
        real: files of the data set, and what the network sees of them.

    Raises:
        RunError: when the bundle cannot read a file, or prepares it to another shape.
    """
    from monai.bundle import ConfigParser  # late: other targets need not wait for it

    parser = ConfigParser(_inference(predictor))
    parser.get_parsed_content("imports")
    worst = 0.0
    if predictor.preparation.normalise != "none":
        run = parser.get_parsed_content("normalise")
        for made in _hardly_varying(predictor):
            worst = max(worst, _apart(run(made), predictor.preparation.image(Raster(made))[0]))
    prepare = parser.get_parsed_content("preprocessing")
    for path, wanted in real.items():
        try:
            found = prepare({"image": str(path)})["image"].array
        except Exception as error:  # MONAI's readers have errors of their own
            first = " ".join(str(error).split())[:200]
            raise RunError(f"MONAI does not read {path}: {first}; export --to onnx") from error
        worst = max(worst, _apart(found, wanted))
    return worst


def _hardly_varying(predictor: Predictor) -> Iterator[np.ndarray]:
    """Images of one value, of two, and of noise on a large offset."""
    shape = (predictor.spec.channels, *(64,) * predictor.spec.dims)
    blank = np.full(shape, 0.1, np.float32)
    yield blank
    sparse = np.zeros(shape, np.float32)
    sparse[(slice(None), *(slice(5) for _ in shape[1:]))] = 9
    yield sparse
    yield np.random.default_rng(0).normal(3e4, 2, shape).astype(np.float32)


def _apart(found: np.ndarray, wanted: np.ndarray) -> float:
    if found.shape != wanted.shape:
        raise RunError(
            f"MONAI prepares an image to {found.shape} where training had {wanted.shape}; "
            "export --to onnx"
        )
    apart = np.abs(found.astype(np.float64) - wanted) / np.maximum(1, np.abs(wanted))
    return float(apart.max())


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=4, allow_nan=False) + "\n").encode()


def _suffixes(predictor: Predictor) -> list[str]:
    return sorted({split_name(sample.image)[1] for sample in predictor.run.data.samples})


def _readable(spec: DataSpec, suffixes: Collection[str]) -> bool:
    """Whether one of MONAI's readers reads all such files into the same axes."""
    family = next((family for family in _FAMILIES if set(suffixes) <= set(family)), ())
    if family == _PICTURES:
        return spec.dims == 2 and spec.channels in (1, 3)
    return bool(family) and (family != _VOLUMES or spec.dims == 3)


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
    family = read_by_bundle(predictor)
    own = ["$from monai.utils import convert_to_dst_type"]
    own += ["$from PIL import Image"] if family == _PICTURES else []
    return {
        "imports": [f"$import {name}" for name in _IMPORTS] + own,
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/predictions'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "files": "$[file for file in sorted(glob.glob(glob.escape(@dataset_dir) + '/*')) "
        f"if file.lower().endswith({family})]",
        "program": f"$torch.export.load(@bundle_root + '/{MODEL}')",
        "network_def": "$torch.export.unflatten(@program)",
        "network": "$@network_def.to(@device).eval()",
        **_normalise(predictor),
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(predictor, family)},
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
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(predictor, family)},
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


def _preprocessing(predictor: Predictor, family: tuple[str, ...]) -> list[dict[str, Any]]:
    spec = predictor.spec
    axes: dict[str, int | str] = {"none": "no_channel", "first": 0, "last": -1}
    axis = axes[spec.channel_axis]
    reader: dict[str, Any] = {"_target_": "NumpyReader"}
    if family == _VOLUMES:
        reader = {"_target_": "NibabelReader"}
    elif family == _PICTURES:
        # by default MONAI takes columns for the first axis of a picture
        reader = {"_target_": "PILReader", "reverse_indexing": False}
        axis = "no_channel" if spec.channels == 1 else -1
    steps: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image", "reader": reader},
        {"_target_": "EnsureChannelFirstd", "keys": "image", "channel_dim": axis},
    ]
    if predictor.preparation.normalise == "none":
        return steps
    func = "$lambda image, run=@normalise: convert_to_dst_type(run(image.array), image)[0]"
    return [*steps, {"_target_": "Lambdad", "keys": "image", "func": func}]


def _normalise(predictor: Predictor) -> dict[str, str]:
    """Expressions that normalise an array ``(channels, *space)`` as it was done in training."""
    preparation, scale = predictor.preparation, _SCALE
    if preparation.normalise == "none":
        return {}
    if preparation.normalise == "percentile":
        find, scale = _PERCENTILES.format(list(preparation.percentiles)), f"{_SCALE}.clip(0, 1)"
    elif preparation.normalise == "set":
        pairs = zip(preparation.mean or (), preparation.deviation or (), strict=True)
        find = f"$lambda image: {list(pairs)}"
    else:
        find = _MOMENTS
    return {"statistics": find, "normalise": scale}


def _postprocessing(predictor: Predictor, family: tuple[str, ...]) -> list[dict[str, Any] | str]:
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
    return [*steps, _saver(spec, family)]


def _saver(spec: DataSpec, family: tuple[str, ...]) -> dict[str, Any] | str:
    """What writes a prediction: NIfTI for volumes, PNG for pictures of few classes, else npy."""
    whole = spec.task == "segmentation"
    small = whole and 0 <= min(spec.values) <= max(spec.values) < 256
    kind = ("uint8" if small else "int32") if whole else "float32"
    if family == _VOLUMES:
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
    if family == _PICTURES and small:
        written = f"Image.fromarray({array}[0]).save({place} + '.png'))"
    else:
        array = f"{array}[0]" if whole or len(spec.classes) == 1 else array
        written = f"numpy.save({place} + '.npy'), {array})"
    return f"$lambda item, folder=@output_dir: ({written}, item)[1]"
