"""Templates of the leaderboard's pages: each page is one file, without requests to other hosts or scripts of others."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_ROOM = "pages"


def render(template: str, **values: Any) -> str:
    """One page from a template. Every value is escaped; only our own style and scripts are markup."""
    style, script = _text("style.css"), _text("table.js") + _text("scatter.js")
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            style=Markup(style),
            script=Markup(script),
            # A script or style that got in all the same has another hash and stays dead.
            policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
            "base-uri 'none'; form-action 'none'",
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, _ROOM),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["parts"] = re.compile(r"(?<=[:,+/_])").split  # where a long name may be broken
    return environment


def _text(name: str) -> str:
    return (resources.files(__package__) / _ROOM / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
