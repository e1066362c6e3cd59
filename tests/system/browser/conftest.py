"""One browser and a few servers for all tests of the review page; a page that watches itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest

TOKEN = "0123456789abcdef-of-the-page"
SCRIPT = Path(__file__).with_name("made_review.py")
MANY = {"cells": 70, "volume": 6, "recording": 8, "heights": 3}
"""Weak labels of every kind."""
PATIENCE = 120.0
"""Seconds that a server may take to start."""
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Process:
    """Serves reviews, until it is killed; it can be started again."""

    folder: Path
    wanted: dict[str, int]
    ports: dict[str, int] = field(init=False)
    running: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.ports = {kind: free_port() for kind in self.wanted}

    def start(self) -> None:
        """Begin; returns before it answers."""
        reviews = [f"{kind}:{self.ports[kind]}:{many}" for kind, many in self.wanted.items()]
        with (self.folder / "said.txt").open("ab") as said:
            command = [sys.executable, str(SCRIPT), str(self.folder), *reviews]
            self.running = subprocess.Popen(command, stdout=said, stderr=said)

    def said(self) -> str:
        """What it printed."""
        return (self.folder / "said.txt").read_text()

    def kill(self) -> None:
        """End it as a power failure would."""
        if self.running is not None:
            self.running.send_signal(signal.SIGKILL)
            self.running.wait()

    def find(self, kind: str) -> Review:
        """A review, once it answers."""
        review = Review(f"http://127.0.0.1:{self.ports[kind]}")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(review.address, timeout=5).close()
            except (URLError, OSError):
                assert self.running is not None and self.running.poll() is None, self.said()
                time.sleep(0.05)
            else:
                return review
        raise AssertionError(f"the server did not start: {self.said()}")


@dataclass(frozen=True)
class Review:
    """A review that somebody serves, at an address without the token."""

    address: str

    def ask(self, path: str) -> tuple[bytes, dict[str, str]]:
        """What the server answers to a request that no page made."""
        about = {"Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(self.address + path, headers=about)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read(), {name.lower(): value for name, value in answer.headers.items()}

    def case(self, number: int) -> dict[str, Any]:
        """What is known of a case."""
        return json.loads(self.ask(f"/api/cases/{number}")[0])

    def label(self, number: int, query: str = "which=current") -> np.ndarray:
        """A label of a case: uint8, 255 where unknown."""
        content, headers = self.ask(f"/api/cases/{number}/label?{query}")
        shape = [int(n) for n in headers["x-shape"].split(",")]
        return np.frombuffer(content, np.uint8).reshape(shape)


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Review]]:
    """Reviews of every kind of data, all in one process; tests that draw use :func:`fresh`."""
    process = Process(tmp_path_factory.mktemp("reviews"), MANY)
    process.start()
    yield process.find
    process.kill()


@pytest.fixture(scope="session")
def numbers() -> dict[str, Iterator[int]]:
    """Cases that no test has had yet, of each kind."""
    return {kind: iter(range(many)) for kind, many in MANY.items()}


@pytest.fixture
def fresh(
    reviews: Callable[[str], Review], numbers: dict[str, Iterator[int]]
) -> Callable[[str], tuple[Review, int]]:
    """A review and a weak label in it that nobody has touched."""
    return lambda kind: (reviews(kind), next(numbers[kind]))


@pytest.fixture
def own_process(tmp_path: Path) -> Iterator[Process]:
    """For one test alone, which may kill it."""
    process = Process(tmp_path, {"cells": 3})
    process.start()
    yield process
    process.kill()


def find_browser() -> str:
    """Where a browser is; without one the test is skipped, but not where everything must run."""
    given = os.environ.get("CHROMIUM")
    found = given or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = "no Chromium is installed; install chromium or name one in the variable CHROMIUM"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")  # while it is open, nobody else in the process can use asyncio.run
def browser() -> Iterator[object]:
    """One Chromium without a window."""
    path = find_browser()
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as play:
        running = play.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield running
        running.close()


QUIET = ("Failed to load resource", "Canvas2D: Multiple readback")
"""What the browser itself says of answers that a test wanted to fail, and of our looking."""


@dataclass
class Watched:
    """Pages of one person, and what must never happen on any of them."""

    context: object
    problems: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def open(self, review: Review, number: int | None = None, token: str = TOKEN) -> object:
        """A page on the gallery, or on a case."""
        page = self.context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._see(request.url))
        self.hosts.add(review.address.partition("://")[2])
        page.goto(f"{review.address}/#token={token}")
        if number is not None:
            page.wait_for_selector("a.card")
            page.evaluate(f"location.hash = 'case={number}'")
            page.wait_for_selector(f'.case[data-number="{number}"]')
            wait_shown(page)
        return page

    def _hear(self, message: object) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(QUIET):
            self.problems.append(message.text)

    def _see(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        if scheme in ("blob", "data") or url.startswith(("blob:", "data:")):
            return
        if rest.split("/")[0] not in self.hosts:
            self.problems.append(f"asked elsewhere: {url}")


def wait_shown(page: object) -> None:
    """Until the label, the prediction and the moved label of the case are there."""
    page.wait_for_selector(".panel .layer-moved:not(.missing)")


def hold_until_tried(page: object) -> None:
    """Nothing done reaches the server before somebody presses "Try now".

    Were the server reachable a moment earlier, a try that the page makes of its own could come
    first, and take the button away under the pointer.
    """
    page.evaluate("""() => {
      const real = window.fetch;
      let tried = false;
      addEventListener("click", (event) => {
        tried ||= event.target.textContent === "Try now";
      }, true);
      window.fetch = (path, ...rest) => (tried || !String(path).endsWith("/events")
        ? real(path, ...rest) : Promise.reject(new TypeError("held")));
    }""")


@pytest.fixture
def person(browser: object) -> Iterator[Watched]:
    """A person with a browser profile of their own; the end of the test looks for problems."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    watched = Watched(context)
    yield watched
    context.close()
    assert watched.problems == []
