"""HTML pages of one file each, from templates that escape every value, and that ask no other host for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str, folder: str) -> Environment:
    """The templates in a package's folder; every value is escaped, and one that is missing is an error."""
    found = Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["parts"] = re.compile(r"(?<=[:,+/_])").split  # where a long name may be broken
    return found


def text(package: str, folder: str, name: str) -> str:
    """A file of a package's folder."""
    return (resources.files(package) / folder / name).read_text(encoding="utf-8")


def policy(style: str, script: str | None = None) -> str:
    """The content security policy of a page with these; what got in all the same has another hash and stays dead."""
    scripts = "" if script is None else f"script-src '{_hash(script)}'; "
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; {scripts}img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
