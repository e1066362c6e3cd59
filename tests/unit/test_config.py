"""Settings: what is refused and how, and that every layer goes over the one below."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from labelmend.config import PRESETS, Settings, from_assignments, gather, preset, read_toml
from labelmend.errors import SettingsError


def fields(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every setting by its full name, with its default."""
    found: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= fields(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = info.default if info.default_factory is None else {}
    return found


FIELDS = fields(Settings)


# --- layers ---------------------------------------------------------------------------------------


def test_without_anything_everything_has_its_default() -> None:
    assert gather() == Settings() == Settings.make({})


def test_the_nearer_layer_wins(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("seed = 1\n[batch]\nsize = 3\nstrong_share = 0.25\n[network]\nwidth = 5\n")
    chosen = gather("pooled", file, ["batch.size=6", "network.depth=2"], {"seed": 2})
    assert (chosen.seed, chosen.batch.size, chosen.batch.strong_share) == (2, 6, 0.25)
    assert (chosen.network.width, chosen.network.depth) == (5, 2)
    assert chosen.weighting.method == "constant"


@pytest.mark.parametrize(("file", "typed"), [("epochs = 3", "steps"), ("steps = 3", "epochs")])
def test_the_prompt_says_how_long_over_what_a_file_says(
    file: str, typed: str, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text(file)
    chosen = gather(file=tmp_path / "my.toml", options={typed: 5})
    assert {"steps": chosen.steps, "epochs": chosen.epochs} == {
        "steps": None, "epochs": None, typed: 5
    }  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_its_file(name: str, tmp_path: Path) -> None:
    chosen = gather(name)
    (tmp_path / "my.toml").write_text(chosen.to_toml())
    assert Settings.read(tmp_path / "my.toml") == chosen
    # Everything is in the file, so that the preset below it does not matter any more.
    assert gather("weighted", tmp_path / "my.toml") == chosen


def test_presets_are_not_changed_by_what_is_laid_over_them() -> None:
    gather("pooled", assignments=["batch.size=2", "weighting.rate=0.3"])
    preset("pooled")["batch"]["size"] = 3
    assert preset("pooled")["batch"] == {"strong_share": None, "ending": "as_is"}


@pytest.mark.parametrize(
    ("name", "method", "initial", "strong_share", "use", "mixing", "dual", "ending"),
    [
        ("weighted", "gradient", 0.5, 0.5, "loss", False, False, "better"),
        ("pooled", "constant", 1.0, None, "loss", False, False, "as_is"),
        ("strong_only", "constant", 0.5, 1.0, "loss", False, False, "better"),
        ("plain", "constant", 1.0, 0.5, "loss", False, False, "better"),
        ("seed_a", "gradient", 0.5, None, "both", True, True, "as_is"),
    ],
)
def test_what_the_presets_are(
    name: str,
    method: str,
    initial: float,
    strong_share: float | None,
    use: str,
    mixing: bool,
    dual: bool,
    ending: str,
) -> None:
    chosen = gather(name)
    weighting = chosen.weighting
    assert (weighting.method, weighting.initial, weighting.use) == (method, initial, use)
    assert (chosen.batch.strong_share, chosen.mixing.use, chosen.dual.use) == (
        strong_share, mixing, dual
    )  # fmt: skip
    # ... and nothing else.
    named = {"weighting": {"method": method, "initial": initial, "use": use}}
    named |= {"batch": {"strong_share": strong_share, "ending": ending}, "mixing": {"use": mixing}}
    named |= {"dual": {"use": dual, "both": name != "seed_a"}}
    assert chosen == Settings.make(named)


def test_every_preset_is_described_and_named_as_its_function() -> None:
    assert list(PRESETS) == ["weighted", "pooled", "strong_only", "plain", "seed_a"]
    for name, make in PRESETS.items():
        assert make.__name__ == name and "Take it" in (make.__doc__ or "")
        assert make() == preset(name) and make() is not make()


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=1.5", 1.5),
        ("a=1e-3", 1e-3),
        ("a=true", True),
        ("a=none", None),
        ("a=None", None),
        ("a=word", "word"),
        ("a='none of it'", "none of it"),
        ("a=two words", "two words"),
        ("a=[1, 2]", [1, 2]),
        ("a={b = 1}", {"b": 1}),
        ("a=mine:Net", "mine:Net"),
        ("a=x=y", "x=y"),
        ("a=", ""),
        (" a = 1 ", 1),
    ],
)
def test_a_text_is_a_value(text: str, value: Any) -> None:
    assert from_assignments([text]) == {"a": value}


def test_texts_make_sections() -> None:
    texts = [
        "network.arguments.x=1",
        "network.arguments.y=[2]",
        "network.width=3",
        "seed=1",
        "seed=2",
    ]
    assert from_assignments(texts) == {
        "network": {"arguments": {"x": 1, "y": [2]}, "width": 3},
        "seed": 2,
    }


@pytest.mark.parametrize("text", ["a", "", "=1", " =1", "--a"])
def test_a_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="given as key=value"):
        from_assignments([text])


