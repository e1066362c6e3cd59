"""The house rules that a machine can check: sizes, names, docstrings, the direction of imports.

How things are counted. A function's lines run from its ``def`` to its last line, without its
docstring. Its parameters are ``self`` and ``cls`` aside: those that a caller must give or may give
by position are at most six, and keyword-only options with a default at most six beside them.
``training`` and the rooms above it put things together and may take more.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "src" / "labelmend"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [path for path in FILES if path.name != "__init__.py"]

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
USUAL_FUNCTION = 22
MOST_PARAMETERS = 6
ABOVE = ("training", "inference", "audit", "verdict", "report", "serve", "review", "demo", "cli")
CATCH_ALLS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
TORCH_FREE = ("labelmend.cli", "labelmend.catalogue.scan", "labelmend.files.readers")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def _functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def _lines(function: Function) -> int:
    assert function.end_lineno is not None
    total = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None or first.end_lineno is None:
        return total
    return total - (first.end_lineno - first.lineno + 1)


def _parameters(function: Function) -> tuple[int, int]:
    """Those to be counted, and the keyword-only options beside them."""
    args = function.args
    positional = [a.arg for a in (*args.posonlyargs, *args.args)]
    counted = len(positional) - (positional[:1] in (["self"], ["cls"]))
    options = sum(default is not None for default in args.kw_defaults)
    return counted + len(args.kwonlyargs) - options, options


def _public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Functions and classes a reader can reach, and the methods of those classes."""
    kinds = (*Function.__args__, ast.ClassDef)
    for node in tree.body:
        if not isinstance(node, kinds) or node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, kinds) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_files_are_short(path: Path) -> None:
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= LONGEST_FILE, f"{_name(path)} has {length} lines; divide it"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_functions_are_short(path: Path) -> None:
    long = {f.name: _lines(f) for f in _functions(_tree(path)) if _lines(f) > LONGEST_FUNCTION}
    assert not long, f"{_name(path)}: {long}, the most is {LONGEST_FUNCTION} lines"


def test_nine_functions_in_ten_fit_at_a_glance() -> None:
    sizes = [(_lines(f), f"{_name(p)}:{f.name}") for p in MODULES for f in _functions(_tree(p))]
    long = sorted((s for s in sizes if s[0] > USUAL_FUNCTION), reverse=True)
    share = 1 - len(long) / len(sizes)
    assert share >= 0.9, f"only {share:.1%} have {USUAL_FUNCTION} lines or fewer: {long}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_functions_take_few_parameters(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in ABOVE:
        return
    many = {
        f.name: _parameters(f)
        for f in _functions(_tree(path))
        if max(_parameters(f)) > MOST_PARAMETERS
    }
    assert not many, f"{_name(path)}: {many} (counted, options), the most is {MOST_PARAMETERS}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_no_file_or_folder_is_a_catch_all(path: Path) -> None:
    words = {
        word
        for part in path.relative_to(PACKAGE).with_suffix("").parts
        for word in part.strip("_").split("_")
    }
    assert not words & CATCH_ALLS, f"{_name(path)}: say what is in it"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_says_in_one_sentence_what_it_is(path: Path) -> None:
    text = ast.get_docstring(_tree(path))
    assert text, f"{_name(path)} has no docstring"
    sentence = text.split("\n\n")[0].replace("\n", " ").removeprefix("r")
    assert sentence.endswith((".", "?")), f"{_name(path)}: {sentence!r} is no sentence"
    assert not re.search(r"[.?!] [A-Z]", sentence), f"{_name(path)}: {sentence!r} is several"
    assert len(sentence) <= 160, f"{_name(path)}: {sentence!r} would not fit on a door"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_public_names_are_documented(path: Path) -> None:
    silent = [name for name, node in _public(_tree(path)) if ast.get_docstring(node) is None]
    assert not silent, f"{_name(path)}: no docstring on {', '.join(silent)}"


@pytest.mark.parametrize("name", TORCH_FREE)
def test_the_prompt_answers_without_torch(name: str) -> None:
    code = f"import sys, {name}; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr or f"importing {name} imports torch"


