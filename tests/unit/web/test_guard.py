"""S4, P4: who is let through to a local server, and how large and slow a body may be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import pytest
from fastapi import HTTPException

from labelmend.web.guard import BODY_LIMIT, READ_ON, STRICT, Guard

TOKEN = "t" * 20
HOST = (b"host", b"127.0.0.1:8765")
BEARER = (b"authorization", b"Bearer " + TOKEN.encode())
T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result; in a thread of its own, for a browser's loop may be going on in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def detail(self) -> str:
        return json.loads(self.body)["detail"]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with how many bytes came, and a header that no answer may have."""
    body = (await receive())["body"]
    headers = [(b"access-control-allow-origin", b"*"), (b"x-frame-options", b"ALLOWALL")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"%d" % len(body)})


def ask(
    headers: Iterable[tuple[bytes, bytes]] = (HOST, BEARER),
    parts: Iterable[bytes] = (b"",),
    path: str = "/api/x",
    server: tuple[str, int] | None = ("127.0.0.1", 8765),
    app: Any = echo,
    wait: float = 0.0,
    **options: Any,
) -> Got:
    """Send one request whose body comes in parts; what came back."""
    coming = [*parts]
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(wait)
        if not coming:
            return {"type": "http.disconnect"}
        part = coming.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(coming)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [*headers]}
    scope |= {"server": server, "scheme": "http"}
    token = options.pop("token", TOKEN)
    run(Guard(app, token, **options)(scope, receive, send))
    start, *rest = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Got(start["status"], found, b"".join(message["body"] for message in rest))


# --- hosts and origins ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost:8765", 200),
        ("LocalHost:8765", 200),
        ("[::1]:8765", 200),
        ("127.0.0.1:8766", 403),
        ("127.0.0.1", 403),
        ("127.0.0.1:08765", 403),
        ("127.0.0.1:", 403),
        ("127.1:8765", 403),
        ("localhost.:8765", 403),
        ("evil.example:8765", 403),
        ("127.0.0.1.evil.example:8765", 403),
        ("x@127.0.0.1:8765", 403),
        ("127.0.0.1:8765@evil.example", 403),
        ("127.0.0.1:8765/", 403),
        ("127.0.0.1:8765#x", 403),
        ("127.0.0.1 :8765", 403),
        ("127.0.0.1:8765,evil.example", 403),
        ("[::1:8765", 403),
        ("192.168.1.5:8765", 403),
        ("", 403),
        ("\xff:8765", 403),
    ],
)
def test_only_its_own_names_are_answered(host: str, status: int) -> None:
    assert ask([(b"host", host.encode("latin-1")), BEARER]).status == status


def test_a_request_that_names_no_host_or_two_is_refused() -> None:
    assert ask([BEARER]).status == 403
    assert ask([HOST, HOST, BEARER]).status == 400


def test_the_usual_port_need_not_be_said() -> None:
    assert ask([(b"host", b"localhost"), BEARER], server=("127.0.0.1", 80)).status == 200
    assert ask([(b"host", b"localhost:80"), BEARER], server=("127.0.0.1", 80)).status == 200


def test_further_names_are_allowed_one_by_one() -> None:
    named = [(b"host", b"lab.example:8765"), BEARER]
    assert ask(named).status == 403
    assert ask(named, hosts=["Lab.example"]).status == 200
    assert ask([(b"host", b"b.lab.example:8765"), BEARER], hosts=["lab.example"]).status == 403


def test_the_address_a_connection_came_in_at_is_a_name_but_only_as_a_number() -> None:
    assert ask([(b"host", b"10.0.0.7:9"), BEARER], server=("10.0.0.7", 9)).status == 200
    assert ask([(b"host", b"[fd00::7]:9"), BEARER], server=("fd00::7", 9)).status == 200
    assert ask([(b"host", b"evil.example:9"), BEARER], server=("evil.example", 9)).status == 403
    assert ask([HOST, BEARER], server=None).status == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8765", 200),
        ("HTTP://127.0.0.1:8765", 200),
        ("http://localhost:8765", 403),
        ("https://127.0.0.1:8765", 403),
        ("http://127.0.0.1:3000", 403),
        ("http://127.0.0.1", 403),
        ("http://evil.example", 403),
        ("http://127.0.0.1:8765/", 403),
        ("http://127.0.0.1:8765.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/static/a.js", "/api/x"])
