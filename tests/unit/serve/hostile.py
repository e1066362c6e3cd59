"""Requests that nobody means well with: bodies, headers, queries and addresses."""

from __future__ import annotations

import gzip
import io
import random
import string
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import nibabel
import numpy as np
import soundfile
import tifffile
from PIL import Image

SUFFIXES = (
    *(".png", ".jpg", ".tif", ".ome.tif", ".nii", ".nii.gz", ".npy", ".npz", ".wav", ".flac"),
    *(".csv", ".txt", ".exe", "", ".PNG", ".svs"),
)
ANSWERS = ("file", "png", "tiff", "nifti", "npy", "csv", "overlay", "rle", "json", "zip", "")
KINDS = ("image/png", "text/csv", "application/octet-stream", "multipart/form-data", "\xff", "")
PATHS = ("/", "/v1", "/v1/predict/", "/v1/model", "/v1/looks/x/image", "/metrics", "/static/..")


def good() -> dict[str, bytes]:
    """A whole file of every kind; some fit the network and some do not."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (20, 24)).astype(np.uint8)
    streams = {name: io.BytesIO() for name in (".png", ".jpg", ".tif", ".npy", ".npz", ".wav")}
    Image.fromarray(grey).save(streams[".png"], "PNG")
    Image.fromarray(grey).save(streams[".jpg"], "JPEG")
    tifffile.imwrite(streams[".tif"], grey, compression="zlib")
    np.save(streams[".npy"], grey)
    np.savez_compressed(streams[".npz"], image=grey)
    soundfile.write(streams[".wav"], rng.normal(0, 0.1, 400), 400, format="WAV")
    found = {name: stream.getvalue() for name, stream in streams.items()}
    found[".flac"] = _flac(rng)
    volume = nibabel.Nifti1Image(rng.normal(size=(9, 10, 7)).astype(np.float32), np.eye(4))
    found[".nii"] = volume.to_bytes()
    found[".nii.gz"] = gzip.compress(found[".nii"])
    found[".csv"] = b"time_s,value\n" + b"".join(b"%g,%g\n" % (n / 9, n) for n in range(40))
    return found


def _flac(rng: np.random.Generator) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, rng.normal(0, 0.1, 400), 400, format="FLAC")
    return stream.getvalue()


def bombs() -> dict[str, bytes]:
    """Small files that promise to be large."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    png += struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IEND\xaeB`\x82"
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        npy, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": print}], object), allow_pickle=True)
    zeros = gzip.compress(b"\0" * 30_000_000)
    return {".png": png, ".npy": npy.getvalue(), ".nii.gz": zeros, ".npz": objects.getvalue()}


def _spoilt(rng: random.Random, content: bytes) -> bytes:
    """Bits turned, cut, doubled, or made up."""
    way = rng.randrange(6)
    if way == 0:
        return content
    if way == 1:
        return content[: rng.randrange(len(content) + 1)]
    if way == 2:
        return content + content[: rng.randrange(999)]
    if way == 3:
        return rng.randbytes(rng.randrange(400))
    changed = bytearray(content)
    for _ in range(rng.choice((1, 3, 30))):
        if changed:
            changed[rng.randrange(min(len(changed), 120 if way == 4 else 10**9))] = rng.randrange(
                256
            )
    return bytes(changed)


def _text(rng: random.Random) -> str:
    letters = string.printable + "äß\u202e\U0001f40d\x00"
    return "".join(rng.choice(letters) for _ in range(rng.choice((0, 1, 5, 40, 300))))


def _query(rng: random.Random, suffix: str) -> list[tuple[str, str]]:
    name = rng.choice((f"a{suffix}", f"../../{_text(rng)}{suffix}", _text(rng)))
    query = [("name", name)] if rng.random() < 0.9 else []
    values = {
        "answer": ANSWERS,
        "conclusions": ("true", "false", "1", "x", ""),
        "smallest": ("1", "2", "-1", "1e9", "9" * 400, ""),
        "flips": ("true", "0", "maybe"),
        "look": ("true", "false"),
        "channels": ("first", "last", "none", "x"),
        "other": ("1",),
    }
    for key, choice in values.items():
        if rng.random() < 0.2:
            query += [(key, rng.choice(choice))] * rng.choice((1, 1, 1, 2))
    return query


def _headers(rng: random.Random) -> list[tuple[str, bytes]]:
    plain = [c for c in string.printable if c not in "\r\n\x0b\x0c"]
    nonsense = "".join(rng.choice(plain) for _ in range(rng.randrange(1, 60))).strip().encode()
    choices = [
        ("Content-Type", rng.choice(KINDS).encode("latin-1")),
        ("Content-Disposition", b"attachment; filename=" + nonsense),
        ("Content-Disposition", b"attachment; filename*=UTF-8''%ff" + nonsense),
        ("Authorization", nonsense),
        ("Accept", nonsense),
        ("X-Forwarded-For", nonsense),
        ("Range", b"bytes=0-" + nonsense),
        ("Cookie", nonsense * 20),
    ]
    return rng.sample(choices, rng.randrange(3))


def requests_of(rng: random.Random, many: int) -> Iterator[dict[str, Any]]:
    """Arguments for ``httpx.Client.request``."""
    whole, promising = good(), bombs()
    for number in range(many):
        suffix = rng.choice(SUFFIXES)
        content = whole.get(suffix.lower(), b"words\n")
        if rng.random() < 0.1:
            suffix, content = rng.choice(sorted(promising.items()))
        if rng.random() < 0.15:
            content = rng.choice(list(whole.values()))
        content = _spoilt(rng, content)
        if number % 50 == 7:
            content = b"\0" * (2**20 + rng.choice((1, 2**18)))
        path = rng.choice(PATHS) if rng.random() < 0.08 else "/v1/predict"
        yield {
            "method": rng.choice(("POST",) * 12 + ("GET", "PUT", "DELETE", "PATCH", "HEAD")),
            "url": path,
            "params": _query(rng, suffix),
            "headers": _headers(rng),
            "content": content,
        }