def _tracked_text() -> Iterator[tuple[Path, str]]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    paths = [REPO / name for name in names] or [*FILES, *(REPO / "tests").rglob("*.py")]
    for path in paths:
        try:
            yield path, path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue


# Put together here, so that this file does not find itself.
PLACES = "|".join(("work", "opt", "home", "root", "mnt", "Users"))
HOSTS = "|".join(f"{name}[.]org" for name in ("pypi", "pythonhosted", "download[.]pytorch"))
LOCAL = re.compile(rf"(?<![\w.~$}}-])/({PLACES})(/|\b(?!-))[\w.-]*|{HOSTS}")


def test_no_file_knows_a_path_of_some_machine_or_a_registry() -> None:
    found = [
        f"{path.relative_to(REPO)}: {match[0]}"
        for path, text in _tracked_text()
        for match in LOCAL.finditer(text)
    ]
    assert not found


# ---------------------------------------------------------------- the direction of imports


def _copy(target: Path) -> Path:
    shutil.copytree(
        REPO / "src" / "labelmend",
        target / "src" / "labelmend",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(REPO / "pyproject.toml", target)
    return target / "src" / "labelmend"


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PATH": "", "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_imports_go_one_way(tmp_path: Path) -> None:
    _copy(tmp_path)
    done = _lint(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


BREACHES = {
    "a loss that knows the training": (
        "Data flows one way",
        {"losses/planted.py": "import labelmend.training.objective\n"},
    ),
    "siblings that know each other": (
        "Data flows one way",
        {"weighting/planted.py": "import labelmend.data.planted\n", "data/planted.py": ""},
    ),
    "a file without a storey": ("Data flows one way", {"planted.py": ""}),
    "an idea that reads settings": (
        "Ideas never read settings",
        {"weighting/planted.py": "from labelmend.config import Settings\n"},
    ),
    "two files in a circle": (
        "No two files of one room in a circle",
        {
            "data/planted.py": "import labelmend.data.grafted\n",
            "data/grafted.py": "import labelmend.data.planted\n",
        },
    ),
    "a room that talks to people": (
        "Only the edge talks to people",
        {"networks/planted.py": "import cyclopts\n"},
    ),
}


@pytest.mark.parametrize("breach", sorted(BREACHES))
def test_a_planted_breach_is_named(breach: str, tmp_path: Path) -> None:
    contract, planted = BREACHES[breach]
    package = _copy(tmp_path)
    for name, code in planted.items():
        with (package / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{code}")
    done = _lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"{contract}\s+BROKEN", done.stdout), done.stdout


# ---------------------------------------------------------------- the rulers themselves


def test_lines_are_counted_without_the_docstring() -> None:
    text = 'def f(a):\n    """One.\n\n    Two.\n    """\n    return a\n'
    assert [_lines(f) for f in _functions(ast.parse(text))] == [2]
    assert [_lines(f) for f in _functions(ast.parse("def f(a):\n    b = a\n    return b\n"))] == [3]


def test_parameters_are_counted_without_self() -> None:
    text = "class C:\n    def f(self, a, b=1, *, c, d=2, e=3): ..."
    assert [_parameters(f) for f in _functions(ast.parse(text))] == [(3, 2)]
    assert [_parameters(f) for f in _functions(ast.parse("def f(a): ..."))] == [(1, 0)]


def test_public_names_are_found_in_classes_too() -> None:
    text = "class C:\n  def f(self): ...\n  def _g(self): ...\ndef h(): ...\nclass _D: ..."
    assert [name for name, _ in _public(ast.parse(text))] == ["C", "C.f", "h"]


def test_machine_paths_are_told_from_others() -> None:
    known = ("work/x", "opt", "home/me/data")
    assert all(LOCAL.search(f"see /{place} there") for place in known)
    assert all(LOCAL.search(f"file:///{place}") for place in known)
    assert LOCAL.search("https://" + "pypi" + ".org/simple")
    for harmless in ("../work", "a/home", "/workers", "pytorch.org/get-started", "{root}/opt"):
        assert not LOCAL.search(harmless)
