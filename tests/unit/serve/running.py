"""A prediction computer in a thread of this process, whose network a test holds in its hand."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from PIL import Image

from labelmend.inference.predictor import Predictor
from labelmend.serve.app import make_app
from labelmend.serve.service import Limits, Service
from labelmend.types import Raster
from labelmend.web.server import Ending, Place, _Server, _settings, bind

WAIT = 30.0


class Threshold:
    """Class 1 where the first channel is above 100; waits when it is told to; can be broken."""

    def __init__(self, predictor: Predictor) -> None:
        self.classes = len(predictor.spec.classes)
        self.seen: list[Raster] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.slow = 0.0
        self.breaks: Callable[[Raster], None] = lambda _: None

    def __call__(self, images: Sequence[Raster], flips: bool) -> list[Any]:
        self.seen += images
        assert self.may_go.wait(WAIT)
        time.sleep(self.slow)
        found: list[Any] = []
        for image in images:
            self.breaks(image)
            bright = image.array[0] > 100
            scores = np.zeros((self.classes, *bright.shape), np.float32)
            scores[0], scores[1] = ~bright, bright
            found.append(scores)
        return found


@dataclass
class Running:
    """A server that answers at an address."""

    url: str
    service: Service
    network: Threshold
    server: Any
    client: httpx.Client

    @property
    def places(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def ask(self, content: bytes, **query: Any) -> httpx.Response:
        """Post a picture."""
        asked = {"name": "a.png", **query}
        return self.client.post("/v1/predict", params=asked, content=content)

    def until(self, what: Callable[[], object]) -> None:
        """Wait for something to become true."""
        end = time.monotonic() + WAIT
        while not what():
            assert time.monotonic() < end
            time.sleep(0.002)


def png(bright: int = 3, size: tuple[int, int] = (9, 12)) -> bytes:
    """A grey picture whose first ``bright`` positions are bright."""
    flat = np.zeros(size, np.uint8)
    flat.flat[:bright] = 200
    stream = io.BytesIO()
    Image.fromarray(flat).save(stream, "PNG")
    return stream.getvalue()


def bright_in(content: bytes) -> int:
    """How many positions of a label are not background."""
    return int((np.asarray(Image.open(io.BytesIO(content))) > 0).sum())


@contextmanager
def running(
    predictor: Predictor,
    limits: Limits | None = None,
    *,
    token: str | None = None,
    real: bool = False,
    patience: float = 30.0,
) -> Iterator[Running]:
    """Serve until the end of the block; ``real``: with the run's own network."""
    network = Threshold(predictor)
    service = Service(predictor, limits, predict=None if real else network)
    app = make_app(service, token, patience=patience)
    ready = threading.Event()
    server = _Server(_settings(app), ready.set, Ending(service.finished))
    with closing(bind(Place(8766, port=0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
        )
        thread.start()
        assert ready.wait(WAIT)
        client = httpx.Client(base_url=url, timeout=WAIT)
        try:
            yield Running(url, service, network, server, client)
        finally:
            network.may_go.set()
            server.should_exit = True
            thread.join(WAIT)
            service.close()
            client.close()
