"""The model card: what a model was trained on, how good it was found, and what it must not be."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from labelmend.inference.export.proof import Proof
from labelmend.inference.export.to_monai import read_by_bundle
from labelmend.inference.predictor import Predictor
from labelmend.inference.temperature import FIGURES

_FEW = 10
_VERSIONS = ("labelmend", "torch", "monai", "numpy", "onnx", "onnxruntime")


def write_card(
    predictor: Predictor, model: str, content: bytes, proof: Proof, temperature: float | None = None
) -> str:
    """The text of ``MODEL_CARD.md``, made from the run and nothing else.

    Args:
        predictor: of the exported network.
        model: the file of the model.
        content: its bytes.
        proof: how far it is from the network.
        temperature: of its probabilities, if one is known.
    """
    parts = {
        "What it does": _purpose(predictor, temperature),
        "Trained on": _data(predictor),
        "Training": _training(predictor),
        "Weights of the weak labels": _weights(predictor),
        "Found on held-out labels": _figures(predictor),
        "How far its probabilities can be trusted": _trust(predictor, temperature),
        "Limits": _limits(predictor, temperature),
        "Equal to the trained network": [proof.said() + ".", *proof.notes],
        "Versions and hashes": _versions(predictor, model, content),
    }
    text = [f"# Model card: {predictor.run.path.name}"]
    for title, lines in parts.items():
        text += ["", f"## {title}", "", *(lines or ["Not known."])]
    return "\n".join(text) + "\n"


def write_readme(predictor: Predictor) -> str:
    """The text of ``docs/README.md`` of a MONAI bundle: how to run it."""
    files = ", ".join(read_by_bundle(predictor))
    return f"""# {predictor.run.path.name}

A network for {predictor.spec.task}, exported by labelmend as a MONAI bundle. What it was trained
on and its limits: `MODEL_CARD.md`. What is done before and after it: `processing.json`.

Predict the files of a folder (run here; labelmend need not be there):

    pip install monai pillow nibabel
    python -c "from monai.bundle import run; run(config_file='configs/inference.json', \\
        dataset_dir='IMAGES', output_dir='PREDICTIONS')"

Pillow is for pictures, nibabel for NIfTI. With `pip install fire` there is MONAI's own command line
too: `python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES
--output_dir PREDICTIONS`. `run_id='evaluate'` does the same by MONAI's `SupervisedEvaluator`, which
needs pytorch-ignite. Files of other kinds than {files} are passed over.

An image smaller than a patch ({" × ".join(map(str, predictor.patch))}) is continued to a patch at
both ends; labelmend continues it at its end and only as far as the network needs. All else is
alike, so predictions for such images can differ a little at their borders.

