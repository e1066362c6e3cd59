"""The prediction computer as a process: from the command line to its end, as described."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from labelmend import cli
from labelmend.serve.network import Network

from ..command import command

Trained = Callable[[str], Any]
WAIT = 30.0


class Served:
    """``labelmend serve`` in a process of its own; forked, for importing torch anew takes long."""

    def __init__(self, run: Path, *options: str, before: Callable[[], None] = lambda: None) -> None:
        (out, to_out), (self.err, to_err) = os.pipe(), os.pipe()
        arguments = ["serve", str(run), "--port", "0", "--device", "cpu", *options]
        self.process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(arguments, to_out, to_err, before)
        )
        self.process.start()
        os.close(to_out)
        os.close(to_err)
        with os.fdopen(out) as said:
            self.line = said.readline()
        found = re.fullmatch(r"serve: (http://[^/]+)/(?:#token=(\S+))?\n", self.line)
        assert found, (self.line, os.read(self.err, 10_000))
        self.url, self.token = found[1], found[2]

    def post(self, image: Path, **query: str) -> httpx.Response:
        address = f"{self.url}/v1/predict"
        asked = {"name": image.name, **query}
        return httpx.post(address, params=asked, content=image.read_bytes(), timeout=WAIT)

    def end(self, *signals: int) -> tuple[int | None, str]:
        """The exit status, and what it said on standard error."""
        assert self.process.pid is not None
        for number in signals:
            if self.process.is_alive():
                os.kill(self.process.pid, number)
                time.sleep(0.3)
        self.process.join(WAIT)
        said = os.read(self.err, 100_000).decode()
        os.close(self.err)
        return self.process.exitcode, said


def _serve(arguments: list[str], to_out: int, to_err: int, before: Callable[[], None]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(to_out, 1)
    os.dup2(to_err, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)
    before()
    status = cli.run(arguments)
    sys.stdout.flush()
    os._exit(status)


def image_of(run: Any) -> Path:
    return sorted((run.data / "images").iterdir())[1]


@pytest.fixture(scope="module")
def served(trained: Trained) -> Iterator[Served]:
    one = Served(trained("gray").run)
    yield one
    one.end(signal.SIGKILL)


def test_a_label_from_the_command_line_to_the_answer(
    served: Served, trained: Trained, tmp_path: Path
) -> None:
    run = trained("gray")
    image = image_of(run)
    said = command("predict", run.run, image, "--out", tmp_path / "here")
    assert said.status == 0, said.err
    answer = served.post(image)
    assert (answer.status_code, served.token) == (200, None)
    assert answer.content == (tmp_path / "here" / image.name).read_bytes()
    words = ("predict", "--server", f"{served.url}/", image, "--out", tmp_path / "there")
    said = command(*words, "--conclusions", "--smallest", "2")
    assert said.status == 0, said.err
    assert said.out.startswith(f"1 label written to {tmp_path / 'there'}\n")
    assert (tmp_path / "there" / image.name).read_bytes() == answer.content
    assert (tmp_path / "there/conclusions/objects.csv").read_text().count("\n") > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--server wants --out"),
        (["--out", "x", "--overlays"], "--overlays is decided where the server runs"),
        (["--out", "x", "--device", "cpu"], "--device is decided"),
        (["--out", "x", "--resume"], "--resume is decided"),
        (["--out", "x", "--smallest", "3"], "go with --conclusions"),
    ],
)
def test_what_a_server_does_not_do_is_said(options: list[str], words: str, served: Served) -> None:
    said = command("predict", "--server", served.url, "a.png", *options)
    assert (said.status, said.out) == (1, "")
    assert words in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--allow-remote"),
        (["--token", "short"], "at least 16"),
        (["--waiting", "0"], "--waiting is at least 1"),
        (["--batch", "0"], "--batch is at least 1"),
        (["--patience", "-1"], "--patience is a number above 0"),
        (["--largest", "inf"], "--largest is a number above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: list[str], words: str, trained: Trained
) -> None:
    said = command("serve", trained("gray").run, *options)
    assert said.status == 1
    assert words in said.err and said.err.count("\n") == 1


def test_other_machines_need_the_token(trained: Trained) -> None:
    run = trained("gray")
    one = Served(run.run, "--host", "0.0.0.0", "--allow-remote")
    port = one.url.rsplit(":", 1)[1]
    near = f"http://127.0.0.1:{port}/v1/model"
    assert len(one.token) == 43
    assert httpx.get(near).status_code == 401
    bearer = {"Authorization": f"Bearer {one.token}"}
    assert httpx.get(near, headers=bearer).status_code == 200
    status, said = one.end(signal.SIGINT)
    assert status == 0
    assert said.startswith("warning: ") and "nothing on the way is encrypted" in said


# --- the end --------------------------------------------------------------------------------------


def slow_network(seconds: float) -> Callable[[], None]:
    """Makes every prediction take so long, in the process that is to serve."""

    def change() -> None:
        usual = Network.__call__

        def slowly(self: Network, images: Any, flips: bool) -> Any:
            time.sleep(seconds)
            return usual(self, images, flips)

        Network.__call__ = slowly  # type: ignore[method-assign]

    return change


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_waits_and_ends_well(number: int, trained: Trained) -> None:
    run = trained("gray")
    one = Served(run.run, before=slow_network(0.3))
    found: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda: found.append(one.post(image_of(run)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + WAIT
    while "labelmend_waiting 4" not in httpx.get(f"{one.url}/metrics").text:
        assert time.monotonic() < end
    assert one.end(number) == (0, "")
    for thread in threads:
        thread.join(WAIT)
    assert [answer.status_code for answer in found] == [200] * 4


def test_a_second_signal_ends_it_at_once(trained: Trained) -> None:
    run = trained("gray")
    one = Served(run.run, before=slow_network(1000))
    with pytest.raises(httpx.TimeoutException):
        httpx.post(
            f"{one.url}/v1/predict?name=a.png", content=image_of(run).read_bytes(), timeout=0.5
        )

    def ask() -> None:
        with pytest.raises(httpx.HTTPError):
            one.post(image_of(run))

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(0.3)
    assert one.end(signal.SIGTERM, signal.SIGINT)[0] == 130
    waiting.join(WAIT)


# --- its own description --------------------------------------------------------------------------


def test_it_does_what_its_description_says(served: Served) -> None:
    """A few of the requests that the description allows, and some that it does not."""
    assert check_by_description(served.url, 10) >= 50


@pytest.mark.soak
def test_it_does_what_its_description_says_for_long(served: Served) -> None:
    assert check_by_description(served.url, 2000) >= 1000


def check_by_description(url: str, examples: int) -> int:
    """How many requests schemathesis made; every answer passed every check but one.

    The body is any bytes by its description, and only some of them are an image; so what the
    description allows may be refused. Everything else holds: statuses, types and schemas of
    answers as described, methods that are not there, and what is not allowed is refused.
    """
    made = 0
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            try:
                strategy = operation.as_strategy(generation_mode=mode)

                @settings(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                )
                @for_all(case=strategy)
                def ask(case: Any) -> None:
                    nonlocal made
                    case.call_and_validate(excluded_checks=[positive_data_acceptance], timeout=WAIT)
                    made += 1

                ask()
            except hypothesis.errors.Unsatisfiable:  # nothing can be wrong with it
                assert mode is GenerationMode.NEGATIVE
    return made


def test_the_description_is_json(served: Served) -> None:
    told = json.loads(httpx.get(f"{served.url}/openapi.json").text)
    assert told["openapi"].startswith("3.")
    assert set(told["paths"]) >= {"/v1/predict", "/v1/model", "/health", "/ready", "/metrics"}
