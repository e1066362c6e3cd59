"""Serve the review from this machine, to its owner, until a signal says it is enough."""

from __future__ import annotations

import signal
from pathlib import Path

from labelmend.errors import Stopped
from labelmend.web import server
from labelmend.web.guard import App
from labelmend.web.server import Place, make_token, names_of

__all__ = ["PORT", "check_host_option", "make_token", "names_of", "serve"]

PORT = 8765
"""The port that is tried first where none is given."""


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
    ended = server.serve(
        app,
        Place(PORT, host, port, allow_remote, remember),
        name="review",
        token=token,
        warning="sees the images and changes labels",
        open_browser=open_browser,
    )
    if ended == signal.SIGTERM:
        raise Stopped("stopped by SIGTERM; everything that the page showed as saved is kept", 143)


def check_host_option(host: str, *, allow_remote: bool) -> None:
    """Refuse a host that other machines reach, unless that is wanted.

    Raises:
        SettingsError: with the way out.
    """
    server.check_host_option(host, allow_remote=allow_remote, port=PORT)