def test_a_value_cannot_become_a_section() -> None:
    with pytest.raises(SettingsError, match=r"'batch.size=2': 'batch' was given a value"):
        from_assignments(["batch=1", "batch.size=2"])


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Settings.make(from_assignments([text]))
        Settings.make(from_assignments([f"loss={text}"]))
        Settings.make(from_assignments([f"batch.{text}=1"]))
    except SettingsError as error:
        assert str(error)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_found_again_when_misspelt(name: str) -> None:
    wrong = f"{name[:-1]}{'y' if name[-1] != 'y' else 'x'}"
    if wrong in FIELDS:
        pytest.skip("that is a setting too")
    with pytest.raises(SettingsError, match="^unknown setting .* did you mean '.*'"):
        Settings.make(from_assignments([f"{wrong}=1"]))


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "network.arguments"])
def test_every_setting_refuses_what_it_cannot_be(name: str) -> None:
    nested: Any = {"no": "such thing"}
    for part in reversed(name.split(".")):
        nested = {part: nested}
    with pytest.raises(SettingsError, match=f"^setting '{name}' .*not {{'no': 'such thing'}}"):
        Settings.make(nested)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch.size=0", "setting 'batch.size' wants at least 1, not 0"),
        ("batch.size=x", "setting 'batch.size' wants a whole number, not 'x'"),
        ("batch.size=1.5", "setting 'batch.size' wants a whole number, not 1.5"),
        ("batch.size=none", "setting 'batch.size' wants a whole number, not 'none'"),
        ("batch=3", "setting 'batch' is a section; give one of its settings as batch.NAME, not 3"),
        ("batch.strong_share=2", "setting 'batch.strong_share' wants at most 1, not 2"),
        ("optimiser.learning_rate=0", "setting 'optimiser.learning_rate' wants more than 0, not 0"),
        ("optimiser.clip=nan", "setting 'optimiser.clip' wants a number, not nan"),
        ("augment.contrast=1", "setting 'augment.contrast' wants less than 1, not 1"),
        ("input.patch=8", "setting 'input.patch' wants a list, such as [64, 64], not 8"),
        ("tensorboard=7", "setting 'tensorboard' wants true or false, not 7"),
        ("loss=3", "setting 'loss' wants a word, not 3"),
        ("network.arguments=3", "setting 'network.arguments' wants names and values, "),
        ("device=tpu", "setting 'device' is one of 'auto', 'cpu', 'cuda' or 'mps', not 'tpu'"),
        ("sed=1", "unknown setting 'sed'; did you mean 'seed'?"),
        ("batch.sise=1", "unknown setting 'batch.sise'; did you mean 'batch.size'?"),
        ("optimizer.clip=1", "unknown setting 'optimizer'; did you mean 'optimiser'?"),
    ],
)
def test_a_refusal_names_the_setting_and_what_it_wants(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.make(from_assignments([text]))
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["steps=1", "epochs=1"], "steps and epochs exclude each other; keep one"),
        (
            ["input.size=[8]", "input.spacing=[1]"],
            "input.spacing and input.size exclude each other; keep one",
        ),
    ],
)
def test_settings_that_exclude_each_other(texts: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.make(from_assignments(texts))
    assert str(error.value) == said


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="unknown preset 'strong'; did you mean 'strong_only'"):
        preset("strong")


def test_a_file_is_named_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no settings file at .*none.toml"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="cannot be read: "):
        read_toml(tmp_path)
    for content in (b"seed = ", b"\xff\xfe", b"[a\n"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(SettingsError, match=r"bad.toml is not TOML in UTF-8"):
            read_toml(tmp_path / "bad.toml")
    for content in ("sed = 1", "seed = -1", "steps = 1\nepochs = 1"):
        (tmp_path / "bad.toml").write_text(content)
        with pytest.raises(SettingsError, match=r"^.*bad.toml: "):
            gather(file=tmp_path / "bad.toml")


# --- one file in, one out -------------------------------------------------------------------------


def test_the_file_holds_every_setting() -> None:
    written = tomllib.loads(Settings().to_toml())
    for name in FIELDS:
        place: Any = written
        for part in name.split("."):
            place = place[part]


@given(
    st.builds(
        lambda seed, steps, share, patch, name, arguments: {
            "seed": seed,
            "steps": steps,
            "batch": {"strong_share": share},
            "input": {"patch": patch},
            "network": {"name": name, "arguments": arguments},
        },
        st.integers(0, 2**31 - 1),
        st.none() | st.integers(1, 10**9),
        st.none() | st.floats(0, 1),
        st.none() | st.lists(st.integers(-5, 999), min_size=1, max_size=3),
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.booleans(), max_size=3),
    )
)
def test_any_settings_come_back_from_their_file(values: dict[str, Any]) -> None:
    chosen = Settings.make(values)
    assert Settings.make(tomllib.loads(chosen.to_toml())) == chosen


def test_settings_know_every_score_that_there_is() -> None:
    from typing import get_args

    from labelmend.alignment.placement import GRAIN
    from labelmend.alignment.scores import SCORES
    from labelmend.config.alignment import AlignSettings, FitScore

    assert set(get_args(FitScore)) == set(SCORES)
    assert AlignSettings().grain == GRAIN
