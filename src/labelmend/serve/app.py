"""The web application of a prediction computer: its page, its questions, behind a guard."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import Field
from starlette.exceptions import HTTPException as AnyHTTPException

from labelmend.errors import LabelmendError, WorkerError
from labelmend.serve.answers import File, Reply
from labelmend.serve.asked import Question, Wanted, check_query, name_of
from labelmend.serve.described import (
    BODY,
    PREDICTED,
    Bounds,
    Model,
    State,
    Wave,
    describe,
    refusals,
)
from labelmend.serve.looks import Look
from labelmend.serve.places import PREDICT
from labelmend.serve.service import Service
from labelmend.types import ChannelAxis
from labelmend.web.guard import App, Guard, Message, Receive, Scope, Send

SECRET = ("/v1", "/metrics")
"""What wants the token, where there is one."""
SMALL = 2**16
"""Most bytes of a body where none is expected."""
_LEFT = 499
"""Never sent: there is nobody to read it."""
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_ASSET = re.compile(r"[a-z]+\.(html|js|css|svg)")
_log = logging.getLogger("labelmend.serve")


class Json(JSONResponse):
    """JSON in ASCII, so that names which are no valid text go through."""

    def render(self, content: Any) -> bytes:
        """The bytes of an answer."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def make_app(
    service: Service, token: str | None, *, hosts: Iterable[str] = (), patience: float = 30.0
) -> App:
    """The application that answers with predictions.

    Every refusal is ``{"detail": one line}``; see :class:`labelmend.web.guard.Guard` for who is
    refused before anything is looked at.

    Args:
        service: what answers.
        token: what requests under ``/v1`` and ``/metrics`` must bring; None: nothing.
        hosts: further names by which the server may be called.
        patience: seconds that a body may take to arrive.
    """
    app = FastAPI(
        title="labelmend",
        summary="Send an image, get a label and what it means.",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=Json,
    )
    app.include_router(_page())
    app.include_router(_states(service))
    app.include_router(_predictions(service), prefix="/v1")
    app.include_router(_looks(service), prefix="/v1/looks")
    app.add_exception_handler(AnyHTTPException, _say_http)
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.add_exception_handler(LabelmendError, _say_own)
    app.add_exception_handler(Exception, _say_broken)
    if token is not None:
        _want_token(app)
    guard = Guard(
        app,
        token,
        hosts=tuple(hosts),
        secret=SECRET,
        limit=SMALL,
        limits={PREDICT: service.limits.body},
        patience=patience,
        admit=service.places.admit,
    )
    return _counted(guard, service)


# ----------------------------------------------------------------------------------- the page


def _page() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    folders = [files(f"labelmend.{name}") / "static" for name in ("serve", "web")]

    @router.get("/")
    def page() -> Response:
        return asset("index.html")

    @router.get("/static/{name}")
    def asset(name: str) -> Response:
        found = [one / name for one in folders if _ASSET.fullmatch(name) and (one / name).is_file()]
        if not found:
            raise HTTPException(404, "there is no such file")
        kind = _TYPES.get(name[name.rindex(".") :], "image/svg+xml")
        content = found[0].read_bytes()
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return router


# ------------------------------------------------------------------------------ how it goes


def _states(service: Service) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get("/health", responses=refusals())
    async def health() -> State:
        """Whether the process answers at all."""
        return State(status="alive")

    @router.get("/ready", responses=refusals(503))
    async def ready() -> State:
        """Whether a request that comes now can be expected to be answered."""
        if not service.ready:
            raise HTTPException(503, "it is ending, or the network does not come back")
        return State(status="ready")

    @router.get("/metrics", response_class=PlainTextResponse, responses=refusals())
    async def metrics() -> Response:
        """What was done so far, in the text format of Prometheus."""
        return Response(service.counts.to_text(), media_type="text/plain; version=0.0.4")

    return router


# ---------------------------------------------------------------------------- predictions


