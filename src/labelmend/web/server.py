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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from labelmend.errors import SettingsError
from labelmend.runs import write_atomically
from labelmend.web.guard import App

TRIED = 20
SHORTEST_TOKEN = 16
GRACE = 3
"""Seconds that answers under way have, once the server ends."""
PATIENCE = 5.0
"""Seconds after which the process ends whatever is still computed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens.

    Attributes:
        usual: the port that is tried first where none is given.
        host: anything but this machine itself only with ``allow_remote``.
        port: by default the one in ``remember``, the usual one, or the next that is free; 0 takes
            any.
        allow_remote: whether other machines may ask.
        remember: a file for the port; a browser keeps what it has not sent by address and port.
    """

    usual: int
    host: str = "127.0.0.1"
    port: int | None = None
    allow_remote: bool = False
    remember: Path | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a server ends, once a signal came.

    Attributes:
        finished: asked again and again until it says that all is done; only then nobody is
            listened to any more. The trap: it must say so some time.
        patience: seconds after which the process ends whatever it says.
    """

    finished: Callable[[], bool] = lambda: True
    patience: float = PATIENCE


def serve(
    app: App,
    place: Place,
    *,
    name: str,
    token: str | None,
    warning: str,
    open_browser: bool = False,
    ending: Ending | None = None,
) -> int:
    """Answer requests until SIGINT or SIGTERM; prints ``name: address`` once it answers there.

    Args:
        app: what answers; behind a :class:`labelmend.web.guard.Guard` that wants ``token``.
        place: where to listen.
        name: what is served, in one word.
        token: printed with the address, after its ``#``, where no server sees it; None: not wanted.
        warning: what whoever can reach the port can do, said where other machines can.
        open_browser: whether to show the page at once.
        ending: what is waited for after the signal.

    Returns:
        The signal. A second one ends the process at once, with 128 and its number.

    Raises:
        SettingsError: for a host or port that cannot be used.

    The trap: once a signal came, what is still computed after some seconds is not waited for.
    """
    check_host_option(place.host, allow_remote=place.allow_remote, port=place.usual)
    listening = bind(place, before=_last_port(place.remember))
    where = listening.getsockname()[1]
    if place.remember is not None:
        write_atomically(place.remember, f"{where}\n".encode())
    address = f"http://{_shown(place.host)}:{where}/" + ("" if token is None else f"#token={token}")
    if not is_loopback(place.host):
        sys.stderr.write(
            f"warning: whoever can reach port {where} of this machine and has the token {warning}, "
            "and nothing on the way is encrypted\n"
        )

    def announce() -> None:
        print(f"{name}: {address}", flush=True)
        if open_browser:
            threading.Thread(target=_show, args=(address,), daemon=True).start()

    server = _Server(_settings(app), announce, ending or Ending())
    _run(server, listening)
    return server.signal


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


def check_host_option(host: str, *, allow_remote: bool, port: int) -> None:
    """Refuse a host that other machines reach, unless that is wanted.

    Args:
        host: as given.
        allow_remote: whether it is wanted.
        port: where it would listen, for the way out.

    Raises:
        SettingsError: with the way out.
    """
    if not is_loopback(host) and not allow_remote:
        raise SettingsError(
            f"--host {host} lets other machines in; leave it out and use ssh -L "
            f"{port}:127.0.0.1:{port} from there, or add --allow-remote"
        )


def names_of(host: str) -> tuple[str, ...]:
    """The names by which a page served at a host is called, beside those of this machine itself.

    >>> names_of("127.0.0.1"), names_of("Lab.example")
    ((), ('lab.example',))
    """
    if is_loopback(host):
        return ()
    return (socket.gethostname().lower(),) if _is_everywhere(host) else (host.lower(),)


def bind(place: Place, *, before: int | None = None) -> socket.socket:
    """A socket that listens, so that nobody else gets the port between asking and serving.

    Without a port it takes the one from ``before`` where that is free, so that a browser finds
    what it has not sent yet, or the next free one from the usual one on.

    Raises:
        SettingsError: when the host is none of this machine's, or the port is in use.
    """
    name = "127.0.0.1" if place.host.lower() == "localhost" else place.host
    if place.port is not None:
        return _listen(name, place.port)
    wanted = () if before is None else (before,)
    for tried in (*wanted, *range(place.usual, place.usual + TRIED)):
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
    # asyncio sends at once only where the protocol is named; else answers wait 40 ms for a receipt
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
    """Uvicorn's, which says when it is ready, finishes what it began and remembers why it ended."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], ending: Ending) -> None:
        super().__init__(config)
        self.signal = 0
        self._ready = ready
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        ends = await super().on_tick(counter)
        return ends and self._ending.finished()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.signal:
            _end(128 + sig)
        # Threads cannot be stopped; one that predicts must not keep the process for minutes.
        status = 0 if sig == signal.SIGINT else 128 + sig
        last = threading.Timer(self._ending.patience, _end, (status,))
        last.daemon = True
        last.start()
        self.signal = sig
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


def _end(status: int) -> None:
    with suppress(RuntimeError):  # a signal may come in the middle of a print
        sys.stdout.flush()
    os._exit(status)


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