def test_other_pages_are_refused_everywhere(origin: str, status: int, path: str) -> None:
    headers = [HOST, BEARER, (b"origin", origin.encode())]
    assert ask(headers, path=path).status == status


@pytest.mark.parametrize(
    ("site", "page", "api"),
    [
        ("same-origin", 200, 200),
        ("none", 200, 200),
        ("cross-site", 200, 403),
        ("same-site", 200, 403),
    ],
)
def test_links_lead_to_the_page_but_not_to_the_data(site: str, page: int, api: int) -> None:
    headers = [HOST, BEARER, (b"sec-fetch-site", site.encode())]
    assert (ask(headers, path="/").status, ask(headers).status) == (page, api)


# --- the token ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer \xff",
    ],
)
def test_without_the_token_there_is_only_the_page(given: str | None) -> None:
    brought = [] if given is None else [(b"authorization", given.encode("latin-1"))]
    got = ask([HOST, *brought])
    assert (got.status, got.headers["www-authenticate"]) == (401, "Bearer")
    assert "token" in got.detail
    assert ask([HOST, *brought], path="/api").status == 401
    assert ask([HOST, *brought], path="/").status == 200
    assert ask([HOST, *brought], path="/apish").status == 200


def test_two_tokens_are_one_too_many() -> None:
    assert ask([HOST, BEARER, (b"authorization", b"Bearer other")]).status == 400


def test_the_kind_of_token_may_be_written_small() -> None:
    assert ask([HOST, (b"authorization", b"bearer " + TOKEN.encode())]).status == 200


def test_where_no_token_is_wanted_pages_of_others_are_still_refused() -> None:
    assert ask([HOST], token=None).status == 200
    assert ask([(b"host", b"evil.example:8765")], token=None).status == 403
    assert ask([HOST, (b"origin", b"http://evil.example")], token=None).status == 403
    assert ask([HOST, (b"sec-fetch-site", b"cross-site")], token=None).status == 403
    assert ask([HOST], token=None).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1", 401), ("/v1/x", 401), ("/metrics", 401), ("/api/x", 200), ("/v12", 200), ("/", 200)],
)
def test_what_is_secret_can_be_said(path: str, status: int) -> None:
    assert ask([HOST], path=path, secret=("/v1", "/metrics")).status == status


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "status"), [(0, 200), (99, 200), (100, 200), (101, 413)])
@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_may_be_as_large_as_the_limit_and_no_byte_larger(
    size: int, status: int, step: int, declared: bool
) -> None:
    parts = [b"x" * min(step, size - start) for start in range(0, size, step)] or [b""]
    length = [(b"content-length", b"%d" % size)] if declared else []
    got = ask([HOST, BEARER, *length], parts, limit=100)
    assert got.status == status
    if status == 200:
        assert got.body == b"%d" % size
    else:
        assert "100 bytes" in got.detail


def test_the_usual_limit_is_four_mebibytes() -> None:
    assert BODY_LIMIT == 4 * 1024 * 1024
    assert ask(parts=[b"x" * BODY_LIMIT]).body == b"%d" % BODY_LIMIT
    assert ask(parts=[b"x" * BODY_LIMIT, b"x"]).status == 413


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    many = 0

    async def receive() -> Any:
        nonlocal many
        many += 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "headers": [HOST], "server": ("127.0.0.1", 8765)}
    run(Guard(echo, TOKEN, limit=100)(scope, receive, send))
    assert sent[0]["status"] == 413
    assert many == READ_ON + 1
    declared = (b"content-length", b"%d" % (READ_ON * 100 + 1))
    assert ask([HOST, BEARER, declared], limit=100).status == 413


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"0x10", b"", b" ", "٣".encode(), b"9" * 5000])
def test_a_length_that_is_none_is_refused(length: bytes) -> None:
    assert ask([HOST, BEARER, (b"content-length", length)]).status in (400, 413)


def test_a_slow_body_is_not_waited_for_without_end() -> None:
    got = ask(parts=[b"x"] * 50, wait=0.02, patience=0.05)
    assert got.status == 408
    assert ask(parts=[b"x"] * 2, wait=0.001, patience=20).status == 200


def test_who_leaves_in_the_middle_gets_no_answer() -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "path": "/", "headers": [HOST], "server": ("127.0.0.1", 8765)}
    run(Guard(echo, TOKEN)(scope, receive, send))


def test_no_body_is_read_for_who_may_not_ask() -> None:
    async def never() -> Any:
        raise AssertionError("read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/api", "headers": [HOST], "server": ("127.0.0.1", 8765)}
    run(Guard(echo, TOKEN)(scope, never, send))
    assert sent[0]["status"] == 401


