"""The house stays easy to walk: imports point one way, and files can be read in one sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from conftest import ROOT

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


@pytest.mark.parametrize("room", ["metrics", "contracts", "randomness", "record", "store", "spec", "errors"])
def test_the_ground_floor_knows_nothing_above_it(room: str) -> None:
    above = {"cli", "session", "runner", "plan", "models", "leaderboard", "datasets", "training", "terminal", "show"}
    names = {
        name.split(".")[1]
        for name in imported(ROOTS["stressbench"] / "stressbench" / f"{room}.py")
        if name.startswith("stressbench.")
    }
    assert not names & above


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_harness_names_no_concrete_model() -> None:
    for path in sorted((ROOTS["stressbench"] / "stressbench").rglob("*.py")):
        if {"cli", "datasets"} & set(path.parts):
            continue  # the one has to have defaults, the other knows the published files
        words = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not words & {"resnet18", "resnet18-smooth", "alexnet", "corruption", "fog"}, path
