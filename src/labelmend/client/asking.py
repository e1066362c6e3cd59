"""One image, and a server's answer."""

from __future__ import annotations

import http.client
import ipaddress
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np

from labelmend.errors import DataError, LabelmendError, RunError, SettingsError
from labelmend.files.sources import read_bytes
from labelmend.files.writers import narrow
from labelmend.types import DataSpec

_LONGEST_PAUSE = 60.0
_ITS_OWN = (400, 404, 405, 408, 413, 415, 422, 500)
"""Refusals of one file; others would meet the next one, too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A label, and what it means.

    Attributes:
        label: ``(*space)``, the values that label files have; for regression ``(channels, *space)``
            as the data set's arrays keep them.
        spacing: distance between positions per axis, None where nobody knows.
        conclusions: what ``labelmend predict --conclusions`` finds, as plain values; None where
            it was not asked for.
        warnings: ways in which the image lies unlike all that the network learned from.
    """

    label: np.ndarray
    spacing: tuple[float, ...] | None
    conclusions: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Client:
    """A prediction computer elsewhere::

        client = Client("http://127.0.0.1:8766")
        answer = client.predict("scan.png", conclusions=True)
        print(answer.label.shape, len(answer.conclusions["objects"]))

    A server that is busy is asked again when it says so. Several threads may share a client.

    Args:
        url: as ``labelmend serve`` printed it, a token after its ``#`` included.
        token: what the server wants, where it wants one.
        patience: seconds for which a busy server is asked again.
        timeout: seconds that one answer may take.

    Raises:
        SettingsError: for what is no such address.

    The trap: nothing is encrypted unless the address begins with ``https``, behind a proxy.
    """

    url: str
    token: str | None = None
    patience: float = 300.0
    timeout: float = 180.0
    _pause: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
            _ = parts.port
        except ValueError:
            good = False
        if not good or parts.path not in ("", "/"):
            raise SettingsError(
                f"{self.url!r} is no address of a server; it looks like http://127.0.0.1:8766"
            )
        kind, _, told = parts.fragment.partition("=")
        if kind == "token" and self.token is None:
            object.__setattr__(self, "token", told)
        object.__setattr__(self, "url", f"{parts.scheme}://{parts.netloc}")

    def predict(
        self,
        image: str | Path | np.ndarray,
        *,
        conclusions: bool = False,
        smallest: int = 1,
        flips: bool = False,
    ) -> Answer:
        """The label of a file, or of an array ``(channels, *space)`` or ``(*space)``.

        Args:
            image: is sent as it is; an array as ``.npy``, with its values.
            conclusions: whether to measure objects.
            smallest: objects of fewer positions are left out.
            flips: whether mirror images are predicted too and the mean is taken.

        Raises:
            DataError: when the image cannot be predicted, in the words of the server.
            SettingsError: when the server wants another token, or is not called that.
            RunError: when nobody answers, or the server stays busy.
        """
        content, name, axis = self._content(image)
        asked: dict[str, Any] = {"flips": flips} | axis
        if not conclusions:
            body, headers = self.send(content, name, answer="npy", **asked)
            label = np.load(BytesIO(body), allow_pickle=False)
            apart = [float(one) for one in headers.get("x-spacing", "").split(",") if one]
            return Answer(label, tuple(apart) or None, None, read_warnings(headers))
        asked |= {"conclusions": True, "smallest": smallest}
        found = read_object(self.send(content, name, answer="rle", **asked)[0], "label")
        label = narrow(_from_runs(found["label"]), self.spec)
        step = None if found["spacing"] is None else tuple(map(float, found["spacing"]))
        return Answer(label, step, found["conclusions"], tuple(found.get("warnings", ())))

    @cached_property
    def model(self) -> dict[str, Any]:
        """What predicts there: classes, channels, limits; asked for once.

        Raises:
            RunError, SettingsError: as :meth:`predict`.
        """
        return read_object(self._ask(urllib.request.Request(f"{self.url}/v1/model"), "")[0], "dims")

    @property
    def spec(self) -> DataSpec:
        """What the data that it was trained on had in common."""
        told = self.model
        names = ("task", "ignore", "dims", "channels", "channel_axis", "suffix", "instances")
        classes = told["classes"]
        values = tuple(one["value"] for one in classes if one["value"] is not None)
        spacing = None if told["spacing"] is None else tuple(told["spacing"])
        about = {name: told[name] for name in names}
        return DataSpec(
            classes=tuple(one["name"] for one in classes), values=values, spacing=spacing, **about
        )

    def send(self, content: bytes, name: str, **query: Any) -> tuple[bytes, dict[str, str]]:
        """The lower door: the body of the answer to a file's bytes, and its headers in lower case.

        Args:
            content: a file.
            name: its name; the suffix says the format.
            query: as the description at ``/openapi.json`` has it.

        Raises:
            DataError, RunError, SettingsError: as :meth:`predict`.
        """
        texts = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in query.items()}
        address = f"{self.url}/v1/predict?{urlencode({'name': name, **texts})}"
        about = {"Content-Type": "application/octet-stream"}
        return self._ask(urllib.request.Request(address, content, about, method="POST"), name)

    def _ask(self, request: urllib.request.Request, name: str) -> tuple[bytes, dict[str, str]]:
        """One question, asked again while the server is busy."""
        if self.token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        end = time.monotonic() + self.patience
        while True:
            try:
                with _opener(self.url).open(request, timeout=self.timeout) as answer:
                    return answer.read(), {k.lower(): v for k, v in answer.headers.items()}
            except urllib.error.HTTPError as error:
                pause = _pause_of(error)
                if error.code != 429 or time.monotonic() + pause > end:
                    raise self._refused(error, name) from error
                error.close()
                self._pause(pause)
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None) or error or type(error).__name__
                raise RunError(
                    f"{self.url}: no answer ({reason}); start labelmend serve RUN there, or "
                    "correct the address"
                ) from error

    def _refused(self, error: urllib.error.HTTPError, name: str) -> LabelmendError:
        """What the server said, as the error that it is."""
        try:
            said = str(json.loads(error.read(65536))["detail"])
        except (ValueError, KeyError, TypeError, OSError):
            said = f"status {error.code}; is that labelmend serve?"
        text = " ".join(said.split())
        if error.code in (401, 403):
            return SettingsError(f"{self.url}: {text}")
        if error.code in _ITS_OWN and name:
            return DataError(text if text.startswith(name) else f"{name}: {text}")
        return RunError(f"{self.url}: {text}")

    def _content(self, image: str | Path | np.ndarray) -> tuple[bytes, str, dict[str, str]]:
        if isinstance(image, str | Path):
            path = Path(image)
            return read_bytes(path), path.name, {}
        stream = BytesIO()
        np.save(stream, np.asarray(image), allow_pickle=False)
        first = np.ndim(image) == self.model["dims"] + 1
        return stream.getvalue(), "array.npy", {"channels": "first"} if first else {}


