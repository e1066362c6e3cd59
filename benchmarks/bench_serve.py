"""How ``labelmend serve`` stands overload, gone clients and a network that dies, in figures.

    python benchmarks/bench_serve.py [--seconds 15] [--size 256]

An open-loop generator in a process of its own sends requests by a fixed schedule, whatever comes
back; latencies count from the time that the schedule says. First as many clients as find a place
keep the server busy: that is its capacity. Then 0.5, 1, 2 and 10 times as many requests a second,
each on a new connection; every label is compared with that of the network called directly. Then
1,000 clients that leave after 50 ms, and requests some of which kill the thread under the network.
About two minutes on two cores, which server and generator share. Results: results/serve.json.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RESULTS = Path(__file__).parent / "results" / "serve.json"
IMAGES = 40
FACTORS = (0.5, 1.0, 2.0, 10.0)
WAITING = 64
LEAVING, AFTER = 1000, 0.05
DEATHS = 20
KILLER = 255
"""An image whose first position has this value, and no other's has, ends the network's thread."""


# ------------------------------------------------------------------------------------ server


def picture(number: int, size: int) -> bytes:
    """A picture unlike all others, as a PNG."""
    rng = np.random.default_rng(number + 1)
    image = (
        rng.integers(0, 200, (size // 16, size // 16)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    )
    image[0, 0] = KILLER if number < 0 else 0
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def make_run(folder: Path, size: int) -> Any:
    """A run with a fresh network, and its predictor."""
    import torch

    from labelmend.catalogue.scan import open_data
    from labelmend.config import Settings
    from labelmend.data.prepare import Preparation
    from labelmend.inference.predictor import Predictor
    from labelmend.networks.build import build_network
    from labelmend.runs import Run

    for name in ("images", "labels/strong"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(2):
        (folder / f"data/images/{number}.png").write_bytes(picture(number, 64))
        label = np.arange(64 * 64).reshape(64, 64) % 2
        Image.fromarray(label.astype(np.uint8)).save(folder / f"data/labels/strong/{number}.png")
    data, _ = open_data(folder / "data", val_share=0.0)
    preparation = Preparation()
    network = build_network("unet", 2, 1, 2, width=16, depth=3, seed=0).eval()
    facts = {
        "patch": [size, size],
        "preparation": dataclasses.asdict(preparation),
        "in_channels": 1,
        "out_channels": 2,
    }
    run = Run.create(folder / "run", Settings.make({}), data, facts)
    patch = (size, size)
    return Predictor(run, 1, network, preparation, patch, 8, torch.device("cpu"))


def serve(folder: Path, size: int) -> None:
    """Write what every image must be answered with, then serve; until killed."""
    import torch

    from labelmend.serve.answers import Prediction, read, reply
    from labelmend.serve.app import make_app
    from labelmend.serve.asked import Question
    from labelmend.serve.network import Network
    from labelmend.serve.service import Limits, Service
    from labelmend.web.server import Ending, Place
    from labelmend.web.server import serve as listen

    torch.set_num_threads(1)
    predictor = make_run(folder, size)
    for number in range(IMAGES):
        question = Question("a.png")
        raster = read(question, picture(number, size), predictor.spec, 2**30)
        found = reply(Prediction(question, raster, predictor.scores(raster), predictor))
        (folder / f"{number}.label").write_bytes(found.body.content)  # type: ignore[union-attr]
    network = Network(predictor)

    def mortal(images: Sequence[Any], flips: bool) -> Any:
        if any(image.array[0, 0, 0] == KILLER for image in images):
            raise SystemExit
        return network(images, flips)

    service = Service(predictor, Limits(waiting=WAITING), predict=mortal)
    listen(
        make_app(service, None),
        Place(8766, port=0),
        name="serve",
        token=None,
        warning="",
        ending=Ending(service.finished, 30),
    )


# --------------------------------------------------------------------------------- generator


@dataclass
class Seen:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    broken: int = 0
    seconds: dict[int, list[float]] = field(default_factory=dict)

    def add(self, status: int, seconds: float, right: bool) -> None:
        """One answer more."""
        self.statuses[status] += 1
        self.seconds.setdefault(status, []).append(seconds)
        self.wrong += status == 200 and not right


class Generator:
    """Asks a server, image by image."""

    def __init__(self, port: int, folder: Path, size: int) -> None:
        self.port = port
        self.bodies = [picture(number, size) for number in range(IMAGES)]
        self.labels = [(folder / f"{number}.label").read_bytes() for number in range(IMAGES)]
        self.killer = picture(-1, size)

    def _request(self, content: bytes) -> bytes:
        head = (
            f"POST /v1/predict?name=a.png HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + content

    async def ask(self, number: int, seen: Seen, since: float) -> None:
        """One request; ``number`` below 0 kills the network's thread."""
        content = self.killer if number < 0 else self.bodies[number % IMAGES]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self._request(content))
            answer = await reader.read()
            writer.close()
            start, _, body = answer.partition(b"\r\n\r\n")
            status = int(start.split(b" ", 2)[1])
        except (OSError, ValueError, IndexError):
            seen.broken += 1
            return
        right = number >= 0 and body == self.labels[number % IMAGES]
        seen.add(status, time.monotonic() - since, right)

    async def leave(self) -> None:
        """A request whose client is gone soon."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self._request(self.bodies[0]))
        await asyncio.sleep(AFTER)
        writer.transport.abort()

    async def closed(self, clients: int, seconds: float) -> float:
        """Answers a second that so many clients get who each ask again when answered."""
        end, seen = time.monotonic() + seconds, Seen()

        async def client(number: int) -> None:
            while time.monotonic() < end:
                await self.ask(number, seen, time.monotonic())
                number += clients

        start = time.monotonic()
        await asyncio.gather(*(client(number) for number in range(clients)))
        assert set(seen.statuses) == {200} and not seen.wrong and not seen.broken, seen.statuses
        return seen.statuses[200] / (time.monotonic() - start)

    async def open(self, rate: float, seconds: float, every: int = 0) -> tuple[Seen, float]:
        """By schedule: what came back, and for how long answers came. Each ``every``-th kills."""
        seen, tasks = Seen(), []
        start = time.monotonic()
        for number in range(round(rate * seconds)):
            due = start + number / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            which = -1 if every and number % every == every // 2 else number
            tasks.append(asyncio.create_task(self.ask(which, seen, due)))
        await asyncio.gather(*tasks)
        return seen, time.monotonic() - start

    async def leaving(self, rate: float) -> None:
        """Clients that leave, by schedule."""
        start, tasks = time.monotonic(), []
        for number in range(LEAVING):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(self.leave()))
        await asyncio.gather(*tasks)


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix("labelmend_"): float(value) for name, value in pairs}


def centiles(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return {"p50": None, "p99": None}
    found = np.percentile(seconds, (50, 99))
    return {"p50": round(float(found[0]), 4), "p99": round(float(found[1]), 4)}


def rest(port: int) -> None:
    while metrics(port)["waiting"]:
        time.sleep(0.1)


def load(generator: Generator, factor: float, capacity: float, seconds: float) -> dict[str, Any]:
    """One round of the open loop."""
    memory: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            memory.append(metrics(generator.port)["resident_memory_bytes"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    seen, took = asyncio.run(generator.open(factor * capacity, seconds))
    over.set()
    watcher.join()
    rest(generator.port)
    good = seen.seconds.get(200, [])
    return {
        "times_capacity": factor,
        "requests_per_second": round(factor * capacity, 1),
        "answered": dict(sorted(seen.statuses.items())),
        "wrong": seen.wrong,
        "broken": seen.broken,
        "labels_per_second": round(len(good) / took, 2),
        "share_of_capacity": round(len(good) / took / capacity, 3),
        "seconds_of_200": centiles(good),
        "seconds_of_429": centiles(seen.seconds.get(429, [])),
        "memory_mib": [round(one / 2**20) for one in (min(memory), max(memory))],
    }


def gone(generator: Generator, capacity: float) -> dict[str, Any]:
    """P3: what clients cost that leave after 50 ms."""
    before = metrics(generator.port)
    asyncio.run(generator.leaving(8 * capacity))
    rest(generator.port)
    after = metrics(generator.port)
    change = {name: after[name] - before.get(name, 0) for name in after}
    waiting, running = (
        change[f'clients_left_total{{while="{w}"}}'] for w in ("waiting", "running")
    )
    answered = change['requests_total{status="200"}']
    sent_away = change["refused_total"]
    return {
        "clients": LEAVING,
        "left_while_waiting": waiting,
        "left_while_running": running,
        "answered_before": answered,
        "sent_away": sent_away,
        "predicted": change["images_total"],
        "waited_and_predicted_all_the_same": change["images_total"] - running - answered,
    }


def killed(generator: Generator, capacity: float, seconds: float) -> dict[str, Any]:
    """P2: requests while the network's thread is killed again and again."""
    before = metrics(generator.port)["worker_deaths_total"]
    rate = 0.7 * capacity
    seconds = max(seconds, 10 * DEATHS / rate)
    many = round(rate * seconds)
    seen, _ = asyncio.run(generator.open(rate, seconds, every=-(-many // DEATHS)))
    deaths = metrics(generator.port)["worker_deaths_total"] - before
    return {
        "requests": many,
        "deaths": deaths,
        "answered": dict(sorted(seen.statuses.items())),
        "wrong": seen.wrong,
        "lost": seen.broken,
    }


def generate(port: int, folder: Path, size: int, seconds: float) -> dict[str, Any]:
    """Everything, from the side of who asks."""
    generator = Generator(port, folder, size)
    asyncio.run(generator.closed(WAITING // 2, 3.0))  # warm
    capacity = asyncio.run(generator.closed(WAITING // 2, seconds))
    found: dict[str, Any] = {"capacity_per_second": round(capacity, 2)}
    found["load"] = [load(generator, factor, capacity, seconds) for factor in FACTORS]
    found["gone"] = gone(generator, capacity)
    found["killed"] = killed(generator, capacity, seconds)
    again = asyncio.run(generator.closed(WAITING // 2, seconds))
    found["capacity_per_second_at_the_end"] = round(again, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--role", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "serve":
        serve(given.folder, given.size)
        return
    if given.role == "ask":
        print(json.dumps(generate(given.port, given.folder, given.size, given.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = both(Path(folder), given.size, given.seconds)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    show(found)


def both(folder: Path, size: int, seconds: float) -> dict[str, Any]:
    """A server and a generator, each in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    options = ["--folder", str(folder), "--size", str(size), "--seconds", str(seconds)]
    command = [sys.executable, __file__, *options]
    said = (folder / "said.txt").open("w")
    server = subprocess.Popen(
        [*command, "--role", "serve"],
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
        env=environment,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().rstrip("/\n").rsplit(":", 1)[1]
        asked = [*command, "--role", "ask", "--port", port]
        done = subprocess.run(asked, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        begin = time.monotonic()
        server.terminate()
        found["end"] = {"status": server.wait(60), "seconds": round(time.monotonic() - begin, 2)}
    finally:
        server.kill()
        said.close()
    about = {"machine": platform.machine(), "cores": os.cpu_count(), "network": "unet 16 x 3"}
    return {"image": [size, size], "seconds": seconds, "waiting": WAITING, **about, **found}


def show(found: dict[str, Any]) -> None:
    print(f"capacity {found['capacity_per_second']} labels a second")
    for one in found["load"]:
        print(json.dumps(one))
    for name in ("gone", "killed", "end"):
        print(name, json.dumps(found[name]))


if __name__ == "__main__":
    main()
