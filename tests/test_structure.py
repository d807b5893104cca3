"""The house stays easy to walk: imports point one way, and files can be read in one sitting."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from conftest import ROOT
from stressbench import registry
from stressbench.tasks import TASKS
from stressbench.traits import Traits

ROOTS = {
    "stressbench": ROOT / "benchmark",
    "stressbench_plugins": ROOT / "plugins",
    "stressbench_suites": ROOT / "suites",
}
# What each room may import of the others.
ALLOWED = {
    "stressbench": {"stressbench"},
    "stressbench_plugins": {"stressbench", "stressbench_plugins"},
    "stressbench_suites": {"stressbench", "stressbench_suites"},
}
FILES = [path for root in ROOTS.values() for path in sorted(root.rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def package(path: Path) -> str:
    return next(name for name, root in ROOTS.items() if path.is_relative_to(root))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    ours = {name.split(".")[0] for name in imported(path)} & ROOTS.keys()
    assert ours <= ALLOWED[package(path)]


ABOVE = {"cli", "api", "execution", "training", "leaderboard", "comparison", "plots", "report"}
# The rooms of the harness, each with those that it must not know: they stand above it. A module at the root is a room.
BELOW = {
    "tasks": ABOVE | {"results", "testing", "datasets", "_util"},
    "_util": ABOVE | {"results", "testing", "datasets"},
    "datasets": ABOVE | {"results", "testing"},
    "results": ABOVE | {"testing"},
    "testing": ABOVE | {"results"},
    "execution": ABOVE - {"execution"},
    "comparison": ABOVE - {"comparison"},
    "training": {"cli", "api", "leaderboard", "comparison", "plots", "report"},
    "plots": {"cli", "api", "leaderboard", "training", "report"},
    "leaderboard": {"cli", "api", "training", "report"},
    "report": {"cli", "api", "leaderboard", "training"},
    "api": {"cli", "leaderboard", "report"},
}
# What a plugin may import: it knows no room.
ROOT_MODULES = (
    "metrics",
    "axes",
    "contracts",
    "predictor",
    "randomness",
    "record",
    "spec",
    "errors",
    "passes",
    "locations",
    "registry",
    "recipe",
)


def known(room: str) -> set[str]:
    """The rooms and root modules that a room's files import."""
    place = ROOTS["stressbench"] / "stressbench" / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    names = {name for file in files for name in imported(file) if name.startswith("stressbench.")}
    return {name.split(".")[1] for name in names}


@pytest.mark.parametrize("room", BELOW)
def test_no_room_imports_upward(room: str) -> None:
    assert not known(room) & BELOW[room]


@pytest.mark.parametrize("module", ROOT_MODULES)
def test_what_plugins_import_knows_no_room(module: str) -> None:
    rooms = {path.name for path in (ROOTS["stressbench"] / "stressbench").iterdir() if path.is_dir()}
    assert not known(module) & (rooms - {"tasks", "metrics"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350


# The names of our own plugins that are words of the harness, too: files, columns, tasks.
WORDS = {"arrays", "file", "pairs", "paper", "parquet", "noise", "uncertainty", *TASKS}
HARNESS = ROOTS["stressbench"] / "stressbench"
# Where the harness may name plugins of ours.
NAMED = {
    "cli/options.py": "the defaults of the command line",
    "cli/scaffold.py": "commands in the README of a new package",
    "recipe.py": "the default recipe of the command line and of sweeps; torchvision's version",
    "training/job.py": "the version of torchvision, the library",
    "api/images.py": "the default suite of stressbench.corrupt",
    "leaderboard/site.py": "the suite whose table the page opens with",
    "leaderboard/facts.py": "the embedded images that every checkout can fingerprint",
    "datasets/digits.py": "a dataset",
    "datasets/camvid.py": "a dataset",
    "datasets/nyu.py": "a dataset",
    "datasets/batches.py": "the layout of published files",
    "datasets/imagefolder.py": "a dataset",
    "datasets/own.py": "the kinds of folders, each in the hint of the others",
    "datasets/scenes.py": "two datasets",
    "datasets/sources.py": "datasets",
    "datasets/super_resolution.py": "two datasets",
    "datasets/published.py": "datasets, and the published files beside them",
    "datasets/identity.py": "the content of published datasets",
    "datasets/official.py": "the layout of published files",
    "datasets/export.py": "the layout of published files",
    "datasets/imagenet.py": "what it reads, and the kind of its stressed sets",
    "datasets/pull.py": "the archives of published sets",
    "datasets/trees.py": "the layout of published files",
    "datasets/videos.py": "the layout of published files",
}


def named(path: Path) -> set[str]:
    """The plugins of ours that a file's text constants name, other than its docstrings.

    A constant that is a name, or a spec that begins with it; and a name with a digit or a hyphen anywhere in one.
    """
    ours = {
        entry.name for kind in registry.KINDS for entry in registry.entries(kind) if entry.distribution == "stressbench"
    } - WORDS
    words = [re.escape(name) for name in ours if re.search(r"[\d-]", name)]
    inside = re.compile(rf"(?<![\w-])(?:{'|'.join(words)})(?![\w-])")
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    return {name for text in texts for name in (*inside.findall(text), re.split("[:,/+]", text)[0]) if name in ours}


@pytest.mark.parametrize("path", sorted(HARNESS.rglob("*.py")), ids=lambda path: str(path.relative_to(HARNESS)))
def test_the_harness_names_no_plugin(path: Path) -> None:
    found = named(path)
    assert bool(found) == (path.relative_to(HARNESS).as_posix() in NAMED), found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('x = "corruption"', {"corruption"}),
        ('x = "resnet18-smooth"', {"resnet18-smooth"}),
        ("x = \"see 'cifar100' there\"", {"cifar100"}),
        ('x = f"ensemble:{name}"', {"ensemble"}),
        ('x = "a corruption of images"', set()),
        ('"""Like `resnet18-smooth`."""', set()),
        ('x = "file"', set()),
    ],
)
def test_what_names_a_plugin(text: str, found: set[str], tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(text)
    assert named(tmp_path / "code.py") == found


def sniffed(path: Path) -> set[tuple[str, str]]:
    """What a file's calls of getattr and hasattr ask: of what, and for which attribute, as they are written."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("getattr", "hasattr")]
    return {(ast.unparse(call.args[0]), ast.unparse(call.args[1]).strip("'")) for call in named}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_model_says_of_itself_is_read_in_one_place(path: Path) -> None:
    if path.name == "traits.py":
        return
    traits = {one.name for one in fields(Traits)}
    models = ("module", "model", "network")
    for of, attribute in sniffed(path):
        assert attribute not in traits
        assert attribute.startswith("__") or of.rpartition(".")[2].lstrip("_") not in models
