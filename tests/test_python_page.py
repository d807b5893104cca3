"""The Python code of docs/python-api.md, the README and the documentation's notebook gives the output shown."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

Page = tuple[dict[str, Any], list[tuple[str, str]]]

_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?", flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The blocks of Python code of a page, each with the block of text right after it."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def outcome(source: str, names: dict[str, Any]) -> str:
    """What a cell prints, and the value of its last expression, as a prompt shows it."""
    *statements, last = ast.parse(source).body
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        if not isinstance(last, ast.Expr):
            statements.append(last)
        exec(compile(ast.Module(statements, []), "<cell>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
            if value is not None:
                print(repr(value))
    return shown.getvalue()


_NUMBER = re.compile(r"-?\d+\.\d+")


def assert_same(given: str, shown: str) -> None:
    """The same text with the same numbers, but for what machines round differently."""
    assert _NUMBER.sub("#", given).split() == _NUMBER.sub("#", shown).split()
    assert [*map(float, _NUMBER.findall(given))] == pytest.approx([*map(float, _NUMBER.findall(shown))], abs=0.005)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The names that the page's code leaves, and each block's output with the output that the page shows."""
    names: dict[str, Any] = {"__name__": "page"}
    with contextlib.chdir(tmp_path_factory.mktemp("page")):
        cells = [(outcome(code, names), shown) for code, shown in blocks(ROOT / "docs" / "python-api.md")]
    return names, cells


def test_the_page_shows_what_its_code_gives(page: Page) -> None:
    assert len(page[1]) == 11
    for given, shown in page[1]:
        assert_same(given, shown)


def test_the_cell_of_the_readme_gives_its_output(page: Page) -> None:
    ((code, shown),) = [(code, shown) for code, shown in blocks(ROOT / "README.md") if "stressbench.run(" in code]
    assert_same(outcome(code, page[0]), shown)


def test_the_notebook_shows_what_its_code_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            results = [output for output in cell["outputs"] if output["output_type"] == "execute_result"]
            shown = "".join("".join(result["data"]["text/plain"]) + "\n" for result in results)
            assert_same(outcome("".join(cell["source"]), names), shown)
    names["plt"].close("all")
