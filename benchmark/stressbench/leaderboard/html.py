"""Templates of the leaderboard's pages: each page is one file, without requests to other hosts or scripts of others."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from stressbench._util import pages

_ROOM = "pages"


def render(template: str, **values: Any) -> str:
    """One page from a template. Every value is escaped; only our own style and scripts are markup."""
    style, script = _text("style.css"), _text("table.js") + _text("scatter.js")
    return (
        pages.environment(__package__, _ROOM)
        .get_template(template)
        .render(**values, style=Markup(style), script=Markup(script), policy=pages.policy(style, script))
    )


def _text(name: str) -> str:
    return pages.text(__package__, _ROOM, name)
