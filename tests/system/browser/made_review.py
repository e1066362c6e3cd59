"""A process that serves reviews of runs that nobody trained.

``made_review.py FOLDER KIND:PORT:MANY ...``: started by the tests of the page, so that they can
kill it; started by hand, it is a page to try.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import soundfile
import tifffile
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from labelmend.audit import Ranked
from labelmend.catalogue.scan import open_data
from labelmend.config import Settings
from labelmend.data.prepare import Preparation
from labelmend.inference.predictor import Predictor
from labelmend.labels.shapes import ellipse
from labelmend.review.app import make_app
from labelmend.review.cases import Cases
from labelmend.review.desk import Desk
from labelmend.review.repaired import can_ignore
from labelmend.review.server import serve
from labelmend.review.store import Store
from labelmend.runs import Run

TOKEN = "0123456789abcdef-of-the-page"
RATE = 2000
REASONS = (
    "lies 9 positions below where the network sees it",
    "the network disagrees with half of it; weight fell to 0.08",
    "looks like the label of another image",
    "border much coarser than those of the same annotator",
)


class Bright(nn.Module):
    """Classes by how bright an image is."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes, ``(batch, classes, *space)``."""
        seen = image[:, :1]
        middles = torch.linspace(-0.6, 2.4, self.classes)
        return torch.cat([-8 * (seen - middle) ** 2 for middle in middles], 1)


