"""Records → README.md and index.html: the same records give the same bytes."""

from __future__ import annotations

from pathlib import Path

from stressbench.leaderboard import html, markdown, ranking
from stressbench.store import replace, writing


def build(root: Path) -> list[Path]:
    """Write both pages of a leaderboard's folder; returns them.

    Raises `UserError` for a file that is not a faultless record, and where the pages cannot be written.
    """
    groups = list(ranking.groups(root))
    pages = {root / "README.md": markdown.render(groups), root / "index.html": html.render(groups)}
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        for path, text in pages.items():
            replace(path, text.encode())
    return list(pages)
