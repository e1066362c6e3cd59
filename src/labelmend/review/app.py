"""The review's web application: its page, and what the page asks for, behind a guard."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException

from labelmend.errors import LabelmendError, ShapeError, StorageError
from labelmend.review.answers import Answers, Outcome
from labelmend.review.cases import Cases
from labelmend.review.desk import Desk
from labelmend.web.guard import Guard

T = TypeVar("T")

AT_ONCE = 4
"""Answers that wait for the network at a time; all others wait for none of them."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_TAG = re.compile(r'"(\d{1,15})"')

_Empty = BeforeValidator(lambda value: None if value == "" else value)
_Whole = Annotated[int, Field(ge=-(2**62), le=2**62)]
_Real = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[_Whole | None, _Empty, Query()]
Real = Annotated[_Real | None, _Empty, Query()]


class Json(JSONResponse):
    """JSON in ASCII, so that file names which are no valid text go through."""

    def render(self, content: Any) -> bytes:
        """The bytes of an answer."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def make_app(
    cases: Cases,
    desk: Desk,
    token: str,
    *,
    export: Callable[[], dict[str, Any]],
    person: str = "",
    hosts: Iterable[str] = (),
) -> Guard:
    """The application that shows cases and keeps what people do to them.

    Everything under ``/api`` wants the token; see :class:`labelmend.web.guard.Guard` for who else
    is refused. Every error is ``{"detail": one line}``. Answers that need the network have threads
    of their own, so that saving never waits for a prediction.

    Args:
        cases: what can be shown, in the order in which it is.
        desk: what people did and do.
        token: what the page must bring.
        export: writes the repaired labels; what it returns is answered as JSON.
        person: who works where a page does not say.
        hosts: further names by which the server may be called.
    """
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        default_response_class=Json,
    )
    answers, slow = Answers(cases, desk), _Slow(AT_ONCE)
    app.include_router(_page())
    app.include_router(_tables(answers), prefix="/api")
    app.include_router(_pictures(answers, slow), prefix="/api/cases/{number}")
    app.include_router(_deeds(answers, slow, person), prefix="/api")
    app.include_router(_exports(export), prefix="/api")
    app.add_exception_handler(AnyHTTPException, _say_http)
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.add_exception_handler(LabelmendError, _say_own)
    app.add_exception_handler(Exception, _say_broken)
    return Guard(
        app, token, hosts=tuple(hosts)
    )  # outside of all else, which then sees no strangers


class _Slow:
    """A few threads for what takes long."""

    def __init__(self, many: int) -> None:
        self._threads = ThreadPoolExecutor(many, thread_name_prefix="slow")

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


# ----------------------------------------------------------------------------------- the page


def _page() -> APIRouter:
    router = APIRouter()
    own, shared = (_listed(files(f"labelmend.{name}") / "static") for name in ("review", "web"))
    static = shared | own

    @router.get("/")
    def page() -> Response:
        return _file(static, "index.html")

    @router.get("/static/{name:path}")
    def asset(name: str) -> Response:
        return _file(static, name)

    return router


def _listed(folder: Traversable, before: str = "") -> dict[str, Traversable]:
    """Every file below a folder by its path in it; what is not listed is not served."""
    found: dict[str, Traversable] = {}
    for one in folder.iterdir() if folder.is_dir() else ():
        name = before + one.name
        found |= _listed(one, f"{name}/") if one.is_dir() else {name: one}
    return found


def _file(static: dict[str, Traversable], name: str) -> Response:
    if name not in static:
        raise HTTPException(404, "there is no such file")
    suffix = f".{name.rpartition('.')[2]}"
    kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {"Cache-Control": "no-cache"}
    return Response(static[name].read_bytes(), media_type=kind, headers=headers)


# ---------------------------------------------------------------------------- what is asked for


def _tables(answers: Answers) -> APIRouter:
    router = APIRouter()

    @router.get("/session")
    def session() -> Response:
        return Json(answers.session())

    @router.get("/cases")
    def overview() -> Response:
        return Json(answers.overview())

    @router.get("/events")
    def events(after: Annotated[int, Query(ge=0, le=2**62)] = 0) -> Response:
        return Json(answers.changed(after))

    @router.get("/cases/{number}", dependencies=[_in_order(answers)])
    def entry(number: int) -> Response:
        found = answers.entry(_known(answers, number))
        return Json(found, headers=_tag(found["version"]))

    return router


def _pictures(answers: Answers, slow: _Slow) -> APIRouter:
    router = APIRouter(dependencies=[_in_order(answers)])

    @router.get("/image")
    def image(
        number: int,
        axis: Whole = None,
        index: Whole = None,
        low: Real = None,
        high: Real = None,
        channel: Whole = None,
    ) -> Response:
        known = _known(answers, number)
        return _picture(answers.image(known, axis, index, low, high, channel))

    @router.get("/label")
    async def label(
        number: int, which: str = "current", axis: Whole = None, index: Whole = None
    ) -> Response:
        known = _known(answers, number)
        waits = slow.run if which in ("prediction", "moved") else run_in_threadpool
        plane = await waits(lambda: answers.label(known, which, axis, index))
        headers = {"X-Shape": ",".join(map(str, plane.positions.shape))}
        if plane.version is not None:
            headers |= _tag(plane.version)
        if plane.limits is not None:
            headers["X-Values"] = f"{plane.limits[0]!r},{plane.limits[1]!r}"
        return Response(plane.positions.tobytes(), 200, headers, "application/octet-stream")

    @router.get("/thumbnail")
    async def thumbnail(number: int) -> Response:
        known = _known(answers, number)
        return _picture(await slow.run(lambda: answers.thumbnail(known)))

    @router.get("/wave")
    def wave(
        number: int,
        start: Whole = None,
        stop: Whole = None,
        columns: Annotated[int, Query(ge=1, le=2**31)] = 1000,
    ) -> Response:
        return Json(answers.wave(_known(answers, number), start, stop, columns))

    @router.get("/spectrogram")
    def spectrogram(
        number: int, start: Whole = None, stop: Whole = None, channel: Whole = None
    ) -> Response:
        return _picture(answers.spectrogram(_known(answers, number), start, stop, channel))

    return router


def _in_order(answers: Answers) -> Any:
    """Refuses who counts the cases in another order, by which a number is another label's."""

    def check(x_order: Annotated[str | None, Header()] = None) -> None:
        if x_order not in (None, answers.order):
            text = "the labels are in another order now, or of another run; ask for the list again"
            raise HTTPException(409, text, {"X-Order": answers.order})

    return Depends(check)


