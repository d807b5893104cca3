"""Generates README.md and index.html from records; the same records give the same bytes."""

from __future__ import annotations

from pathlib import Path

from stressbench._util.files import replace, writing
from stressbench.leaderboard import html, markdown, ranking


def build(root: Path) -> list[Path]:
    """Write both pages of a leaderboard's folder and return their paths.

    Raises `UserError` if a file is not a valid record, or if the pages cannot be written.
    """
    groups = list(ranking.groups(root))
    pages = {root / "README.md": markdown.render(groups), root / "index.html": html.render(groups)}
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        for path, text in pages.items():
            replace(path, text.encode())
    return list(pages)
