"""Every likely mistake is one line that names it and the way out; the table is made from here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .. import made_data
from ..command import command

TABLE = Path(__file__).parents[2] / "docs" / "reference" / "messages.md"

QUICK = " ".join(made_data.settings_of("gray"))
"""Not shown in the table: settings that make the training behind it short."""


@dataclass(frozen=True)
class Mistake:
    """What is typed in a folder that holds DATA and RUN, and words that must be in the answer."""

    title: str
    typed: str
    words: tuple[str, ...]
    status: int = 1
    prepare: Callable[[Path], None] | None = None


def at_prompt(title: str, typed: str, *words: str) -> Mistake:
    """Refused while the command line is read."""
    return Mistake(title, typed, words, status=2)


def wrong(title: str, typed: str, *words: str) -> Mistake:
    return Mistake(title, typed, words)


def spoilt(title: str, typed: str, prepare: Callable[[Path], None], *words: str) -> Mistake:
    return Mistake(title, typed, words, prepare=prepare)


# --- what is made wrong before the command --------------------------------------------------------


def a_file(here: Path) -> None:
    (here / "FILE").write_text("words\n")


def an_empty_folder(here: Path) -> None:
    (here / "EMPTY").mkdir()


def no_labels(here: Path) -> None:
    shutil.rmtree(here / "DATA/labels")


def only_weak(here: Path) -> None:
    shutil.rmtree(here / "DATA/labels/strong")


def only_strong(here: Path) -> None:
    shutil.rmtree(here / "DATA/labels/weak")


def one_bad(here: Path) -> None:
    (here / "DATA/images/s0.png").write_bytes(b"")


def two_bad(here: Path) -> None:
    one_bad(here)
    (here / "DATA/labels/weak/ann/s1.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def bad_toml(here: Path) -> None:
    (here / "my.toml").write_text("[batch\nsize = 4\n")


def unknown_in_toml(here: Path) -> None:
    (here / "my.toml").write_text("[optimizer]\nlearning_rate = 0.1\n")


def no_checkpoint(here: Path) -> None:
    shutil.rmtree(here / "RUN/checkpoints")


def damaged_checkpoints(here: Path) -> None:
    for path in (here / "RUN/checkpoints").glob("*/main.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])


def settings_edited(here: Path) -> None:
    path = here / "RUN/settings.toml"
    path.write_text(path.read_text().replace("seed = 0", "seed = 1"))


def _trained(here: Path, *options: str) -> None:
    typed = f"train DATA --out OWN --steps 1 --quiet {QUICK}"
    assert command(*shlex.split(typed), *options).status == 0


def data_gone(here: Path) -> None:
    _trained(here)
    shutil.rmtree(here / "DATA")


def label_changed(here: Path) -> None:
    _trained(here)
    for path in (here / "DATA/labels/strong").iterdir():
        with Image.open(path) as image:
            changed = np.asarray(image).copy()
        changed[0, 0] = 255
        Image.fromarray(changed).save(path)


def weak_label_changed(here: Path) -> None:
    _trained(here)
    (here / "DATA/labels/weak/ann/s0.png").write_bytes(
        (here / "DATA/labels/weak/ann/s1.png").read_bytes()
    )


def strong_only(here: Path) -> None:
    shutil.rmtree(here / "DATA/labels/weak")
    _trained(here)


def nothing_held_out(here: Path) -> None:
    (here / "DATA/splits.csv").unlink()
    _trained(here, "--set", "input.val_share=0")


def two_named_alike(here: Path) -> None:
    for name in ("a/s.png", "b/s.png"):
        (here / name).parent.mkdir()
        shutil.copy(here / "DATA/images/s0.png", here / name)


def colours(here: Path) -> None:
    (here / "NEW").mkdir()
    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(here / "NEW/c.png")


def volumes(here: Path) -> None:
    (here / "NEW").mkdir()
    np.save(here / "NEW/v.npy", np.zeros((4, 9, 8)))


def cut_short(here: Path) -> None:
    shutil.copytree(here / "DATA/images", here / "NEW")
    path = here / "NEW/s3.png"
    path.write_bytes(path.read_bytes()[:60])


def two_cut_short(here: Path) -> None:
    cut_short(here)
    (here / "NEW/s5.png").write_bytes(b"")


def only_words(here: Path) -> None:
    (here / "NEW").mkdir()
    (here / "NEW/notes.txt").write_text("words\n")


def own_network(here: Path) -> None:
    (here / "RUN").rename(here / "BUILTIN")
    _trained(here, "--set", "network.name=torch.nn:Conv2d", *_CONVOLUTION)


def weights(change: Callable[[str], str]) -> Callable[[Path], None]:
    """The weights of RUN, with a change, in a file of their own."""

    def write(here: Path) -> None:
        text = (here / "RUN/weights.csv").read_text()
        (here / "W.csv").write_text(change(text), encoding="latin-1")

    return write


def weight(value: str) -> Callable[[Path], None]:
    """One weak label's weight replaced."""
    return weights(lambda text: re.sub(r"(ann/s0.png,weak,s0,ann),[^,]*", rf"\1,{value}", text))


