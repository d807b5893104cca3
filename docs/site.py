"""What the documentation site needs beside mkdocs.yml: pages from outside docs/, notebooks as pages, doctests as code.

MkDocs loads this file as a hook, and mkdocstrings loads it as an extension of Griffe.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

# Each page from outside docs/, by its path in the repository.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "leaderboard/README.md": "board.md",
    "leaderboard/REPLICATION.md": "replication.md",
}
# Files that a page links to and that the site has in another place.
ELSEWHERE = {
    "benchmark/stressbench/contracts.py": "api.md",
    "leaderboard/index.html": "pages/index.html",
    "leaderboard/": "board.md",
    "docs/notebook.ipynb": "notebook.md",
}
SOURCES = {page: source for source, page in PAGES.items()}

_LINK = re.compile(
    r'(?P<image>!?)\[(?P<text>[^][]*)\]\((?P<target>[^)\s:#]+)(?P<anchor>#[^)\s]*)?\)|src="(?P<src>[^":]+)"'
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    board = ROOT / "leaderboard"
    for path in (board / "index.html", *sorted(board.glob("tables/*.html")), *sorted(board.glob("models/*.html"))):
        name = f"pages/{path.relative_to(board).as_posix()}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for notebook in sorted((ROOT / "docs").glob("*.ipynb")):
        text = as_page(json.loads(notebook.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"{notebook.stem}.md", content=text))
    return files


def as_page(notebook: dict[str, Any]) -> str:
    """A notebook in Markdown: its cells, each with what it showed when it was executed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", [])})
            if "image/png" in data:
                parts.append(f'<img alt="What the cell draws" src="data:image/png;base64,{data["image/png"].strip()}">')
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links between files of the repository at the site's pages; a file that it has not stays as plain text."""
    folder = posixpath.dirname(SOURCES.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def linked(match: re.Match[str]) -> str:
        target = match["target"] or match["src"]
        path = posixpath.normpath(posixpath.join(folder, target)) + ("/" if target.endswith("/") else "")
        found = PAGES.get(path) or ELSEWHERE.get(path) or path.removeprefix("docs/")
        if files.get_file_from_path(found) is None:
            return match["text"] or match[0]
        if match["src"]:
            return f'src="{found}"'
        return f"{match['image']}[{match['text']}]({found}{match['anchor'] or ''})"

    return _LINK.sub(linked, markdown)


class Doctests(griffe.Extension):
    """Fences the doctests in docstrings, whose prompts are quotations in Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with each paragraph that begins with a prompt as a block of code."""
    blocks = re.split(r"\n[ \t]*\n", text)
    return "\n\n".join(f"```pycon\n{block}\n```" if block.startswith(">>> ") else block for block in blocks)
