"""Generates README.md and the pages from records; the same records give the same bytes."""

from __future__ import annotations

from pathlib import Path

from stressbench._util.files import replace, writing
from stressbench.leaderboard import markdown, ranking, site
from stressbench.leaderboard.paths import MODELS, TABLES


def build(root: Path) -> list[Path]:
    """Write all pages of a leaderboard's folder, and return their paths: README.md, index.html, and all others.

    Pages of tables and models that are no more are deleted. Raises `UserError` if a file is not a valid record, or if
    the pages cannot be written.
    """
    groups = list(ranking.groups(root))
    pages = {"README.md": markdown.render(groups), **site.pages(groups)}
    written = {root / name: text for name, text in pages.items()}
    with writing(root):
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, text.encode())
        for folder in (TABLES, MODELS):
            for path in (root / folder).glob("*.html"):
                if path not in written:
                    path.unlink()
    return list(written)
