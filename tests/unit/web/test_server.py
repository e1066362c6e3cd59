"""The server listens where it may, says where, and ends when it is told to."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from labelmend.errors import SettingsError
from labelmend.web import server
from labelmend.web.server import (
    Place,
    _last_port,
    bind,
    check_host_option,
    is_loopback,
    make_token,
    names_of,
)

SRC = Path(__file__).resolve().parents[3] / "src"
TOKEN = "a-token-that-is-long"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}

CODE = """
import sys, time
from fastapi import FastAPI, Request
from labelmend.web.guard import Guard
from labelmend.web.server import Ending, Place, serve

app = FastAPI()

@app.post("/api/size")
async def size(request: Request) -> int:
    return len(await request.body())

@app.get("/api/forever")
def forever() -> int:
    time.sleep(100)

@app.get("/api/scheme")
def scheme(request: Request) -> str:
    return f"{request.url.scheme} {request.client.host}"

options = eval(sys.argv[1])
asked = []

def finished() -> bool:
    asked.append(time.monotonic())
    return asked[-1] - asked[0] >= options.get("takes", 0)

guarded = Guard(app, TOKEN, limit=100_000)
place = Place(8765, options.get("host", "127.0.0.1"), 0, options.get("allow_remote", False))
ended = serve(
    guarded, place, name="made", token=options.get("token", TOKEN), warning="sees all",
    ending=Ending(finished, options.get("patience", 5)),
)
print(f"ended by {ended}", flush=True)
""".replace("TOKEN", repr(TOKEN))


@dataclass
class Served:
    process: subprocess.Popen[str]
    url: str
    line: str
    out: str = ""

    def end(self, number: int, within: float = 20) -> tuple[int, str]:
        """Status and standard error after a signal."""
        self.process.send_signal(number)
        self.out, err = self.process.communicate(timeout=within)
        return self.process.returncode, err


def start(**options: object) -> Served:
    environment = {**os.environ, "PYTHONPATH": str(SRC), "COVERAGE_PROCESS_START": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, repr(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"made: (http://\S+:\d+)/(?:#token=\S+)?\n", line)
    if found is None:
        process.kill()
        raise AssertionError((line, process.communicate()))
    return Served(process, found[1], line)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    one = start()
    yield one
    one.process.kill()
    one.process.communicate()


def raw(url: str, request: bytes, *, whole: bool = True) -> bytes:
    """What a server answers to bytes, until it closes the connection or has begun to answer."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    with closing(socket.create_connection((host, int(port)), timeout=20)) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
            if b"\r\n\r\n" in answer and not whole:
                break
        return answer


def posted(url: str, body: bytes, length: str) -> bytes:
    head = (
        f"POST /api/size HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\n{length}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    )
    return raw(url, head.encode() + body)


# --- addresses and tokens -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_only_this_machine_is_served_unless_others_are_let_in(host: str, own: bool) -> None:
    assert is_loopback(host) is own
    check_host_option(host, allow_remote=True, port=8000)
    if own:
        check_host_option(host, allow_remote=False, port=8000)
        return
    with pytest.raises(SettingsError, match="ssh -L 8000:.*--allow-remote"):
        check_host_option(host, allow_remote=False, port=8000)


def test_names_of_a_server() -> None:
    assert names_of("localhost") == ()
    assert names_of("Lab7") == ("lab7",)
    assert names_of("0.0.0.0") == (socket.gethostname().lower(),)


def test_tokens_are_random_or_long() -> None:
    assert len({make_token() for _ in range(50)}) == 50
    assert all(len(make_token()) >= 43 for _ in range(50))
    assert make_token("x" * 16) == "x" * 16
    for bad in ("", "x" * 15, "x" * 20 + " ", "x" * 20 + "é", "x" * 20 + "#", "x" * 20 + "\n"):
        with pytest.raises(SettingsError, match="--token"):
            make_token(bad)


def test_the_next_free_port_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with closing(bind(Place(port))) as found:
            assert found.getsockname()[1] != port
        with pytest.raises(SettingsError, match=f"port {port}"):
            bind(Place(1, port=port))
        monkeypatch.setattr(server, "TRIED", 1)
        with closing(bind(Place(port))) as found:
            assert found.getsockname()[1] != port


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("203.0.113.9", 0), ("no such", 0)]
)
def test_what_cannot_be_listened_at_is_said(host: str, port: int) -> None:
    with pytest.raises(SettingsError, match="cannot listen"):
        bind(Place(8765, host, port))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_are_sent_at_once(host: str) -> None:
    """asyncio switches Nagle's algorithm off only where the socket names its protocol."""
    with closing(bind(Place(8765, host, 0))) as found:
        assert found.proto == socket.IPPROTO_TCP


# --- a server -------------------------------------------------------------------------------------


