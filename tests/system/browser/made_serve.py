"""A process that serves predictions of untrained runs: ``made_serve.py FOLDER KIND:PORT``.

Started by the tests of the page; started by hand, it is a page to try.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from made_review import open_run

from labelmend.serve.app import make_app
from labelmend.serve.service import Limits, Service
from labelmend.web.server import Place, serve

MANY = 3


def serve_one(folder: Path, kind: str, port: int) -> None:
    """Serve one kind of data until killed."""
    service = Service(open_run(folder, kind, MANY), Limits(largest=2))
    serve(make_app(service, None), Place(port, port=port), name="serve", token=None, warning="")


def main(folder: Path, *wanted: str) -> None:
    """Serve several kinds at once, each at a port of its own."""
    torch.set_num_threads(1)
    for one in wanted:
        kind, port = one.split(":")
        about = (folder / kind, kind, int(port))
        threading.Thread(target=serve_one, args=about, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
