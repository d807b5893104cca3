"""docs/plugins.md: its blocks of code are a package, and its commands run."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT, write_distribution
from stressbench import Suite, registry
from stressbench.cli import main
from stressbench.testing import check_model

PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's package, from its blocks alone: Python files named by their first line, and entry points."""
    site = tmp_path_factory.mktemp("shades")
    for block in blocks("python"):
        path = site / block.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(exist_ok=True)
        path.write_text(block, encoding="utf-8")
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for block in blocks("toml"):
        for group, points in tomllib.loads(block)["project"]["entry-points"].items():
            groups[group] |= points
    write_distribution(site, "shades", groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield


def test_the_page_offers_one_of_each_kind() -> None:
    offered = [(kind, e.name) for kind in registry.KINDS for e in registry.entries(kind) if e.distribution == "shades"]
    assert offered == [
        ("models", "shades"), ("suites", "dusk"), ("datasets", "grey-masks"), ("datasets", "greys"), ("recipes", "dim"),
    ]  # fmt: skip
    assert len(COMMANDS) == 8


def imports(code: str) -> set[str]:
    """The modules of the harness that code imports; `from stressbench import name` is of stressbench."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.split(".")[0] == "stressbench"}


@pytest.mark.parametrize(
    "code",
    [*blocks("python"), *(path.read_text(encoding="utf-8") for path in (ROOT / "plugins" / "example").rglob("*.py"))],
)
def test_a_plugin_imports_the_contract_alone(code: str) -> None:
    assert imports(code) <= {"stressbench", "stressbench.contracts", "stressbench.metrics", "stressbench.testing"}


def test_the_page_names_what_a_suite_has() -> None:
    (table,) = re.findall(r"^\| attribute or method .*?\n\n", PAGE, flags=re.DOTALL | re.MULTILINE)
    named = {name for row in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert len(named) == 16
    assert not [name for name in named if not hasattr(Suite, name)]


def test_its_model_keeps_what_models_promise() -> None:
    assert {finding.status for finding in check_model("shades")} <= {"passed", "skipped"}


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))
    program, *words = shlex.split(command)
    assert program == "bench"
    if "greys" in words and words[0] == "run":
        with pytest.raises(SystemExit):
            main(shlex.split(next(line for line in COMMANDS if line.startswith("bench train")))[1:])
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--limit", "20"] if words[0] == "run" else words)
    assert exit_.value.code == 0


def test_what_it_says_of_a_user_s_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--model", "shades", "--dataset", "greys", "--data-dir", "somewhere"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "bench: greys are generated: leave out --data-dir\n"
