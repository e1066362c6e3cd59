"""How quickly whole images are predicted, beside MONAI's sliding window, in one run.

The same network, patches, overlap, batch and threads for both; one after the other, in turns, so
that whatever else the machine does meets both. Counted is processor time, of the quickest round,
since noise only adds.
MONAI blends with its Gaussian, this library with its Hann window. ``joining`` has a network that
does next to nothing, so that what is left is cutting and joining. ``strips`` is the same prediction
strip by strip, as for images that do not fit into memory.

``many files`` are 300 PNG images of 128 x 128, predicted by ``labelmend predict`` from file to
label: one file after the other (``--batch 1``), as by default, and 16 patches at a time, in turns.
There time on the clock is counted, since files are read in a thread while the network works; the
ratio is the median of those of neighbouring turns. Some minutes on one core. Run:
``python benchmarks/bench_predict.py``; ``--only files`` measures that part alone and leaves the
other figures as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from PIL import Image
from torch import Tensor, nn

from labelmend.data.whole import predict_strips, predict_whole
from labelmend.networks.build import build_network

RESULTS = Path(__file__).parent / "results" / "predict.json"
OVERLAP, BATCH = 0.5, 4


class Joining(nn.Module):
    """Two scores for next to nothing."""

    def forward(self, image: Tensor) -> Tensor:
        """The image, and less of it."""
        return torch.cat([-image, image], 1)


def unet(dims: int) -> nn.Module:
    return build_network("unet", dims, 1, 2, width=16, depth=3, seed=0)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "2-D, U-Net": (lambda: unet(2), (1000, 1100), (128, 128)),
    "3-D, U-Net": (lambda: unet(3), (72, 96, 80), (48, 48, 48)),
    "2-D, joining": (Joining, (2000, 2100), (256, 256)),
    "3-D, joining": (Joining, (128, 160, 150), (64, 64, 64)),
}


def ways(network: nn.Module, image: Tensor, patch: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """What is timed: name → a prediction of the whole image."""
    size = tuple(image.shape[1:])

    def read(place: Any) -> Tensor:
        return image[(slice(None), *place.slices)]

    options: dict[str, Any] = {"patch": patch, "overlap": OVERLAP, "multiple": 8, "batch": BATCH}

    def monai() -> Any:
        with torch.inference_mode():
            return sliding_window_inference(
                image[None], patch, BATCH, network, overlap=OVERLAP, mode="gaussian"
            )

    return {
        "monai": monai,
        "whole": lambda: predict_whole(network, image, **options),
        "strips": lambda: [len(s) for _, s in predict_strips(network, read, size, **options)],
    }


def measure(case: str, rounds: int) -> dict[str, float]:
    """Processor seconds of the quickest round, per way."""
    make, size, patch = CASES[case]
    network = make().eval()
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(1, *size)).astype(np.float32))
    timed = ways(network, image, patch)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, way in timed.items():
            begin = time.process_time()
            way()
            seconds[name].append(time.process_time() - begin)
    return {name: min(values) for name, values in seconds.items()}


def measure_windows(threads: int, rounds: int) -> dict[str, Any]:
    """Every case of whole images."""
    found: dict[str, Any] = {
        "threads": threads,
        "rounds": rounds,
        "processor": platform.machine(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "cases": {},
    }
    for case in CASES:
        seconds = measure(case, rounds)
        times = {name: seconds["monai"] / seconds[name] for name in ("whole", "strips")}
        found["cases"][case] = {"seconds": seconds, "times_as_fast_as_monai": times}
        shown = "  ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
        print(
            f"{case}: {shown}; {times['whole']:.2f} times as fast, in strips {times['strips']:.2f}"
        )
    return found


FILES, SIDE = 300, 128
BATCHES = (1, None, 16)


def write_files(folder: Path, many: int) -> None:
    """Images of noisy squares, and strong labels for the first six."""
    rng = np.random.default_rng(0)
    for name in ("data/images", "data/labels/strong", "new"):
        (folder / name).mkdir(parents=True)
    for number in range(many + 6):
        label = np.zeros((SIDE, SIDE), np.uint8)
        row, column = rng.integers(8, SIDE // 2, 2)
        label[row : row + 40, column : column + 40] = 255
        noisy = label // 4 + rng.integers(0, 100, label.shape).astype(np.uint8)
        place = folder / ("data/images" if number < 6 else "new") / f"s{number}.png"
        Image.fromarray(noisy).save(place)
        if number < 6:
            Image.fromarray(label).save(folder / f"data/labels/strong/s{number}.png")


def _name(batch: int | None) -> str:
    return "default" if batch is None else str(batch)


def measure_files(rounds: int) -> dict[str, Any]:
    """Seconds on the clock per way and round, and how many times as fast as one by one."""
    from labelmend.inference.files import Way, predict_all
    from labelmend.inference.predictor import load
    from labelmend.training.assembly import fit

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_files(folder, FILES)
        settings: dict[str, Any] = {"network": {"width": 16, "depth": 3}, "steps": 2}
        fit(folder / "data", folder / "run", **settings)
        predictor = load(folder / "run", device="cpu")
        seconds: dict[str, list[float]] = {_name(batch): [] for batch in BATCHES}
        labels: dict[str, list[bytes]] = {}
        for _ in range(rounds):
            for batch in BATCHES:
                out = folder / f"out-{batch}"
                begin = time.perf_counter()
                found = predict_all(predictor, [folder / "new"], out, Way(batch=batch))
                seconds[_name(batch)].append(time.perf_counter() - begin)
                labels[_name(batch)] = [path.read_bytes() for path in found.written]
    one = seconds["1"]
    return {
        "files": FILES,
        "side": SIDE,
        "seconds": seconds,
        "times_as_fast": {
            name: statistics.median(a / b for a, b in zip(one, values, strict=True))
            for name, values in seconds.items()
        },
        "labels_alike": {
            name: sum(a == b for a, b in zip(labels["1"], each, strict=True))
            for name, each in labels.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", choices=["windows", "files"])
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    found: dict[str, Any] = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    if chosen.only != "files":
        found |= measure_windows(chosen.threads, chosen.rounds)
    if chosen.only != "windows":
        found["many files"] = measure_files(chosen.rounds) | {"load": os.getloadavg()[0]}
        for name, times in found["many files"]["times_as_fast"].items():
            alike = found["many files"]["labels_alike"][name]
            print(f"{FILES} files, --batch {name}: {times:.2f} times as fast, {alike} alike")
    chosen.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