def cells(root: Path, many: int, size: tuple[int, int] = (96, 128)) -> None:
    """Grey pictures with two kinds of bright cells, and a value that means unknown."""
    (root / "data.toml").write_text(
        "ignore = 9\n[classes]\nbackground = 0\nnucleus = 1\nmembrane = 2\n"
    )
    for i in range(many):
        rng = np.random.default_rng(i)
        label = np.zeros(size, np.uint8)
        for cell in range(4):
            centre = (rng.uniform(0.2, 0.8) * size[0], (0.15 + 0.24 * cell) * size[1])
            radii = rng.uniform(0.1, 0.2, 2) * size[0]
            turn = rng.uniform(0, 3)
            outer, inner = (ellipse(size, centre, tuple(k * radii), turn) for k in (1.0, 0.55))
            label[outer] = 2
            label[inner] = 1
        height = np.array([0.0, 1.0, 0.55])[label]
        image = gaussian_filter(height, 1) + gaussian_filter(rng.normal(0, 0.5, size), 1.5)
        pixels = np.clip(40 + 150 * image, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"images/cell{i:02}.png")
        shifted = np.roll(label, (size[0] // 12, -size[1] // 16), (0, 1))
        shifted[:2] = 9
        Image.fromarray(shifted).save(root / f"labels/weak/ann/cell{i:02}.png")
        if i < 2:
            Image.fromarray(label).save(root / f"labels/strong/cell{i:02}.png")


def volume(root: Path, many: int) -> None:
    """Volumes of a bright body, with slices further apart than rows."""
    size = (12, 40, 48)
    for i in range(many):
        rng = np.random.default_rng(i)
        place = np.stack(
            [
                ellipse(size[1:], (20 + k / 2, 24), (max(0.1, 11 - abs(6 - k) * 1.5), 8), k / 9)
                for k in range(size[0])
            ]
        )
        image = gaussian_filter(place * 1.0, 0.8) + rng.normal(0, 0.15, size)
        affine = np.diag([3.0, 1.0, 1.0, 1.0])
        _nifti(root / f"images/v{i}.nii.gz", image.astype(np.float32), affine)
        _nifti(root / f"labels/weak/ann/v{i}.nii.gz", np.roll(place, 4, 1).astype(np.uint8), affine)
        if i < 2:
            _nifti(root / f"labels/strong/v{i}.nii.gz", place.astype(np.uint8), affine)


def recording(root: Path, many: int) -> None:
    """Two seconds of two tones that come and go, and lists of events."""
    (root / "data.toml").write_text("[classes]\nsilence = 0\nlow = 1\nhigh = 2\n")
    time = np.arange(2 * RATE) / RATE
    for i in range(many):
        rng = np.random.default_rng(i)
        sound, events = rng.normal(0, 0.02, len(time)), []
        for name, pitch, onset in (("low", 180, 0.25), ("high", 520, 1.0), ("low", 220, 1.55)):
            start = onset + rng.uniform(-0.1, 0.1)
            sound += 0.4 * np.sin(2 * np.pi * pitch * time) * (time >= start) * (time < start + 0.3)
            events.append((start, start + 0.3, name))
        soundfile.write(root / f"images/r{i}.wav", sound, RATE, subtype="PCM_16")
        for folder, late in (("weak/ann", 0.06), ("strong", 0.0)):
            if late or i < 2:
                rows = [f"{a + late:.4f},{b + late:.4f},{name}" for a, b, name in events]
                table = "\n".join(["onset_s,offset_s,label", *rows, ""])
                (root / f"labels/{folder}/r{i}.csv").write_text(table)


def heights(root: Path, many: int) -> None:
    """Grey pictures whose labels are real numbers."""
    (root / "data.toml").write_text('task = "regression"\nclasses = ["height"]\n')
    for i in range(many):
        rng = np.random.default_rng(i)
        label = gaussian_filter(rng.normal(size=(40, 56)), 6).astype(np.float32)
        pixels = np.clip(128 + 900 * label + rng.normal(0, 9, label.shape), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"images/h{i}.png")
        tifffile.imwrite(root / f"labels/weak/ann/h{i}.tif", np.roll(label, 3, 0))
        if i < 2:
            tifffile.imwrite(root / f"labels/strong/h{i}.tif", label)


def _nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


KINDS: dict[str, Callable[..., None]] = {
    "cells": cells,
    "volume": volume,
    "recording": recording,
    "heights": heights,
}


def open_run(folder: Path, kind: str, many: int) -> Predictor:
    """The run in a folder, made when it is not there."""
    root = folder / "data"
    if not root.exists():
        for name in ("images", "labels/strong", "labels/weak/ann"):
            (root / name).mkdir(parents=True)
        KINDS[kind](root, many)
    data, _ = open_data(root, val_share=0.0)
    outputs = len(data.spec.classes)
    preparation = Preparation(normalise="zscore")
    if (folder / "run").exists():
        run = Run.open(folder / "run")
    else:
        facts = {
            "patch": [64] * data.spec.dims,
            "preparation": dataclasses.asdict(preparation),
            "in_channels": data.spec.channels,
            "out_channels": outputs,
        }
        run = Run.create(folder / "run", Settings.make({}), data, facts)
    cpu = torch.device("cpu")
    patch = (64,) * data.spec.dims
    return Predictor(run, 3, Bright(outputs).eval(), preparation, patch, 1, cpu)


def rank(predictor: Predictor) -> list[Ranked]:
    """Every label, weak ones first, with made-up figures."""
    samples = sorted(predictor.run.data.samples, key=lambda sample: sample.quality == "strong")
    facts = ("label", "image", "annotator", "group", "split", "quality")
    found = []
    for place, sample in enumerate(samples):
        weak = sample.quality == "weak"
        moved = tuple(float(d) for d in (8, -8, 0)[: predictor.spec.dims])
        about = {name: getattr(sample, name) for name in facts}
        found.append(
            Ranked(
                **about,
                score=1 / (1 + place / 3),
                wrong=1 / (1 + place / 3),
                weight=0.08 + place / 50 if weak else None,
                displacement=moved if weak else None,
                confidence=0.93 if weak else None,
                disagreement=0.42,
                reason=REASONS[place % len(REASONS)],
            )
        )
    return found


def serve_one(folder: Path, kind: str, port: int, many: int) -> None:
    """Serve one kind of data until killed."""
    predictor = open_run(folder, kind, many)
    order = rank(predictor)
    cases = Cases(predictor, order[::-1] if (folder / "reversed").exists() else order)
    store = Store.open(folder / "review" / "review.sqlite")
    desk = Desk(store, cases.base, classes=len(cases.spec.classes), ignore=can_ignore(cases.spec))
    told = dict.fromkeys(("written", "rejected", "strong", "open_edits", "open_marks"), 0)
    told |= {"accepted": 7, "table": "repairs/table.csv"}
    app = make_app(cases, desk, TOKEN, export=lambda: dict(told))
    serve(app, port=port, token=TOKEN)


def main(folder: Path, *wanted: str) -> None:
    """Serve several kinds at once, each at a port of its own."""
    torch.set_num_threads(1)
    for one in wanted:
        kind, port, many = one.split(":")
        about = (folder / kind, kind, int(port), int(many))
        threading.Thread(target=serve_one, args=about, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