# ------------------------------------------------------------------------------------ below


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: images are sent to where they were meant to go."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(url: str) -> urllib.request.OpenerDirector:
    """What opens addresses; this machine itself is never asked through a proxy."""
    host = urlsplit(url).hostname or ""
    try:
        near = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = False
    proxies = [urllib.request.ProxyHandler({})] if near else []
    return urllib.request.build_opener(_Stay(), *proxies)


def read_object(body: bytes, wanted: str) -> dict[str, Any]:
    """An answer in JSON; refused where it is of some other server."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict) or wanted not in found:
        raise RunError("this is no answer of labelmend serve; correct the address")
    return found


def read_warnings(headers: dict[str, str]) -> tuple[str, ...]:
    """What the headers of an answer warn of."""
    return tuple(json.loads(headers.get("x-warnings", "[]")))


def _pause_of(error: urllib.error.HTTPError) -> float:
    """Seconds after which to come again."""
    try:
        told = float(error.headers.get("Retry-After", "1"))
    except ValueError:
        told = 1.0
    return min(_LONGEST_PAUSE, max(0.1, told if math.isfinite(told) else 1.0))


def _from_runs(label: dict[str, Any]) -> np.ndarray:
    """The label that runs of positions stand for."""
    flat = np.full(math.prod(label["size"]), label["background"], np.int64)
    for one in label["classes"]:
        inside = np.arange(len(one["counts"])) % 2 == 1
        flat[np.repeat(inside, one["counts"])] = one["value"]
    return flat.reshape(label["size"], order="F")
