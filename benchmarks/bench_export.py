"""How far exported models are from their networks, and how quick they are: every network of ours.

    python benchmarks/bench_export.py [--inputs 1000] [--threads 1]

Prints a table and one JSON line per network: fresh parameters, inputs at three sizes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from labelmend.errors import LabelmendError
from labelmend.inference.export import to_onnx, to_torch
from labelmend.inference.export.program import trace
from labelmend.inference.export.proof import prove
from labelmend.networks.build import NETWORKS, build_network, size_multiple

Run = Callable[[np.ndarray], np.ndarray]
SIZES = {
    1: ((8,), (12,), (20,)),
    2: ((3, 3), (4, 4), (3, 5)),
    3: ((2, 2, 2), (3, 3, 3), (2, 3, 4)),
}
LARGE = {1: 16384, 2: 256, 3: 64}


def inputs(sizes: list[tuple[int, ...]], count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for number in range(count):
        shape = (1 + number % 2, 1, *sizes[number % len(sizes)])
        drawn = rng.normal(0, 10.0 ** rng.uniform(-0.5, 1), shape) + rng.normal(0, 1)
        yield drawn.astype(np.float32)


def seconds(run: Run, images: np.ndarray) -> float:
    run(images)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        run(images)
        taken.append(time.perf_counter() - start)
    return min(taken)


def measure(name: str, dims: int, count: int) -> dict[str, object]:
    depth = 5 if name == "basic_unet" else 4
    network = build_network(name, dims, 1, 3, width=8, depth=depth, seed=0).eval()
    multiple = size_multiple(name, depth)

    def plain(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    start = time.perf_counter()
    program = trace(network, 1, dims, multiple=multiple, where=name)
    exact = to_torch.open_model(to_torch.encode(program))
    onnx = to_onnx.open_model(to_onnx.encode(program, dims, name))
    made = time.perf_counter() - start
    sizes = [tuple(multiple * n for n in size) for size in SIZES[dims]]
    proofs = [
        prove(plain, run, inputs(sizes, count), task="segmentation", tolerance=1e-5)
        for run in (exact, onnx)
    ]
    large = np.random.default_rng(1).normal(0, 1, (1, 1, *[LARGE[dims]] * dims)).astype(np.float32)
    wanted, found = plain(large), onnx(large)
    return {
        "network": f"{name} {dims}-D",
        "torch": proofs[0].worst,
        "onnx": proofs[1].worst,
        "equal": proofs[1].equal,
        "large": float((np.abs(found - wanted) / np.maximum(1, np.abs(wanted))).max()),
        "seconds_to_export": made,
        "seconds_torch": seconds(plain, large),
        "seconds_onnx": seconds(onnx, large),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print("| network | torch | ONNX | equal classes | ONNX, large image | torch s | ONNX s |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for name in NETWORKS:
        for dims in (1, 2, 3):
            try:
                row = measure(name, dims, chosen.inputs)
            except LabelmendError as error:
                print(f"| {name} {dims}-D | {error} |", flush=True)
                continue
            rows.append(row)
            print(
                f"| {row['network']} | {row['torch']:.1e} | {row['onnx']:.1e} | "
                f"{100 * row['equal']:.5g} % | {row['large']:.1e} | "
                f"{row['seconds_torch']:.3f} | {row['seconds_onnx']:.3f} |",
                flush=True,
            )
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
