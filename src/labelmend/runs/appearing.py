"""A folder that is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelmend.errors import RunError
from labelmend.runs.atomic import erase, keeping, sweep, sync_folder, temporary_name
from labelmend.runs.disk import Disk
from labelmend.runs.locks import lock_folder


def check_free(out: Path, inside: Path | None = None) -> None:
    """Refuse a folder that holds something, or lies where it would be taken for data.

    Args:
        out: the folder to be made.
        inside: a folder that it must not lie in.

    Raises:
        RunError: naming what is in the way.
    """
    file = next((p for p in (out, *out.parents) if p.exists() and not p.is_dir()), None)
    if file is not None:
        raise RunError(f"nothing can be written to {out}: {file} is a file; name a folder")
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty, and what is in it might be lost; give another --out")
    if inside is not None and inside.resolve() in (out.resolve(), *out.resolve().parents):
        raise RunError(
            f"{out} lies in {inside}, where it would be taken for data; give another --out"
        )


@contextmanager
def appearing(path: Path, what: str = "the labels") -> Iterator[Path]:
    """A folder to write in, which gets its name when all went well and else is removed.

    Args:
        path: the folder to be; its parents are made.
        what: what is written, for the message where the disk refuses.

    Raises:
        StorageError: when the disk refuses.
    """
    path = path.resolve()
    with keeping(what, path, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, frozenset([path.name]))
        temporary = path.with_name(temporary_name(path.name))
        Disk.mkdir(temporary)
    try:
        with lock_folder(temporary):
            yield temporary
            with keeping(what, path, 0):
                sync_folder(temporary)
                Disk.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            erase(temporary)
        raise
    with keeping(what, path, 0):
        sync_folder(path.parent)