_CONVOLUTION = ("--set", "network.arguments={kernel_size=1}")

NEW_RUN = "train DATA --out NEW"
GIVEN = f"{NEW_RUN} --set weighting.given=W.csv"

MISTAKES = [
    # --- the command line itself
    at_prompt("misspelt command", "evalute RUN", '"evaluate"'),
    at_prompt("misspelt option", "train DATA --ouut NEW", "--out"),
    at_prompt("option without its value", "train DATA --out NEW --steps", "--steps"),
    at_prompt("a word for a number", "train DATA --out NEW --steps many", "--steps", "many"),
    at_prompt("misspelt split", "evaluate RUN --split tets", "--split", "test"),
    at_prompt("misspelt checkpoint", "evaluate RUN --checkpoint bets", "--checkpoint", "best"),
    at_prompt("misspelt model", "evaluate RUN --model auxilary", "--model", "auxiliary"),
    at_prompt("a word for a tolerance", "evaluate RUN --tolerance few", "--tolerance", "few"),
    at_prompt("no run folder", "evaluate", "RUN"),
    at_prompt("no inputs", "predict RUN --out LABELS", "INPUTS"),
    at_prompt("one word too many", "check DATA DATA", "DATA"),
    # --- the data folder
    wrong("no such data folder", "check DATTA", "DATTA", "not a folder"),
    wrong("training on no such folder", "train DATTA --out NEW", "DATTA", "not a folder"),
    spoilt("a file for a folder", "check FILE", a_file, "FILE", "not a folder"),
    spoilt("an empty folder", "check EMPTY", an_empty_folder, "EMPTY", "images/"),
    spoilt("images without labels", "check DATA", no_labels, "labels/strong"),
    spoilt("one bad file", NEW_RUN, one_bad, "s0.png", "--allow-bad 1"),
    spoilt("more bad files than allowed", f"{NEW_RUN} --allow-bad 1", two_bad, "2 problems"),
    spoilt("only weak labels", NEW_RUN, only_weak, "strong", "--preset pooled"),
    spoilt(
        "only weak labels for strong_only", f"{NEW_RUN} --preset strong_only", only_weak, "strong"
    ),
    # --- folders for runs
    wrong("train without anything", "train", "labelmend train DATA --out RUN"),
    wrong("no --out", "train DATA", "labelmend train DATA --out RUN"),
    wrong("no data", "train --out NEW", "labelmend train DATA --out RUN"),
    wrong("--out is another run", "train DATA --out RUN", "not empty", "--resume"),
    wrong("--out is the data", "train DATA --out DATA", "not empty"),
    spoilt("--out is a file", "train DATA --out FILE", a_file, "FILE is a file"),
    spoilt("--out is below a file", "train DATA --out FILE/NEW", a_file, "FILE is a file"),
    wrong("no run at all", "evaluate NOWHERE", "NOWHERE", "--out"),
    wrong("a folder that is no run", "evaluate DATA", "no run", "DATA"),
    spoilt("a file for a run", "report FILE", a_file, "no run", "FILE"),
    spoilt("run without a checkpoint", "evaluate RUN", no_checkpoint, "RUN", "no checkpoint"),
    spoilt("every checkpoint damaged", "evaluate RUN", damaged_checkpoints, "main.safetensors"),
    spoilt("settings of a run edited", "evaluate RUN", settings_edited, "settings.toml"),
    # --- settings
    wrong("misspelt preset", f"{NEW_RUN} --preset weihted", "'weihted'", "'weighted'"),
    wrong("misspelt preset to print", "settings --preset poolled", "'pooled'"),
    wrong("misspelt setting", f"{NEW_RUN} --set batch.sise=4", "'batch.sise'", "'batch.size'"),
    wrong("misspelt section", f"{NEW_RUN} --set bach.size=4", "'bach'", "'batch'"),
    wrong("a value for a section", f"{NEW_RUN} --set batch=4", "'batch'"),
    wrong("a section in a value", f"{NEW_RUN} --set seed.x=4", "'seed'"),
    wrong("a setting without a value", f"{NEW_RUN} --set batch.size", "key=value"),
    wrong("a word for a number in a setting", f"{NEW_RUN} --set batch.size=four", "'batch.size'"),
    wrong("no such settings file", f"{NEW_RUN} --config my.toml", "my.toml"),
    spoilt("settings that are no TOML", f"{NEW_RUN} --config my.toml", bad_toml, "line 1"),
    spoilt(
        "misspelt section in a file",
        f"{NEW_RUN} --config my.toml",
        unknown_in_toml,
        "my.toml",
        "'optimiser'",
    ),
    wrong("a folder for a settings file", f"{NEW_RUN} --config DATA", "DATA", "directory"),
    wrong("0 steps", f"{NEW_RUN} --steps 0", "'steps'", "1"),
    wrong("steps and epochs", f"{NEW_RUN} --steps 3 --epochs 2", "steps and epochs"),
    wrong("0 epochs", f"{NEW_RUN} --epochs 0", "'epochs'"),
    wrong("negative seed", f"{NEW_RUN} --seed -1", "'seed'"),
    wrong("negative number of workers", f"{NEW_RUN} --workers -1", "'input.workers'"),
    wrong("no such device", f"{NEW_RUN} --device tpu", "'device'", "'cuda'"),
    wrong("batch of nothing", f"{NEW_RUN} --set batch.size=0", "'batch.size'"),
    wrong("batch too small for strong and weak", f"{NEW_RUN} --set batch.size=1", "batch.size"),
    wrong("more parts than samples", f"{NEW_RUN} --set batch.accumulate=9", "batch.accumulate"),
    wrong("a share above 1", f"{NEW_RUN} --set batch.strong_share=1.5", "'batch.strong_share'"),
    wrong("misspelt loss", f"{NEW_RUN} --set loss=dise", "'dise'", "'dice'"),
    wrong("misspelt network", f"{NEW_RUN} --set network.name=nope", "'nope'", "module:Class"),
    wrong(
        "a network in no module",
        f"{NEW_RUN} --set network.name=nomodule:Net",
        "'nomodule:Net'",
        "PYTHONPATH",
    ),
    wrong("a module without the network", f"{NEW_RUN} --set network.name=json:Net", "'Net'"),
    wrong("a network that is no class", f"{NEW_RUN} --set network.name=json:__name__", "class"),
    wrong(
        "a network that is no network", f"{NEW_RUN} --set network.name=json:JSONDecoder", "Module"
    ),
    wrong(
        "an argument that the network lacks",
        f"{NEW_RUN} --set network.arguments={{x=1}}",
        "'unet'",
        "x=1",
    ),
    wrong("patch of too few axes", f"{NEW_RUN} --set input.patch=[8]", "input.patch", "2"),
    wrong("patch of no size", f"{NEW_RUN} --set input.patch=[0,8]", "input.patch"),
    wrong("patch as one number", f"{NEW_RUN} --set input.patch=8", "'input.patch'"),
    wrong(
        "size and spacing together",
        f"{NEW_RUN} --set input.size=[8,8] --set input.spacing=[1,1]",
        "input.spacing and input.size",
    ),
    wrong("size of too few axes", f"{NEW_RUN} --set input.size=[8]", "input.size", "2"),
    wrong("spacing that files do not say", f"{NEW_RUN} --set input.spacing=[1,1]", "input.size"),
    wrong("spectrogram of an image", f"{NEW_RUN} --set input.spectrogram=true", "spectrogram"),
    wrong("percentiles in reverse", f"{NEW_RUN} --set input.percentiles=[99,1]", "percentiles"),
    # --- weights
    *(
        wrong(f"misspelt {title}", f"{NEW_RUN} --set weighting.{setting}", *words)
        for title, setting, *words in (
            ("signal", "signal=los", "'weighting.signal'", "'loss'"),
            ("update", "update=adm", "'weighting.update'", "'adam'"),
            ("curvature", "curvature=gauss", "'weighting.curvature'", "'gauss_newton'"),
            ("choice of parameters", "parameters=decodr", "'decodr'", "'decoder'", "list"),
            ("list of parameters", "parameters=[head]", "'[head]'", "list"),
        )
    ),
    wrong(
        "misspelt name of parameters",
        f"""{NEW_RUN} --set 'weighting.parameters=["haed"]'""",
        "'haed'",
        "names are like",
    ),
    wrong(
        "initial weight above the highest",
        f"{NEW_RUN} --set weighting.initial=1.5",
        "weighting.initial",
        "weighting.highest",
    ),
    wrong("a mean weight that is no band", f"{NEW_RUN} --set weighting.mean=0.5", "list"),
    wrong("half a band", f"{NEW_RUN} --set weighting.mean=[0.5]", "'weighting.mean'", "longer"),
    wrong(
        "more than a band", f"{NEW_RUN} --set weighting.mean=[0.1,0.2,0.3]", "'weighting.mean'", "2"
    ),
    wrong("a band upside down", f"{NEW_RUN} --set weighting.mean=[0.6,0.4]", "[0.4, 0.6]"),
    wrong(
        "a cosine of what has no gradient",
        f"{NEW_RUN} --set weighting.signal=fit --set weighting.update=cosine",
        "weighting.signal",
        "weighting.update",
    ),
    wrong(
        "held out for gradients that nobody asks for",
        f"{NEW_RUN} --set weighting.signal=loss --set weighting.held_out=0.5",
        "weighting.held_out",
    ),
    wrong(
        "all strong labels held out",
        f"{NEW_RUN} --set weighting.held_out=0.95",
        "weighting.held_out",
        "none to train on",
    ),
    wrong(
        "weight steps too often for their overhead",
        f"{NEW_RUN} --set weighting.every=2",
        "weighting.overhead",
        "weighting.every",
    ),
    wrong(
        "a wait too short for the overhead",
        f"{NEW_RUN} --set weighting.longest_wait=9",
        "longest_wait is 9",
        "weighting.overhead = ",
    ),
    wrong(
        "loading further ahead than weights are known",
        f"{NEW_RUN} --workers 20 --set weighting.use=sampler",
        "input.workers",
        "weighting.every = 39",
    ),
    wrong("no such weights", f"{GIVEN}", "W.csv"),
    wrong("a folder for weights", f"{NEW_RUN} --set weighting.given=DATA", "DATA"),
    spoilt(
        "weights without their columns",
        GIVEN,
        weights(lambda text: text.replace("weight", "gamma", 1)),
        "label and weight",
    ),
    spoilt("weights of no label", GIVEN, weights(lambda text: text.splitlines()[0]), "label"),
    spoilt("weights in another encoding", GIVEN, weights(lambda text: text + "é"), "UTF-8"),
    spoilt("weights with a torn row", GIVEN, weights(lambda text: text[:-9]), "W.csv", "rows"),
    spoilt(
        "a weight of a strange label",
        GIVEN,
        weights(lambda text: text.replace("ann/s0.", "ann/s99.")),
        "labels/weak/ann/s99.png",
        "labels/",
    ),
    spoilt(
        "labels without a weight",
        GIVEN,
        weights(lambda text: "".join(r for r in text.splitlines(True) if "/bob/" not in r)),
        "labels/weak/bob/s",
        "more",
    ),
    spoilt(
        "a label with two weights",
        GIVEN,
        weights(lambda text: text + text.splitlines(True)[-1]),
        "several rows",
    ),
    spoilt("a weight out of range", GIVEN, weight("1.5"), "ann/s0.png", "from 0 to 1", "'1.5'"),
    spoilt("a weight below 0", GIVEN, weight("-0.1"), "ann/s0.png", "'-0.1'"),
    spoilt("a weight that is NaN", GIVEN, weight("nan"), "ann/s0.png", "'nan'"),
    spoilt("a word for a weight", GIVEN, weight("half"), "ann/s0.png", "'half'"),
    spoilt("no number for a weight", GIVEN, weight(""), "ann/s0.png", "''"),
    # --- going on
    wrong("two models without mixed images", f"{NEW_RUN} --set dual.use=true", "--mix --dual"),
    wrong(
        "two models that learn labels",
        f"{NEW_RUN} --dual --set mixing.target=labels",
        "dual.use",
        "mixing.target",
    ),
    wrong(
        "a gate for labels",
        f"{NEW_RUN} --mix --set mixing.target=labels --set mixing.gate=0.5",
        "mixing.gate",
        "'predictions'",
    ),
    wrong("an odd batch of pairs", f"{NEW_RUN} --mix --set batch.size=3", "batch.size", "4", "3"),
    wrong(
        "strong images first, none weak",
        f"{NEW_RUN} --mix --set mixing.pairs=strong_first --set batch.strong_share=1.0",
        "mixing.pairs",
        "batch.strong_share",
        "'alike'",
    ),
    wrong(
        "strong images first, drawn by weight",
        f"{NEW_RUN} --mix --set mixing.pairs=strong_first --set weighting.use=sampler",
        "weighting.use",
        "mixing.pairs",
    ),
    wrong(
        "probabilities for a loss of classes",
        f"{NEW_RUN} --dual --set loss=focal --set mixing.hard=false",
        "'focal'",
        "dice_ce",
    ),
    wrong(
        "turned labels that move together",
        f"{NEW_RUN} --align rigid --set align.per=annotator",
        "align.per",
        "'shift'",
    ),
    wrong(
        "turned labels held in the middle",
        f"{NEW_RUN} --align affine --set align.centred=true",
        "align.centred",
        "'shift'",
    ),
    wrong(
        "labels moved out of their patches",
        f"{NEW_RUN} --align shift --set align.window=400",
        "align.window",
        "input.patch",
    ),
    wrong(
        "misspelt score",
        f"{NEW_RUN} --align shift --set align.score=normalized",
        "align.score",
        "'normalised'",
    ),
    wrong("--resume with another alignment", "train --resume RUN --align shift", "--resume"),
    wrong("--resume with other options", "train --resume RUN --steps 9", "--resume", "--out"),
    wrong("--resume with a preset", "train --resume RUN --preset pooled", "--resume"),
    wrong("--resume with mixed images", "train --resume RUN --mix", "--resume"),
    wrong("--resume with data", "train DATA --resume RUN", "--resume"),
    wrong("--resume of no run", "train --resume DATA", "no run", "DATA"),
    spoilt("--resume without a checkpoint", "train --resume RUN", no_checkpoint, "no checkpoint"),
    spoilt("--resume with changed labels", "train --resume OWN", label_changed, "changed"),
    spoilt("--resume with the data gone", "train --resume OWN", data_gone, "DATA"),
    # --- judging and predicting
    wrong("split without strong labels", "evaluate RUN --split test", "test", "--split val"),
    spoilt("nothing held out", "evaluate OWN", nothing_held_out, "--split train", "test_share"),
    spoilt("a label changed since", "evaluate OWN", label_changed, "labels/strong", "new run"),
    spoilt("the data gone", "evaluate OWN", data_gone, "DATA", "labelmend attach"),
    wrong("data attached that are none", "attach RUN NOWHERE", "NOWHERE", "images/"),
    spoilt("data attached that changed", "attach OWN DATA", label_changed, "labels/strong"),
    wrong("negative tolerance", "evaluate RUN --tolerance -1", "tolerance", "0 (off)", "-1"),
    wrong("tolerance beyond all images", "evaluate RUN --tolerance 9999", "511", "9999"),
    wrong("device that is not there", "evaluate RUN --device tpu", "'tpu'", "auto, cpu"),
    wrong("second network of a run that trained one", "evaluate RUN --model auxiliary", "--dual"),
    wrong("both networks where there is one", "predict RUN DATA/images --model ensemble", "--dual"),
    spoilt("own network not named", "evaluate OWN", own_network, "--network torch.nn:Conv2d"),
    spoilt(
        "another network named",
        "evaluate OWN --network torch.nn:Conv3d",
        own_network,
        "'torch.nn:Conv3d'",
    ),
    wrong("network named in vain", "evaluate RUN --network mine:Net", "'unet'", "--network"),
    wrong("no such input", "predict RUN NEW --out LABELS", "NEW"),
    spoilt("nothing readable", "predict RUN NEW --out LABELS", only_words, "NEW", ".png"),
    spoilt("text for an image", "predict RUN FILE --out LABELS", a_file, "FILE", "suffix"),
    wrong("the data set for its images", "predict RUN DATA --out LABELS", "DATA/images"),
    spoilt(
        "two inputs of one name",
        "predict RUN a b --out LABELS",
        two_named_alike,
        "a/s.png",
        "b/s.png",
    ),
    wrong("one setting two ways", f"{NEW_RUN} --set batch=4 --set batch.size=4", "'batch'"),
    wrong("predictions over their inputs", "predict RUN DATA/images --out DATA/images", "--out"),
    spoilt("colour for grey", "predict RUN NEW --out LABELS", colours, "NEW/c.png", "3 channels"),
    spoilt("a volume for an image", "predict RUN NEW --out LABELS", volumes, "NEW/v.npy"),
    spoilt("a broken image among good", "predict RUN NEW --out LABELS", cut_short, "NEW/s3.png"),
    spoilt(
        "two broken images", "predict RUN NEW --out LABELS", two_cut_short, "2 of 8", "the first"
    ),
    spoilt("predictions into a file", "predict RUN DATA/images --out FILE", a_file, "FILE"),
    spoilt("predictions below a file", "predict RUN DATA/images --out FILE/x", a_file, "FILE"),
    # --- labels put in place
    at_prompt("fixed labels without a folder", "fix RUN", "--out"),
    at_prompt("misspelt way to align", f"{NEW_RUN} --align shfit", "--align", "shift"),
    at_prompt("misspelt way to move", "fix RUN --out NEW --align afine", "--align", "affine"),
    wrong("bending by a run that has not learned it", "fix RUN --out NEW --align warp", "warp"),
    wrong("fixed labels over the data set", "fix RUN --out DATA", "DATA", "not empty", "--out"),
    spoilt("fixed labels inside it", "fix OWN --out DATA/labels/new", _trained, "lies in", "--out"),
    spoilt("fixed labels into a file", "fix RUN --out FILE", a_file, "FILE"),
    spoilt("labels changed since training", "fix OWN --out NEW", weak_label_changed, "ann/s0.png"),
    spoilt("no weak label to fix", "fix OWN --out NEW", strong_only, "no weak label"),
    # --- the demonstration
    wrong("demo into a folder in use", "demo --out DATA", "DATA", "not empty"),
    wrong("demo of 0 steps", "demo --steps 0", "steps"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and a finished run."""
    folder = tmp_path_factory.mktemp("messages")
    data = made_data.gray(folder / "DATA")
    options = shlex.split(f"--steps 2 --quiet {QUICK}")
    assert command("train", str(data), "--out", str(folder / "RUN"), *options).status == 0
    return folder


@pytest.fixture
def here(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with its own copies of both."""
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


_SAID: dict[str, str] = {}


def _titles() -> list[str]:
    return [each.title for each in MISTAKES]


@pytest.mark.parametrize("each", MISTAKES, ids=_titles())
def test_one_line_says_what_and_the_way_out(each: Mistake, here: Path, base: Path) -> None:
    if each.prepare is not None:
        each.prepare(here)
    there = (here / "NEW").exists()
    done = command(*shlex.split(each.typed))
    said = _plain(done.err, here, base)
    assert done.status == each.status, said
    assert said.startswith("labelmend: ") and said.count("\n") == 1 and said.endswith("\n")
    for word in each.words:
        assert word in said, said
    for never in ("internal error", "Traceback", "NoneType", "Errno"):
        assert never not in said
    assert 20 < len(said) < 500, said
    assert (here / "NEW").exists() == there, "what was refused must not stand in the way"
    _SAID[each.title] = said.strip()


def test_titles_differ() -> None:
    assert len(set(_titles())) == len(MISTAKES)


def test_table_is_what_is_printed(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, each in enumerate(MISTAKES):
        if each.title not in _SAID:
            folder = tmp_path / str(number)
            shutil.copytree(base, folder)
            monkeypatch.chdir(folder)
            if each.prepare is not None:
                each.prepare(folder)
            done = command(*shlex.split(each.typed))
            _SAID[each.title] = _plain(done.err, folder, base).strip()
    text = _table()
    if os.environ.get("LABELMEND_UPDATE_DOCS") == "1":
        TABLE.write_text(text, encoding="utf-8")
    hint = "make the table anew: LABELMEND_UPDATE_DOCS=1 pytest tests/system/test_messages.py"
    assert TABLE.read_text(encoding="utf-8") == text, hint


def _plain(text: str, *folders: Path) -> str:
    """Without the places that differ from machine to machine."""
    for folder in folders:
        for place in (folder, folder.resolve()):
            text = text.replace(f"{place}/", "").replace(str(place), ".")
    return re.sub(r"[0-9a-f]{12}…", "…", text)


def _table() -> str:
    lines = [
        "# What mistakes print",
        "",
        "Made by `tests/system/test_messages.py`, which makes every mistake in a folder with data",
        "in `DATA` and a finished run in `RUN`. Each prints this one line on standard error and",
        f"ends with status 1, or 2 where the command line is wrong. {len(MISTAKES)} mistakes;",
        "[bad files](bad-input.md) have a table of their own.",
        "",
        "| mistake | what is typed | what is said |",
        "|---|---|---|",
    ]
    for each in MISTAKES:
        said = _SAID[each.title].removeprefix("labelmend: ").replace("|", "\\|")
        lines.append(f"| {each.title} | `labelmend {each.typed}` | {said} |")
    return "\n".join(lines) + "\n"
