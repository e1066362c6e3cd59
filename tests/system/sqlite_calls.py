"""Every call by which SQLite touches a disk, in one place where tests can kill or fail it.

SQLite lets the calls of its file layer be replaced one by one (``xSetSystemCall``); its own
library is found in the memory of this process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_long, ctypes.c_void_p
CALLS = {
    "open": (_INT, _POINTER, _INT, _INT),
    "close": (_INT, _INT),
    "fcntl": (_INT, _INT, _INT, _LONG),
    "pread64": (_LONG, _INT, _POINTER, _LONG, _LONG),
    "write": (_LONG, _INT, _POINTER, _LONG),
    "pwrite64": (_LONG, _INT, _POINTER, _LONG, _LONG),
    "ftruncate": (_INT, _INT, _LONG),
    "unlink": (_INT, _POINTER),
}
"""The types of each call, its result first."""

WRITES = ("write", "pwrite64")
CHANGES = (*WRITES, "ftruncate", "unlink")


class _Layer(ctypes.Structure):
    """SQLite's ``sqlite3_vfs``."""


_SET = ctypes.CFUNCTYPE(_INT, ctypes.POINTER(_Layer), ctypes.c_char_p, _POINTER)
_GET = ctypes.CFUNCTYPE(_POINTER, ctypes.POINTER(_Layer), ctypes.c_char_p)
_Layer._fields_ = [
    *[(name, _INT) for name in ("version", "file_size", "longest_path")],
    *[(name, _POINTER) for name in ("next", "name", "data")],
    *[(f"method_{number}", _POINTER) for number in range(13)],
    ("set_call", _SET),
    ("get_call", _GET),
    ("next_call", _POINTER),
]


@cache
def find_layer():
    """SQLite's file layer, or ``None`` where it cannot be reached."""
    if sys.platform != "linux":
        return None
    import sqlite3  # so that its library is loaded

    assert sqlite3
    maps = Path("/proc/self/maps").read_text().splitlines()
    for path in sorted({line.split()[-1] for line in maps if "sqlite3" in line}):
        library = ctypes.CDLL(path)
        if hasattr(library, "sqlite3_vfs_find"):
            library.sqlite3_vfs_find.restype = ctypes.POINTER(_Layer)
            return library.sqlite3_vfs_find(None)
    return None


@contextmanager
def watched(watch: Callable[[str, tuple[int, ...]], int | None]) -> Iterator[None]:
    """Call ``watch(call, arguments)`` before each; an errno from it makes the call fail."""
    layer = find_layer()
    kept = []
    for name, (result, *arguments) in CALLS.items():
        kind = ctypes.CFUNCTYPE(result, *arguments, use_errno=True)
        original = layer.contents.get_call(layer, name.encode())
        if not original:
            continue

        def call(*given: int, name: str = name, real: object = kind(original)) -> int:
            number = watch(name, given)
            if number is None:
                return real(*given)
            ctypes.set_errno(number)
            return -1

        kept.append((name, kind(call)))
    for name, replaced in kept:
        pointer = ctypes.cast(replaced, _POINTER)
        assert layer.contents.set_call(layer, name.encode(), pointer) == 0
    try:
        yield
    finally:
        for name, _ in kept:
            layer.contents.set_call(layer, name.encode(), None)