def test_single_paths_have_limits_of_their_own() -> None:
    large = [b"x" * 500]
    for path, status in (("/api/x", 413), ("/api/large", 200), ("/api/large/", 413)):
        assert ask(parts=large, path=path, limit=100, limits={"/api/large": 500}).status == status
    assert ask(parts=[b"x" * 501], path="/api/large", limits={"/api/large": 500}).status == 413


# --- admission ------------------------------------------------------------------------------------


class Door:
    """Lets in as many as there is room for, and remembers who was inside when."""

    def __init__(self, many: int) -> None:
        self.many = many
        self.inside = 0
        self.seen: list[int] = []

    def __call__(self, _: Any) -> Any:
        if self.inside >= self.many:
            raise HTTPException(429, "full", {"Retry-After": "7"})
        return self._held()

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


@pytest.mark.parametrize("status", [200, 413, 408, 400])
def test_a_place_is_held_until_the_answer_and_always_given_back(status: int) -> None:
    door = Door(1)

    async def look(scope: Any, receive: Any, send: Any) -> None:
        door.seen.append(door.inside)
        await echo(scope, receive, send)

    ways: dict[int, dict[str, Any]] = {
        200: {"parts": [b"x"]},
        413: {"parts": [b"x" * 11], "limit": 10},
        408: {"parts": [b"x"] * 9, "wait": 0.02, "patience": 0.05},
        400: {"headers": [HOST, BEARER, (b"content-length", b"-1")]},
    }
    assert ask(app=look, admit=door, **ways[status]).status == status
    assert (door.inside, door.seen) == (0, [1] if status == 200 else [])


def test_a_place_is_given_back_when_the_application_breaks() -> None:
    door = Door(1)

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(app=broken, admit=door)
    assert door.inside == 0


def test_who_is_not_admitted_is_told_why_and_reaches_nothing() -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("reached")

    got = ask(app=never, admit=Door(0), parts=[b"x"] * 3)
    assert (got.status, got.headers["retry-after"], got.detail) == (429, "7", "full")
    assert ask([HOST], app=never, admit=Door(0)).status == 401  # strangers do not hear even that


@pytest.mark.parametrize("expects", [False, True])
def test_the_body_of_who_is_not_admitted_is_forgotten(expects: bool) -> None:
    """Who sends it at once can read the answer; who asks before sending need not send."""
    read = 0

    async def receive() -> Any:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [HOST, (b"expect", b"100-continue")] if expects else [HOST]
    scope = {"type": "http", "path": "/", "headers": headers, "server": ("127.0.0.1", 8765)}
    run(Guard(echo, TOKEN, limit=100, admit=Door(0))(scope, receive, send))
    assert sent[0]["status"] == 429
    assert read == (0 if expects else READ_ON + 1)


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [[HOST, BEARER], [HOST], [BEARER]], ids=["200", "401", "403"])
def test_every_answer_is_strict_and_none_opens_a_door(headers: list[tuple[bytes, bytes]]) -> None:
    got = ask(headers)
    for name, value in STRICT:
        assert got.headers[name.decode()] == value.decode()
    assert "'unsafe" not in got.headers["content-security-policy"]
    assert got.headers["content-security-policy"].startswith("default-src 'self';")
    assert got.headers["cache-control"] == "no-store"
    assert not [name for name in got.headers if name.startswith("access-control")]


def test_the_page_itself_may_be_kept() -> None:
    assert "cache-control" not in ask(path="/").headers


def test_a_failure_behind_it_is_one_line_and_is_not_hidden() -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret of the house")

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "headers": [HOST], "server": ("127.0.0.1", 8765)}
    with pytest.raises(ZeroDivisionError):
        run(Guard(broken, TOKEN)(scope, receive, send))
    assert sent[0]["status"] == 500
    assert b"secret" not in sent[1]["body"]
    assert json.loads(sent[1]["body"])["detail"].endswith("ZeroDivisionError")


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    run(Guard(echo, TOKEN)({"type": "websocket", "path": "/"}, None, send))  # type: ignore
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_start_and_end_of_the_server_reach_the_application() -> None:
    reached: list[str] = []

    async def app(scope: Any, *_: Any) -> None:
        reached.append(scope["type"])

    run(Guard(app, TOKEN)({"type": "lifespan"}, None, None))  # type: ignore
    assert reached == ["lifespan"]
