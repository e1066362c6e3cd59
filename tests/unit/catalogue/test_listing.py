"""Labels without an image: what is suggested, and that asking for it does not grow with both."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest

from labelmend.catalogue.listing import list_pairs
from labelmend.catalogue.splits import read_splits
from labelmend.catalogue.toml import read_description


def data(root: Path, images: list[str], labels: list[str]) -> Path:
    for folder, names in (("images", images), ("labels/strong", labels)):
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).write_bytes(b"x")
    return root


@pytest.mark.parametrize("end", ["_mask", "_label", "_seg"])
def test_an_image_of_the_same_stem_but_for_its_end_is_offered(end: str, tmp_path: Path) -> None:
    root = data(tmp_path, ["a_1.png", "a_2.png"], [f"a_1{end}.png", "A_2.png"])
    first, second = list_pairs(root).problems
    assert first.file == "labels/strong/A_2.png" and "only in case" in first.message
    assert second.message.endswith("; did you mean 'a_1'?")


def test_only_the_first_problems_look_for_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = difflib.get_close_matches

    def counting(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments[0])
        return real(*arguments, **options)

    monkeypatch.setattr(difflib, "get_close_matches", counting)
    names = [f"p{i:03d}.png" for i in range(60)]
    root = data(tmp_path, names, [f"x{name}" for name in names])
    problems = list_pairs(root).problems
    assert len(problems) == 60
    assert 0 < len(asked) <= 10
    assert problems[0].message.endswith("; did you mean 'p000'?")


def test_a_byte_order_mark_in_data_toml_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_bytes(b'\xef\xbb\xbftask = "segmentation"\r\ndims = 2\r\n')
    assert read_description(tmp_path).dims == 2


def test_empty_lines_in_splits_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("group,split\n0,val\n\n , \n")
    assert read_splits(tmp_path) == {"0": "val"}
