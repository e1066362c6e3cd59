"""The review listens where it may and ends with the status of its signal; the rest is the web's."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from labelmend.errors import SettingsError, Stopped
from labelmend.review import server
from labelmend.review.server import PORT, check_host_option, serve
from labelmend.web.server import Place


async def nothing(*_: Any) -> None:
    """An application that answers nobody."""


def asked(monkeypatch: pytest.MonkeyPatch, ends_by: int) -> list[tuple[Place, dict[str, Any]]]:
    """What the web's server is asked to do, from now on; it ends at once."""
    seen: list[tuple[Place, dict[str, Any]]] = []

    def stand_in(_: Any, place: Place, **options: Any) -> int:
        seen.append((place, options))
        return ends_by

    monkeypatch.setattr(server.server, "serve", stand_in)
    return seen


def test_ctrl_c_is_the_way_to_end_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = asked(monkeypatch, signal.SIGINT)
    serve(nothing, host="h", port=3, token="t" * 20, allow_remote=True, remember=tmp_path)
    place, options = seen[0]
    assert place == Place(PORT, "h", 3, True, tmp_path)
    assert (options["name"], options["token"]) == ("review", "t" * 20)
    assert "changes labels" in options["warning"]


def test_sigterm_ends_with_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        serve(nothing, token="t" * 20)
    assert stopped.value.exit_status == 143


def test_the_way_out_names_its_port() -> None:
    with pytest.raises(SettingsError, match=f"ssh -L {PORT}:"):
        check_host_option("0.0.0.0", allow_remote=False)
