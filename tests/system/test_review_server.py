"""H2, H3, S4: the review as a process: what it said it kept is there when it is started again."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from labelmend import cli

from ..command import command
from ..conftest import Trained

TOKEN = "token-of-a-system-test"


class Review:
    """A server of a run, and a page that talks to it."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.start()

    def start(self) -> None:
        """A process of its own; forked, for importing torch anew takes long."""
        (out, to_out), (self.err, to_err) = os.pipe(), os.pipe()
        arguments = [str(self.run), "--port", "0", "--token", TOKEN, "--device", "cpu"]
        self.process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(["review", *arguments], to_out, to_err)
        )
        self.process.start()
        os.close(to_out)
        os.close(to_err)
        with os.fdopen(out) as said:
            line = said.readline()
        found = re.fullmatch(rf"review: (http://127\.0\.0\.1:(\d+))/#token={TOKEN}\n", line)
        assert found, (line, os.read(self.err, 10_000))
        self.url, self.port = found[1], int(found[2])
        self.client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
        )

    def end(self, number: int) -> tuple[int | None, str]:
        """The status, and what it said on standard error."""
        self.client.close()
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        self.process.join(30)
        with os.fdopen(self.err) as said:
            return self.process.exitcode, said.read()

    def get(self, path: str) -> Any:
        answer = self.client.get(f"/api/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, number: int, name: str, op: Any, version: int) -> httpx.Response:
        content, headers = _event(name, op), {"If-Match": f'"{version}"'}
        return self.client.post(f"/api/cases/{number}/events", content=content, headers=headers)

    def drop(self, number: int, name: str, op: Any, version: int, share: float) -> None:
        """Send an event, or part of it, and leave without having read the answer."""
        body = _event(name, op)
        head = (
            f"POST /api/cases/{number}/events HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f'Authorization: Bearer {TOKEN}\r\nIf-Match: "{version}"\r\n'
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        whole = head.encode() + body
        with closing(socket.create_connection(("127.0.0.1", self.port))) as connection:
            connection.sendall(whole[: round(share * len(whole))])

    def state(self) -> list[Any]:
        """All that a person sees of all cases."""
        shown: list[Any] = [self.get("cases")]
        for case in shown[0]["cases"]:
            shown.append(self.get(f"cases/{case['number']}"))
            label = self.client.get(f"/api/cases/{case['number']}/label?which=current")
            shown.append((label.headers["ETag"], label.headers["X-Shape"], label.content))
        return shown


def _serve(arguments: list[str], out: int, err: int) -> None:
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    status = cli.run(arguments)
    sys.stdout.flush()
    os._exit(status)


def _event(name: str, op: Any) -> bytes:
    return json.dumps({"id": f"stroke-{name:0>4}", "op": op}).encode()


def dot(place: int) -> dict[str, Any]:
    row, column = divmod(place, 24)
    return {"kind": "brush", "class": place % 2, "radius": 1.5, "points": [[row % 20, column]]}


@pytest.fixture(scope="module")
def review(
    trained: Callable[[str], Trained], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Review]:
    run = tmp_path_factory.mktemp("review") / "run"
    shutil.copytree(trained("gray").run, run)
    one = Review(run)
    yield one
    one.process.kill()
    one.process.join()


def test_the_page_and_its_files_come_without_a_token_and_nothing_else_does(review: Review) -> None:
    page = httpx.get(review.url)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for name in re.findall(r'(?:src|href)="/?(static/[^"]+)"', page.text):
        assert httpx.get(f"{review.url}/{name}").status_code == 200, name
    assert httpx.get(f"{review.url}/api/session").status_code == 401
    assert httpx.get(review.url, headers={"Host": "evil.example"}).status_code == 403
    elsewhere = {"Origin": "http://evil.example", "Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{review.url}/api/session", headers=elsewhere).status_code == 403


def test_the_order_is_that_of_the_audit(review: Review) -> None:
    kept = json.loads((review.run / "audit" / "audit.json").read_text())
    listed = review.get("cases")["cases"]
    assert [case["label"] for case in listed] == [one["label"] for one in kept["labels"]]
    assert review.get("session")["total"] == len(listed)
    for what in ("prediction", "moved", "original", "current"):
        answer = review.client.get(f"/api/cases/0/label?which={what}")
        assert len(answer.content) == np.prod([*map(int, answer.headers["X-Shape"].split(","))])
    assert review.client.get("/api/cases/0/thumbnail").content.startswith(b"\x89PNG")


def test_events_whose_answers_were_lost_are_kept_once(review: Review) -> None:
    number, strokes = 2, 20
    for place in range(strokes):
        share = (0.3, 0.9, 1.0, 1.0)[place % 4]
        review.drop(number, f"a{place}", dot(7 * place), place, share)
        answer = review.post(number, f"a{place}", dot(7 * place), place)
        assert answer.status_code == 200, answer.text
        assert answer.json()["version"] == place + 1
    entry = review.get(f"cases/{number}")
    assert entry["version"] == strokes
    assert [told["kind"] for told in entry["history"]] == ["brush"] * strokes


def test_of_many_who_draw_at_once_nobody_overwrites_another(review: Review) -> None:
    number, people, each = 3, 4, 8
    kept: list[int] = []

    def draw(person: int) -> None:
        version = 0
        for stroke in range(each):
            while True:
                answer = review.post(number, f"b{person}{stroke}", dot(31 * person), version)
                if answer.status_code == 200:
                    version = answer.json()["version"]
                    kept.append(version)
                    break
                assert answer.status_code == 412
                version = answer.json()["case"]["version"]

    threads = [threading.Thread(target=draw, args=(person,)) for person in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept) == [*range(1, people * each + 1)]


def test_stopped_and_started_again_everything_is_as_it_was(review: Review) -> None:
    review.post(0, "c0", {"kind": "take", "what": "prediction"}, 0)
    review.post(0, "c1", {"kind": "undo"}, 1)
    review.post(1, "c2", {"kind": "verdict", "value": "rejected"}, 0)
    before = review.state()
    status, said = review.end(signal.SIGTERM)
    assert status == 143
    assert said.strip().splitlines()[-1].startswith("labelmend: stopped by SIGTERM")
    assert "Traceback" not in said
    review.start()
    assert review.state() == before
    assert review.post(0, "c1", {"kind": "undo"}, 1).json()["version"] == 2
    assert review.post(0, "c3", {"kind": "redo"}, 2).status_code == 200
    assert review.end(signal.SIGINT)[0] == 0


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--host", "0.0.0.0"], "--allow-remote"),
        (["--token", "short"], "--token wants"),
        (["--port", "-5"], "cannot listen"),
    ],
)
def test_options_that_cannot_be_used_are_answered_in_one_line(
    options: list[str], wanted: str, review: Review
) -> None:
    done = command("review", review.run, *options)
    assert done.status == 1
    assert wanted in done.err.splitlines()[-1]
    assert done.out == ""
