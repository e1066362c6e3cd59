"""Serve one application from this machine, to its owner, until a signal says it is enough."""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from labelmend.errors import SettingsError, Stopped
from labelmend.runs import write_atomically

PORT = 8765
"""The port that is tried first where none is given."""
TRIED = 20
SHORTEST_TOKEN = 16
GRACE = 3
"""Seconds that answers under way have, once a signal came."""
PATIENCE = 5.0
"""Seconds after which the process ends whatever is still computed; nothing saved is lost by it."""

App = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]


def serve(
    app: App,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str,
    allow_remote: bool = False,
    open_browser: bool = False,
    remember: Path | None = None,
) -> None:
    """Answer requests until SIGINT or SIGTERM; prints the address once it answers there.

    Args:
        app: what answers; behind a :class:`labelmend.web.guard.Guard` that wants ``token``.
        host: where to listen; anything but this machine itself only with ``allow_remote``.
        port: by default the one in ``remember``, 8765, or the next that is free; 0 takes any.
        token: printed with the address, after its ``#``, where no server sees it.
        allow_remote: whether other machines may ask.
        open_browser: whether to show the page at once.
        remember: a file for the port; a browser keeps what it has not sent by address and port.

    Raises:
        SettingsError: for a host or port that cannot be used.
        Stopped: after SIGTERM, with the status 143; after SIGINT it returns.

    The trap: once a signal came, what is still computed after some seconds is not waited for.
    """
    check_host_option(host, allow_remote=allow_remote)
    listening = bind(host, port, before=_last_port(remember))
    where = listening.getsockname()[1]
    if remember is not None:
        write_atomically(remember, f"{where}\n".encode())
    address = f"http://{_shown(host)}:{where}/#token={token}"
    if not is_loopback(host):
        sys.stderr.write(
            f"warning: whoever can reach port {where} of this machine and has the token sees the "
            "images and changes labels, and nothing on the way is encrypted\n"
        )
    server = _Server(_settings(app), lambda: _announce(address, open_browser=open_browser))
    _run(server, listening)
    if server.signal == signal.SIGTERM:
        raise Stopped("stopped by SIGTERM; everything that the page showed as saved is kept", 143)


def make_token(given: str | None = None) -> str:
    """A random token, or the given one after checking it.

    Raises:
        SettingsError: for one that is short, or has other characters than ``A-Za-z0-9-_.~``.

    >>> len(make_token()), make_token("0123456789abcdef")
    (43, '0123456789abcdef')
    """
    if given is None:
        return secrets.token_urlsafe(32)
    if len(given) < SHORTEST_TOKEN or not all(c.isascii() and _is_plain(c) for c in given):
        raise SettingsError(
            f"--token wants at least {SHORTEST_TOKEN} letters, digits, -, _, . or ~ ; leave it "
            "out for a random one"
        )
    return given


def is_loopback(host: str) -> bool:
    """Whether only this machine itself can reach a host.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "a.org")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host_option(host: str, *, allow_remote: bool) -> None:
    """Refuse a host that other machines reach, unless that is wanted.

    Raises:
        SettingsError: with the way out.
    """
    if not is_loopback(host) and not allow_remote:
        raise SettingsError(
            f"--host {host} lets other machines in; leave it out and use ssh -L "
            f"{PORT}:127.0.0.1:{PORT} from there, or add --allow-remote"
        )


def names_of(host: str) -> tuple[str, ...]:
    """The names by which a page served at a host is called, beside those of this machine itself.

    >>> names_of("127.0.0.1"), names_of("Lab.example")
    ((), ('lab.example',))
    """
    if is_loopback(host):
        return ()
    return (socket.gethostname().lower(),) if _is_everywhere(host) else (host.lower(),)


def bind(host: str, port: int | None, *, before: int | None = None) -> socket.socket:
    """A socket that listens, so that nobody else gets the port between asking and serving.

    Without a port it takes the one from ``before`` where that is free, so that a browser finds
    what it has not sent yet, or the next free one from :data:`PORT` on.

    Raises:
        SettingsError: when the host is none of this machine's, or the port is in use.
    """
    name = "127.0.0.1" if host.lower() == "localhost" else host
    if port is not None:
        return _listen(name, port)
    wanted = () if before is None else (before,)
    for tried in (*wanted, *range(PORT, PORT + TRIED)):
        with suppress(SettingsError):
            return _listen(name, tried)
    return _listen(name, 0)


def _last_port(file: Path | None) -> int | None:
    """The port that was remembered; none where there is no use in it."""
    if file is None or not file.is_file():
        return None
    with suppress(OSError, ValueError):
        port = int(file.read_text("ascii"))
        return port if 0 < port < 2**16 else None
    return None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError, UnicodeError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"cannot listen at {host}, port {port}: {reason}; give another --port or --host"
        ) from error
    return listening


class _Server(uvicorn.Server):
    """Uvicorn's, which says when it is ready and remembers why it ended."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.signal = 0
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.signal:
            # Threads cannot be stopped; one that predicts must not keep the process for minutes.
            last = threading.Timer(PATIENCE, _end, (sig,))
            last.daemon = True
            last.start()
        self.signal = self.signal or sig
        super().handle_exit(sig, frame)


def _run(server: _Server, listening: socket.socket) -> None:
    """Serve; signals that uvicorn hands on afterwards have been dealt with."""
    main = threading.current_thread() is threading.main_thread()
    watched = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {number: signal.signal(number, lambda *_: None) for number in watched}
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listening.close()


def _end(number: int) -> None:
    sys.stdout.flush()
    os._exit(0 if number == signal.SIGINT else 128 + number)


def _settings(app: App) -> uvicorn.Config:
    """Nothing is believed of who forwards, nothing said of who asked."""
    return uvicorn.Config(
        app,
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )


def _announce(address: str, *, open_browser: bool) -> None:
    print(f"review: {address}", flush=True)
    if open_browser:
        threading.Thread(target=_show, args=(address,), daemon=True).start()


def _show(address: str) -> None:
    if not webbrowser.open(address):
        sys.stderr.write("no browser could be opened; open the address above yourself\n")


def _shown(host: str) -> str:
    if _is_everywhere(host):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _is_everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_plain(character: str) -> bool:
    return character.isalnum() or character in "-_.~"
