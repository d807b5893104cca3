"""The leaderboard's page: one file without requests to other hosts or scripts of others.

Its tables need no JavaScript; `page.js` adds sorting and filtering.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from stressbench.contracts import Metric
from stressbench.leaderboard.figures import figures, heat_map
from stressbench.leaderboard.ranking import Entry, Group, Ranked
from stressbench.results.show import ARROW, interval, number

_UNITS = {"fraction": "%", "nats": "nats", "number": ""}


def render(groups: Sequence[Group]) -> str:
    """The whole page."""
    files = resources.files(__package__)
    style, script, template = (
        (files / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html.j2")
    )
    # Every value is escaped unless it is marked as markup, as only our own style and script are.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["parts"] = re.compile(r"(?<=[:,+/])").split  # where a long name may be broken
    entries = [entry for group in groups for entry in group.entries]
    return environment.from_string(template).render(
        groups=[_group(i, group) for i, group in enumerate(groups)],
        suites=sorted({group.title for group in groups}),
        datasets=sorted({group.dataset for group in groups}),
        kinds=sorted({entry.kind for entry in entries}),
        draws=sorted({draws for group in groups for draws in group.draws}),
        results=len(entries),
        style=Markup(style),
        script=Markup(script),
        # A script or style that got in all the same has another hash and stays dead.
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _group(i: int, group: Group) -> dict[str, Any]:
    columns = [
        {"name": m.name, "better": m.better, "arrow": ARROW[m.better], "unit": _UNITS[m.unit]} for m in group.metrics
    ]
    # A group without stochastic results has one table, which is of any number of draws.
    views = [None, *group.draws]
    return {
        "id": f"group-{i}",
        "suite": group.title,
        "dataset": group.dataset,
        "about": group.about(),
        "by": group.by,
        "columns": columns,
        "audited": any(entry.record.findings for entry in group.entries),
        "views": [
            {"draws": draws, "rows": [_row(group, ranked, draws) for ranked in group.ranked(draws)]} for draws in views
        ],
        "figures": list(figures(group)),
        "heat_map": heat_map(group),
    }


def _row(group: Group, ranked: Ranked, draws: int | None) -> dict[str, Any]:
    entry = ranked.entry
    record = entry.record
    return {
        "rank": ranked.rank,
        "model": group.name(entry),
        "link": quote(entry.path.as_posix()),
        "kind": entry.kind,
        "draws": record.draws if draws is None or not record.model.stochastic else draws,
        "cells": [_cell(metric, entry, draws) for metric in group.metrics],
        "parameters": record.model.parameters,
        "weights": record.model.weights_source,
        "audit": ", ".join(dict.fromkeys(finding.check for finding in record.findings)),
        "replayed": entry.replay.replayed.date().isoformat() if entry.replay else None,
        "date": record.created.date().isoformat(),
    }


def _cell(metric: Metric, entry: Entry, draws: int | None) -> dict[str, Any]:
    value = entry.value(metric, draws)
    texts = number(value, metric), interval(entry.interval(metric, draws), metric)
    # Without the unit, which is the column's.
    text, ends = (text.removesuffix(" %") for text in texts)
    return {"value": value, "text": text, "interval": ends}