`torch.export.load` reads a table of operators and raw weights. In a file that somebody tampered
with it can be made to run code: compare `SHA256SUMS` first, and take it from who you trust only.
"""


def _purpose(predictor: Predictor, temperature: float | None) -> list[str]:
    spec, facts = predictor.spec, predictor.run.facts
    goal = (
        "A class for every position" if spec.task == "segmentation" else "Values at every position"
    )
    named = ", ".join(
        f"{name} ({value})" for name, value in zip(spec.classes, spec.values, strict=False)
    ) or ", ".join(spec.classes)
    lines = [
        f"{goal} of {spec.dims}-D images of {spec.channels} channel{'s' * (spec.channels != 1)}: "
        f"{named}.",
        f"Network input: {facts['in_channels']} channels, patches of "
        f"{' × '.join(map(str, predictor.patch))}, sides a multiple of {predictor.multiple}.",
    ]
    if temperature is not None:
        lines.append(f"Probabilities: softmax of scores / {temperature:g}.")
    return _list(lines)


def _data(predictor: Predictor) -> list[str]:
    data = predictor.run.data
    lines = [
        "| split | images | strong labels | weak labels | groups |",
        "|---|---|---|---|---|",
    ]
    for split in ("train", "val", "test"):
        samples = [s for s in data.samples if s.split == split]
        quality = Counter(s.quality for s in samples)
        images, groups = len({s.image for s in samples}), len({s.group for s in samples})
        lines.append(f"| {split} | {images} | {quality['strong']} | {quality['weak']} | {groups} |")
    who = sorted({s.annotator for s in data.samples if s.annotator})
    notes = [f"Data set: {Path(data.root).name}, {len(data.samples)} labels."]
    notes += [f"Weak labels by {len(who)} annotator{'s' * (len(who) != 1)}."] if who else []
    if predictor.run.problems:
        notes.append(f"{len(predictor.run.problems)} files could not be used and were left out.")
    return [*lines, "", *_list([*notes, *data.notes])]


def _training(predictor: Predictor) -> list[str]:
    settings = predictor.run.settings.model_dump()
    used = {
        "network": f"{settings['network']['name']}, width {settings['network']['width']}, depth "
        f"{settings['network']['depth']}, dropout {settings['network']['dropout']:g}",
        "exported": f"step {predictor.step}, network {predictor.model}",
        "loss": predictor.run.settings.loss or _usual_loss(predictor),
        "steps": _length(predictor),
        "seed": settings["seed"],
        "weak labels weighed": settings["weighting"]["method"],
        "labels put in place": predictor.run.settings.align.transform or "no",
        "mixed images": "yes" if settings["mixing"]["use"] else "no",
        "two networks": "yes" if settings["dual"]["use"] else "no",
        "normalisation": predictor.preparation.normalise,
        "learning rate": f"{settings['optimiser']['learning_rate']:g}",
        "batch": settings["batch"]["size"],
    }
    parameters = sum(p.numel() for p in predictor.network.parameters())
    return _list(
        [*(f"{name}: {value}" for name, value in used.items()), f"parameters: {parameters:,}"]
    )


def _usual_loss(predictor: Predictor) -> str:
    return "l1" if predictor.spec.task == "regression" else "dice_ce"


def _length(predictor: Predictor) -> str:
    settings = predictor.run.settings
    if settings.epochs is not None:
        return f"{settings.epochs:g} passes over the data"
    return "2000, as by default" if settings.steps is None else str(settings.steps)


def _weights(predictor: Predictor) -> list[str]:
    rows = [row for row in predictor.run.weights() if row["quality"] == "weak"]
    weights = np.array([row["weight"] for row in rows if row.get("weight") is not None], np.float64)
    if not len(weights):
        return ["No weak label was weighed."]
    low, middle, high = np.quantile(weights, (0.05, 0.5, 0.95))
    return _list(
        [
            f"{len(weights)} weak labels: mean weight {weights.mean():.2f}, median {middle:.2f}, "
            f"from {low:.2f} to {high:.2f} (5 % to 95 %)",
            f"{int((weights < 0.1).sum())} count less than 0.1",
        ]
    )


def _figures(predictor: Predictor) -> list[str]:
    lines: list[str] = []
    for found in _evaluations(predictor):
        lines += _figure_table(found, predictor.step)
    if not lines:
        return ["It was not evaluated before it was exported; labelmend evaluate does that."]
    return lines[:-1]


def _evaluations(predictor: Predictor) -> Iterator[Mapping[str, Any]]:
    name = "evaluation" if predictor.model == "main" else f"evaluation-{predictor.model}"
    for split in ("test", "val"):
        path = predictor.run.path / name / f"{split}.json"
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.get("model", "main") == predictor.model:
                yield found


def _figure_table(found: Mapping[str, Any], step: int) -> list[str]:
    metrics = list(found["mean"])
    many = found["samples"]
    title = f"Split {found['split']}, {many} strong label{'s' * (many != 1)}, step {found['step']}"
    other = "" if found["step"] == step else f", which is not this model: it is of step {step}"
    lines = [f"{title}{other}:", "", _row(["", *metrics]), "|---" * (len(metrics) + 1) + "|"]
    for name, row in (*found["per_class"].items(), ("mean", found["mean"])):
        lines.append(_row([name, *(_number(row.get(metric)) for metric in metrics)]))
    return [*lines, ""]


def _trust(predictor: Predictor, temperature: float | None) -> list[str]:
    found = predictor.calibration
    if predictor.spec.task == "regression":
        return ["It predicts numbers and no probabilities."]
    if found is None or found.temperature != temperature:
        return ["That was not measured; labelmend calibrate does."]
    lines = [
        f"Judged on {found.where()}:",
        "",
        "| | scores | scores / temperature |",
        "|---|---|---|",
    ]
    for name, field in FIGURES.items():
        pair = [f"{getattr(each, field):.4f}" for each in (found.before, found.after)]
        lines.append(_row([name, *pair]))
    return [*lines, *([""] if found.remarks() else []), *_list(found.remarks())]


def _limits(predictor: Predictor, temperature: float | None) -> list[str]:
    data, lines = predictor.run.data, []
    tests, checks = len(data.of("test", "strong")), len(data.of("val", "strong"))
    strong = len(data.of("train", "strong"))
    if not tests:
        lines.append(
            "No strong label was kept for testing: nothing says how good it is on images that had "
            "no part in its making."
        )
    elif tests < _FEW:
        lines.append(f"Strong labels to test it: only {tests}; its figures may be off by much.")
    if checks:
        lines.append(
            f"Strong labels of split val: {checks}. They watched the training, so they flatter."
        )
    if strong < _FEW:
        lines.append(f"Strong labels that anchor what it learned: only {strong}.")
    if predictor.run.weak:
        lines.append(
            "Most of what weak labels taught it was never checked by anybody: an error that they "
            "share is learned as if it were right."
        )
    if predictor.spec.task == "segmentation" and temperature is None:
        lines.append("Its probabilities are not calibrated; take them as an order, not as odds.")
    lines += [
        "It knows images like those above. Other devices, stainings, sites or resolutions are not "
        "covered by its figures.",
        "It always answers, also for images that show none of its classes.",
        "It is no medical device and was not examined as one.",
    ]
    return _list(lines)


def _versions(predictor: Predictor, model: str, content: bytes) -> list[str]:
    trained = predictor.run.environment
    packages = {"labelmend": trained["labelmend"], **trained["packages"]}
    return _list(
        [
            "trained with " + ", ".join(f"{name} {v}" for name, v in packages.items() if v),
            "exported with " + ", ".join(_installed(_VERSIONS)),
            f"`{model}` SHA-256 {hashlib.sha256(content).hexdigest()}",
            f"list of images and labels SHA-256 {_manifest_hash(predictor)}",
        ]
    )


def _manifest_hash(predictor: Predictor) -> str:
    """Of all samples with the hashes of their files, in order: which data it was, exactly."""
    told = [
        "\t".join((s.image, s.image_sha256, s.label, s.label_sha256, s.quality, s.split))
        for s in predictor.run.data.samples
    ]
    return hashlib.sha256("\n".join(told).encode("utf-8", "surrogateescape")).hexdigest()


def _installed(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue


def _list(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