def test_the_address_is_printed_when_it_answers(served: Served) -> None:
    assert served.line == f"made: {served.url}/#token={TOKEN}\n"
    assert served.url.startswith("http://127.0.0.1:")
    answer = httpx.post(f"{served.url}/api/size", content=b"abc", headers=HEADERS)
    assert (answer.status_code, answer.json()) == (200, 3)
    assert "server" not in answer.headers
    assert httpx.post(f"{served.url}/api/size").status_code == 401
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "9.9.9.9"}
    answer = httpx.get(f"{served.url}/api/scheme", headers={**HEADERS, **forwarded})
    assert answer.json() == "http 127.0.0.1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(number: int) -> None:
    one = start()
    httpx.post(f"{one.url}/api/size", headers=HEADERS)
    assert one.end(number) == (0, "")
    assert one.out == f"ended by {int(number)}\n"


def test_what_was_begun_is_finished_first() -> None:
    """New requests reach it for as long as it says that it is not done."""
    one = start(takes=1.5)
    httpx.post(f"{one.url}/api/size", headers=HEADERS)
    one.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert httpx.post(f"{one.url}/api/size", headers=HEADERS).status_code == 200
    assert one.process.wait(20) == 0
    one.process.communicate()


def test_a_second_signal_ends_it_at_once() -> None:
    one = start(takes=1000, patience=1000)
    httpx.post(f"{one.url}/api/size", headers=HEADERS)
    one.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert one.process.poll() is None
    assert one.end(signal.SIGINT)[0] == 130


def test_nothing_that_is_still_computed_keeps_it() -> None:
    both = {number: start() for number in (signal.SIGINT, signal.SIGTERM)}
    for number, one in both.items():
        host, port = one.url.removeprefix("http://").rsplit(":", 1)
        with closing(socket.create_connection((host, int(port)))) as waiting:
            head = f"GET /api/forever HTTP/1.1\r\nHost: {host}:{port}\r\n"
            waiting.sendall(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
            time.sleep(0.5)
        one.process.send_signal(number)
    ended = [one.process.wait(40) for one in both.values()]
    assert ended == [0, 143]
    for one in both.values():
        one.process.communicate()


def test_without_a_token_the_address_says_none() -> None:
    one = start(token=None)
    assert one.line == f"made: {one.url}/\n"
    one.end(signal.SIGINT)


@pytest.mark.parametrize("more", [-1, 0, 1, 100_000])
def test_bodies_at_the_limit_are_answered_however_they_are_sent(served: Served, more: int) -> None:
    body = b"x" * (100_000 + more)
    whole = posted(served.url, body, f"Content-Length: {len(body)}")
    pieces = b"".join(
        b"%x\r\n%s\r\n" % (len(body[a : a + 4096]), body[a : a + 4096])
        for a in range(0, len(body), 4096)
    )
    chunked = posted(served.url, pieces + b"0\r\n\r\n", "Transfer-Encoding: chunked")
    for answer in (whole, chunked):
        assert answer.startswith(b"HTTP/1.1 413" if more > 0 else b"HTTP/1.1 200"), answer[:300]
        assert answer.endswith(b"}" if more > 0 else b"%d" % len(body))


@pytest.mark.parametrize(
    "request_line",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_request_for_it_gets_a_4xx(served: Served, request_line: bytes) -> None:
    assert re.match(rb"HTTP/1\.1 4\d\d ", raw(served.url, request_line, whole=False))
    assert httpx.post(f"{served.url}/api/size", headers=HEADERS).status_code == 200


def test_other_machines_are_warned_of(served: Served) -> None:
    one = start(host="0.0.0.0", allow_remote=True)
    port = one.url.rsplit(":", 1)[1]
    for name, status in (("127.0.0.1", 200), ("evil.example", 403)):
        headers = {**HEADERS, "Host": f"{name}:{port}"}
        answer = httpx.post(f"http://127.0.0.1:{port}/api/size", headers=headers)
        assert answer.status_code == status
    _, said = one.end(signal.SIGINT)
    assert said.startswith("warning: ")
    assert "sees all, and nothing on the way is encrypted" in said


def test_the_port_of_the_last_time_is_taken_again(tmp_path: Path) -> None:
    """A browser keeps what it has not sent yet by address and port."""
    file = tmp_path / "port"
    with bind(Place(8765, port=0)) as taken:
        free = taken.getsockname()[1]
    file.write_text(f"{free}\n")
    assert _last_port(file) == free
    with bind(Place(8765), before=free) as again:
        assert again.getsockname()[1] == free
        with bind(Place(8765), before=free) as other:  # it is in use: another one
            assert other.getsockname()[1] != free
    for text in ("", "x", "0", "70000", "-1"):
        file.write_text(text)
        assert _last_port(file) is None
    assert _last_port(None) is None and _last_port(tmp_path / "none") is None
