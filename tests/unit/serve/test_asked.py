"""What is asked is understood, or refused by name; names lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st

from labelmend.files.formats import SUFFIXES, kind_of
from labelmend.serve.asked import KNOWN, TYPES, Question, check_query, name_of


@pytest.mark.parametrize(
    ("given", "headers", "name"),
    [
        ("scan.png", {}, "scan.png"),
        ("Scan.NII.GZ", {}, "Scan.nii.gz"),
        ("a/b\\c.tif", {}, "c.tif"),
        ("../../etc/x.npy", {}, "x.npy"),
        ("C:\\x\\y.wav", {}, "y.wav"),
        ("a\x00\n.png", {}, "a__.png"),
        ("x" * 240 + ".png", {}, "x" * 150 + ".png"),
        (None, {"content-type": "image/png"}, "image.png"),
        (None, {"content-type": "Image/PNG; x=y"}, "image.png"),
        (None, {"content-type": "application/gzip"}, "image.nii.gz"),
        ("s.tif", {"content-type": "image/png"}, "s.tif"),
        (None, {"content-disposition": 'attachment; filename="b.jpg"'}, "b.jpg"),
        (None, {"content-disposition": "attachment; filename*=UTF-8''%C3%A4.png"}, "ä.png"),
        (None, {"content-disposition": "inline", "content-type": "text/csv"}, "image.csv"),
    ],
)
def test_what_a_file_is_called(given: str | None, headers: dict[str, str], name: str) -> None:
    assert name_of(given, headers) == name


@pytest.mark.parametrize(
    ("given", "headers", "words"),
    [
        (None, {}, "say what is sent"),
        (None, {"content-type": "application/octet-stream"}, "say what is sent"),
        ("a.txt", {}, ".txt files are not read"),
        ("png", {}, "without a suffix"),
        (".png", {}, "without a suffix"),
        ("a.png/", {}, None),
        ("a.png/..", {}, "files are not read"),
        ("s.png", {"content-type": "multipart/form-data; boundary=x"}, "send the file itself"),
        (None, {"content-disposition": "attachment; filename*=x'y"}, "without a suffix"),
    ],
)
def test_what_is_not_read_is_refused(given: str, headers: dict[str, str], words: str) -> None:
    if words is None:
        assert name_of(given, headers) == "a.png"
        return
    with pytest.raises(HTTPException) as refused:
        name_of(given, headers)
    assert refused.value.status_code == 415
    assert words in refused.value.detail


@given(st.text(min_size=1, max_size=255), st.sampled_from(sorted(SUFFIXES)))
def test_names_never_hold_a_folder(text: str, suffix: str) -> None:
    try:
        name = name_of(text + suffix, {})
    except HTTPException as refused:
        assert refused.status_code == 415
        return
    assert Path(name).name == name and name.isprintable()
    assert not {"/", "\\", "\0"} & set(name)
    assert len(name) <= 170
    assert kind_of(name)


@given(st.text(max_size=80), st.text(max_size=80))
def test_nonsense_in_headers_is_a_415_at_most(kind: str, disposition: str) -> None:
    headers = {"content-type": kind, "content-disposition": disposition}
    try:
        kind_of(name_of(None, headers))
    except HTTPException as refused:
        assert refused.status_code == 415


def test_every_type_that_is_named_says_a_format() -> None:
    for kind in TYPES:
        assert kind_of(name_of(None, {"content-type": kind}))


@pytest.mark.parametrize(
    ("question", "word"),
    [
        (Question("a.png", conclusions=True), "conclusions"),
        (Question("a.png", "overlay", conclusions=True), "conclusions"),
        (Question("a.png", "rle", look=True), "look"),
        (Question("a.png", "json", smallest=2), "smallest"),
    ],
)
def test_what_does_not_go_together_is_refused(question: Question, word: str) -> None:
    with pytest.raises(HTTPException) as refused:
        question.check()
    assert refused.value.status_code == 422
    assert refused.value.detail.startswith(f"{word}:")


def test_what_goes_together_does() -> None:
    Question("a.png").check()
    Question("a.png", "rle", conclusions=True, smallest=4).check()
    Question("a.png", "json", conclusions=True, look=True).check()


def test_a_query_with_a_word_nobody_knows_is_refused() -> None:
    check_query(KNOWN)
    for query, word in ((["anwser"], "anwser: is not known"), (["name", "name"], "name: is there")):
        with pytest.raises(HTTPException) as refused:
            check_query(query)
        assert refused.value.detail.startswith(word)