def _predictions(service: Service) -> APIRouter:
    router = APIRouter(tags=["predictions"])
    limits = service.limits
    bounds = Bounds(
        largest_body=limits.body,
        waiting=limits.waiting,
        batch=limits.batch,
        patience=limits.patience,
    )
    told = describe(service.predictor, bounds)

    @router.get("/model", responses=refusals())
    async def model() -> Model:
        """What predicts here, and what it takes."""
        return told

    responses = {200: PREDICTED, **refusals(415, 422, 429, 500, 503)}

    @router.post("/predict", openapi_extra=BODY, responses=responses)
    async def predict(
        request: Request,
        name: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
        answer: Wanted = "file",
        conclusions: bool = False,
        smallest: Annotated[int, Query(ge=1, le=2**31)] = 1,
        flips: bool = False,
        look: bool = False,
        channels: ChannelAxis | None = None,
    ) -> Response:
        """The label of the file in the body; the same bytes give the same label."""
        check_query(key for key, _ in request.query_params.multi_items())
        called = name_of(name, request.headers)
        question = Question(called, answer, conclusions, smallest, flips, look, channels)
        question.check()
        try:
            found = await service.answer(question, await request.body(), _leaving(request))
        except (HTTPException, LabelmendError):
            raise
        except Exception as error:
            text = f"the prediction failed: {type(error).__name__}; the server's log says more"
            raise HTTPException(500, text) from error
        return Response(status_code=_LEFT) if found is None else _sent(found)

    return router


def _leaving(request: Request) -> Callable[[], Awaitable[None]]:
    """Returns when the client has left; to be asked for once the body is read."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return gone


def _sent(found: Reply) -> Response:
    if isinstance(found.body, File):
        return Response(found.body.content, 200, found.headers, found.body.media)
    return Json(found.body, headers=found.headers)


# ------------------------------------------------------------------------------------- looks

Name = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
Which = Literal["image", "label"]


def _looks(service: Service) -> APIRouter:
    router = APIRouter(tags=["looks"])
    png: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
    }

    def find(name: str) -> Look:
        look = service.looks.find(name)
        if look is None:
            raise HTTPException(404, "it is not kept any more; send the file again")
        return look

    @router.get(
        "/{name}/{which}",
        response_class=Response,
        responses={**png, **refusals(404, 422)},
    )
    def slice_of(
        name: Name,
        which: Which,
        axis: Annotated[int, Query(ge=0, le=2)] = 0,
        index: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    ) -> Response:
        """A slice of an image, or the classes of its positions, one byte each, as a PNG."""
        return Response(find(name).png(which, axis, index), media_type="image/png")

    @router.get("/{name}/{which}/wave", responses=refusals(404, 422))
    def wave(
        name: Name, which: Which, columns: Annotated[int, Query(ge=1, le=4096)] = 1000
    ) -> Wave:
        """The outline of a recording."""
        return Wave(**find(name).wave(which, columns))

    return router


# ----------------------------------------------------------------------------------- refusals


def _say_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    words = {404: "there is nothing at this address", 405: "this cannot be done at this address"}
    usual = error.detail in ("Not Found", "Method Not Allowed")
    if error.status_code == 500:
        _log.error("%s", error.detail, exc_info=error.__cause__)
    return _refusal(
        error.status_code, words[error.status_code] if usual else error.detail, error.headers
    )


def _say_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _refusal(422, f"{first['loc'][-1]}: {first['msg']}")


def _say_own(_: Request, error: Exception) -> Response:
    """422 for what cannot be predicted; 500 where the network's thread ended under it."""
    return _refusal(500 if isinstance(error, WorkerError) else 422, error)


def _say_broken(_: Request, error: Exception) -> Response:
    """For who asked; the server itself is told more, for the error is raised again."""
    return _refusal(500, f"internal error, please report it: {type(error).__name__}")


def _refusal(status: int, text: object, headers: Any = None) -> Response:
    return Json({"detail": " ".join(str(text).split())}, status, headers)


# ------------------------------------------------------------------------------------ around


def _counted(app: App, service: Service) -> App:
    """The application, with every answer to a request for a prediction counted."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PREDICT:
            await app(scope, receive, send)
            return
        start = time.monotonic()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != _LEFT:
                service.counts.answered(message["status"], time.monotonic() - start)
            await send(message)

        await app(scope, receive, noted)

    return counted


def _want_token(app: FastAPI) -> None:
    """Say in the description where the token is wanted."""
    made = app.openapi()
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, way in made["paths"].items():
        if path.startswith(SECRET):
            for operation in way.values():
                operation["security"] = [{"token": []}]
