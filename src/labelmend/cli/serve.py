"""Serve predictions of a run to other programs, and to people with a browser."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from labelmend.cli.loading import Model, Which, load_predictor
from labelmend.cli.output import Flag, make_watcher
from labelmend.cli.predicted import tell
from labelmend.errors import SettingsError

PORT = 8766
"""The port that is tried first where none is given."""


def serve(
    run: Path,
    /,
    *,
    checkpoint: Which = "last",
    model: Model = "main",
    device: str = "auto",
    network: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    allow_remote: Flag = False,
    open: Flag = False,
    waiting: int = 64,
    batch: int | None = None,
    patience: float = 60.0,
    largest: float = 64.0,
    memory: float = 2.0,
) -> int:
    """Answer HTTP requests with predictions: send an image, get a label and what it means.

    Prints the address of a page to drop files on; POST /v1/predict is for programs, and
    /openapi.json describes it. Ctrl-C or SIGTERM finishes what was begun and ends it.

    Parameters
    ----------
    run
        The run folder.
    checkpoint
        last or best.
    model
        The network to use; auxiliary and ensemble (mean of
        both predictions) exist where two were trained.
    device
        auto, cpu, cuda or mps.
    network
        The run's own network, repeated, where it is module:Class of yours.
    host
        Where to listen.
    port
        By default 8766, or the next that is free; 0 takes any.
    token
        What requests must bring, at least 16 characters; by default none is wanted at
        this machine's own address, and a random one at others.
    allow_remote
        Let other machines in, at another --host.
    open
        Show the page in a browser at once.
    waiting
        Requests that may wait; further ones are sent away at once, with 429.
    batch
        Waiting images of one size that the network is given together. By default 1 on
        the CPU, to the bit what labelmend predict writes, and 8 on others, where it is
        quicker and equal up to rounding.
    patience
        Seconds after which a request is given up.
    largest
        MiB of the largest file.
    memory
        GiB that all images which are being predicted may take.
    """
    from labelmend.web.server import Ending, Place, check_host_option, is_loopback, make_token
    from labelmend.web.server import serve as listen

    check_host_option(host, allow_remote=allow_remote, port=PORT)
    secret = None if token is None and is_loopback(host) else make_token(token)
    _check(waiting, batch, patience, largest, memory)
    # Options are checked before torch is imported, which takes seconds.
    from labelmend.serve.app import make_app
    from labelmend.serve.service import GRACE, Limits, Service
    from labelmend.web.server import names_of

    predictor = load_predictor(run, checkpoint, model, device, network)
    together = batch or (1 if predictor.device.type == "cpu" else 8)
    service = Service(predictor, Limits(waiting, together, patience, largest, memory))
    listen(
        make_app(service, secret, hosts=names_of(host)),
        Place(PORT, host, port, allow_remote),
        name="serve",
        token=secret,
        warning="has images predicted",
        open_browser=open,
        ending=Ending(service.finished, GRACE + 10),
    )
    service.close()
    return 0


def _check(waiting: int, batch: int | None, patience: float, largest: float, memory: float) -> None:
    """Refuse limits that nothing could pass."""
    whole = {"--waiting": (waiting, 1), "--batch": (1 if batch is None else batch, 1)}
    for name, (value, least) in whole.items():
        if value < least:
            raise SettingsError(f"{name} is at least {least}, not {value}")
    for name, number in (("--patience", patience), ("--largest", largest), ("--memory", memory)):
        if not 0 < number < 1e6:
            raise SettingsError(f"{name} is a number above 0, not {number}")


_HERE = ("flips", "smallest", "parquet", "quiet", "conclusions", "rules")
"""Options of predict that go with --server; all others are decided where the server runs."""


def predict_there(command: Callable[..., int], given: dict[str, Any]) -> int:
    """``labelmend predict --server URL FILES --out LABELS``: the same files, predicted elsewhere.

    Args:
        command: the command whose options were given.
        given: all of them, by name; the first positional one is a file, like all others.
    """
    asked = dict(given)
    url, inputs, out = asked.pop("server"), [asked.pop("run"), *asked.pop("inputs")], asked["out"]
    usual = {name: one.default for name, one in signature(command).parameters.items()}
    for name in asked.keys() - {*_HERE, "out"}:
        if asked[name] != usual[name]:
            raise SettingsError(
                f"--{name} is decided where the server runs; leave it out, or predict without "
                "--server"
            )
    if out is None:
        raise SettingsError("--server wants --out, the folder of the labels")
    if not asked["conclusions"] and (asked["rules"] or asked["parquet"] or asked["smallest"] != 1):
        raise SettingsError("--rules, --parquet and --smallest go with --conclusions; add it")
    return _predict_files(url, inputs, out, asked)


def _predict_files(url: str, inputs: list[Path], out: Path, asked: dict[str, Any]) -> int:
    from labelmend.client import Client, Wish, predict_files

    folder = out / "conclusions" if asked["conclusions"] else None
    flips, smallest = asked["flips"], asked["smallest"]
    wish = Wish(flips, folder, smallest, asked["rules"], asked["parquet"])
    watcher = make_watcher(asked["quiet"], title="predicting")
    client = Client(url)
    got = predict_files(client, inputs, out, wish, watcher=watcher)
    return tell(got, out, folder, client.spec, quiet=asked["quiet"])