def _known(answers: Answers, number: int) -> int:
    total = len(answers.cases)
    if not 0 <= number < total:
        raise HTTPException(404, f"there are cases 0 to {total - 1}, not {str(number)[:20]}")
    return number


def _picture(content: bytes) -> Response:
    return Response(content, media_type="image/png")


def _tag(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"'}


# ------------------------------------------------------------------------------ what is done


def _deeds(answers: Answers, slow: _Slow, person: str) -> APIRouter:
    router = APIRouter()

    @router.post("/cases/{number}/events", dependencies=[_in_order(answers)])
    async def do(number: int, request: Request) -> Response:
        known = _known(answers, number)
        tags = request.headers.getlist("if-match")
        if not tags:
            text = 'If-Match is wanted, with the version that this was done to, such as "3"'
            raise HTTPException(428, text)
        event = _decoded(await request.body())
        who = unquote(request.headers.get("x-person", person), errors="replace")
        version = _version(tags)
        waits = slow.run if _takes(event) else run_in_threadpool
        return _said(await waits(lambda: answers.do(known, version, event, who)))

    return router


def _exports(export: Callable[[], dict[str, Any]]) -> APIRouter:
    router, one_at_a_time = APIRouter(), threading.Lock()

    @router.post("/export")
    def write() -> Response:
        with one_at_a_time:
            return Json(export())

    return router


def _decoded(body: bytes) -> object:
    """What a body holds; whether that is an event is looked at later.

    Raises:
        ShapeError: when it is no JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ShapeError(f"the body is not JSON in UTF-8: {str(error)[:200]}") from error


def _takes(event: object) -> bool:
    op = event.get("op") if isinstance(event, dict) else None
    return isinstance(op, dict) and op.get("kind") == "take"


def _version(tags: Sequence[str]) -> int:
    """The version that If-Match names; -1, which no case has, for anything else."""
    found = _TAG.fullmatch(tags[0].strip()) if len(tags) == 1 else None
    return int(found[1]) if found else -1


def _said(outcome: Outcome) -> Response:
    headers = _tag(outcome.case["version"])
    if outcome.kept:
        return Json({"version": outcome.version, "case": outcome.case}, headers=headers)
    text = "somebody changed this label meanwhile; look at it as it is now, and do it again"
    return Json({"detail": text, "case": outcome.case}, 412, headers)


# ----------------------------------------------------------------------------------- refusals


def _say_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    words = {404: "there is nothing at this address", 405: "this cannot be done at this address"}
    text = error.detail
    if text in ("Not Found", "Method Not Allowed"):
        text = words[error.status_code]
    return _refusal(error.status_code, text, error.headers)


def _say_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _refusal(422, f"{first['loc'][-1]}: {first['msg']}")


def _say_own(_: Request, error: Exception) -> Response:
    """422 for what cannot be asked; 507 for a full disk; 409 where files or settings forbid it."""
    kinds = {ShapeError: 422, StorageError: 507}
    status = next((code for kind, code in kinds.items() if isinstance(error, kind)), 409)
    return _refusal(status, str(error))


def _say_broken(_: Request, error: Exception) -> Response:
    """For who asked; the server itself is told more, for the error is raised again."""
    return _refusal(500, f"internal error, please report it: {type(error).__name__}")


def _refusal(status: int, text: object, headers: Any = None) -> Response:
    return Json({"detail": " ".join(str(text).split())}, status, headers)
