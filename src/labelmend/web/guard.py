"""Who may ask a local server what: by its own name, from its own page, with its token."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Admit = Callable[[Scope], AbstractContextManager[object]]

BODY_LIMIT = 4 * 2**20
"""Most bytes of a request's body."""
READ_ON = 4
"""A body that is too large is read and forgotten up to so many limits, so that who sends it reads
the answer instead of a broken connection."""
PATIENCE = 30.0
"""Seconds that a body may take to arrive."""
LAST_WORDS = 2.0
"""Seconds for which the body of a request that was not admitted is read and forgotten."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")

STRICT: Headers = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
"""Headers of every answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """An ASGI application that lets through to another one what its owner's own page asks.

    In this order: 403 where the request is not to this server by a name of its own (which stops
    names that were made to point here), or was sent by another page; 401 under ``secret`` without
    the token; what ``admit`` refuses; 408 and 413 for bodies that are slow or too large, however
    they are sent. What fails in ``app`` itself is a 500 and raised again, for the server to report.
    Refusals are ``{"detail": one line}``. No answer ever allows another page to read it.

    Its own names are ``localhost``, ``127.0.0.1``, ``[::1]`` and the number of the address that the
    connection came in at, each with the port that it came in at; and ``hosts``.

    Args:
        app: what is guarded.
        token: what requests under ``secret`` must bring as ``Authorization: Bearer TOKEN``; None
            where nothing is wanted, for an address that only this machine reaches.
        hosts: further names by which it may be called, without a port.
        secret: what only the owner's own page may ask for: these paths and all below them.
        limit: most bytes of a body.
        limits: the same for single paths.
        patience: seconds that a body may take to arrive.
        admit: what it gives is entered before a body is read and left when the request is
            answered; refuses by raising ``HTTPException``, for example where too many wait.

    The trap: bodies are read as a whole before ``app`` sees them, ``limit`` bytes per request.
    """

    app: App
    token: str | None
    hosts: Iterable[str] = ()
    secret: tuple[str, ...] = ("/api",)
    limit: int = BODY_LIMIT
    limits: Mapping[str, int] = field(default_factory=dict)
    patience: float = PATIENCE
    admit: Admit = lambda _: nullcontext()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send, hidden=self._is_secret(scope["path"]))
        try:
            check_host(scope, self.hosts)
            check_origin(scope, api=answer.hidden)
            if answer.hidden and self.token is not None:
                check_token(scope, self.token)
            admitted = await self._admitted(scope, receive)
        except HTTPException as refusal:
            await answer.refuse(refusal)
            return
        with admitted:
            await self._answer(scope, receive, answer)

    def _is_secret(self, path: str) -> bool:
        return any(path == one or path.startswith(f"{one}/") for one in self.secret)

    async def _admitted(self, scope: Scope, receive: Receive) -> AbstractContextManager[object]:
        """What :attr:`admit` gives; who is refused may first say what they have to."""
        try:
            return self.admit(scope)
        except HTTPException:
            if _only(scope, b"expect") is None:  # who asks before sending is told at once
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORDS):
                        await _forget(receive, READ_ON * self._limit(scope))
            raise

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            body = await self._body(scope, receive)
        except HTTPException as refusal:
            await answer.refuse(refusal)
            return
        if body is not None:
            await self._pass_on(scope, _again(body, receive), answer)

    def _limit(self, scope: Scope) -> int:
        return self.limits.get(scope["path"], self.limit)

    async def _pass_on(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self.app(scope, receive, answer.send)
        except Exception as error:
            if not answer.started:
                text = f"internal error, please report it: {type(error).__name__}"
                await answer.refuse(HTTPException(500, text))
            raise

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None where who sent it left in its middle."""
        limit = self._limit(scope)
        length = _only(scope, b"content-length")
        declared = "0" if length is None else length
        if not (declared.isascii() and declared.isdigit()):
            raise HTTPException(400, "Content-Length wants a whole number")
        if len(declared) > 18 or int(declared) > READ_ON * limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(self.patience):
                return await _read(receive, limit)
        except TimeoutError:
            text = f"the body did not arrive within {self.patience:g} s; send it again"
            raise HTTPException(408, text, {"Connection": "close"}) from None


async def _read(receive: Receive, limit: int) -> bytes | None:
    parts: list[bytes] = []
    size, more = 0, True
    while more and size <= READ_ON * limit:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size, more = size + len(part), message.get("more_body", False)
        if size > limit:
            parts.clear()
        else:
            parts.append(part)
    if size > limit:
        raise _too_large(limit)
    return b"".join(parts)


async def _forget(receive: Receive, most: int) -> None:
    """Read a body and keep nothing of it: who sends it reads the answer, and no broken pipe."""
    size, more = 0, True
    while more and size <= most:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)


def _too_large(limit: int) -> HTTPException:
    text = f"the body is larger than {limit:,} bytes; send less at a time"
    return HTTPException(413, text, {"Connection": "close"})


def check_host(scope: Scope, hosts: Iterable[str] = ()) -> None:
    """Refuse a request that calls this server by a name that is not its own.

    Raises:
        HTTPException: 403.
    """
    server = scope.get("server") or ("", None)
    names = {name.lower() for name in (*LOOPBACK, *hosts)} | _number(str(server[0]))
    called = _split(f"{scope.get('scheme', 'http')}://{_only(scope, b'host') or ''}")
    if called is None or called[1] not in names or called[2] != server[1]:
        raise HTTPException(403, "this server is not called that; use the address that it printed")


def check_origin(scope: Scope, *, api: bool) -> None:
    """Refuse a request that another page sent; after :func:`check_host`.

    Browsers say who sent a request in ``Origin`` and ``Sec-Fetch-Site``, and pages cannot change
    that. Links to the page itself may stand anywhere.

    Args:
        scope: the request.
        api: whether what is asked for is more than the page itself.

    Raises:
        HTTPException: 403.
    """
    origin = _only(scope, b"origin")
    own = _split(f"{scope.get('scheme', 'http')}://{_only(scope, b'host') or ''}")
    if origin is not None and (own is None or _split(origin) != own):
        raise HTTPException(403, "requests from other pages are refused")
    if api and _only(scope, b"sec-fetch-site") not in (None, "same-origin", "none"):
        raise HTTPException(403, "requests from other pages are refused")


def check_token(scope: Scope, token: str) -> None:
    """Refuse a request without the token; it takes equally long however much of it is right.

    Raises:
        HTTPException: 401.
    """
    kind, _, given = (_only(scope, b"authorization") or "").partition(" ")
    right = secrets.compare_digest(given.encode("latin-1"), token.encode())
    if kind.lower() != "bearer" or not right:
        text = "a token is wanted; open the address that the server printed, with all after its #"
        raise HTTPException(401, text, {"WWW-Authenticate": "Bearer"})


def _only(scope: Scope, name: bytes) -> str | None:
    """The value of a header that may be there once; None where it is not there."""
    found = [value for key, value in scope["headers"] if key.lower() == name]
    if len(found) > 1:
        raise HTTPException(400, f"the header {name.decode()} is there {len(found)} times")
    return found[0].decode("latin-1") if found else None


def _split(address: str) -> tuple[str, str, int | None] | None:
    """Scheme, name and port of an address that has nothing else; None for anything else."""
    try:
        parts = urlsplit(address)
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not name or address.lower() != f"{parts.scheme}://{parts.netloc.lower()}":
        return None
    shown = f"[{name}]" if ":" in name else name
    if parts.netloc.lower() not in (shown, f"{shown}:{port}"):
        return None
    return parts.scheme, name, port if port is not None else _usual(parts.scheme)


def _usual(scheme: str) -> int | None:
    return {"http": 80, "https": 443}.get(scheme)


def _number(host: str) -> set[str]:
    """The address that a connection came in at, if it is a number: no name can be made it."""
    try:
        return {str(ipaddress.ip_address(host))}
    except ValueError:
        return set()


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives a body that has been read, and then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return waiting.pop() if waiting else await receive()

    return give


@dataclass(slots=True, eq=False)
class _Answer:
    """What goes back, under strict headers."""

    to: Send
    hidden: bool
    started: bool = field(default=False, init=False)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        await self.to(message)

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> Headers:
        own = [*STRICT, *([(b"cache-control", b"no-store")] if self.hidden else [])]
        ours = {name for name, _ in own}
        kept = [
            (name, value)
            for name, value in given
            if name.lower() not in ours and not name.lower().startswith(b"access-control-")
        ]
        return [*kept, *own]

    async def refuse(self, refusal: HTTPException) -> None:
        text = " ".join(str(refusal.detail).split())
        body = json.dumps({"detail": text}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += [
            (name.lower().encode(), value.encode())
            for name, value in (refusal.headers or {}).items()
        ]
        start = {"type": "http.response.start", "status": refusal.status_code, "headers": headers}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": body})
