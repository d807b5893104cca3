"""What the page of one table shows: rows with their standing by each metric, columns, figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from stressbench.contracts import Metric
from stressbench.leaderboard import models
from stressbench.leaderboard.figures import figures, heat_map
from stressbench.leaderboard.paths import TABLES
from stressbench.leaderboard.ranking import Entry, Group, Ranked
from stressbench.results.show import ARROW, interval, number
from stressbench.spec import slug

_ROWS = 50  # that are in sight at once
_METRICS = 5  # columns of metrics that are shown at first

UNITS = {"fraction": "%", "nats": "nats", "number": ""}


def path(group: Group, draws: int | None) -> str:
    """Where a table's page is; it stays the same when results are added."""
    size = "" if draws is None else f"-{draws}-draws"
    return f"{TABLES}/{slug(f'{group.dataset}-{group.title}')}-{group.key}{size}.html"


def table(group: Group, draws: int | None, name: Callable[[Entry], str]) -> dict[str, Any]:
    """The table at a number of draws, or with each model's own; `name` gives a model's name on this leaderboard."""
    ranked = group.own if draws is None else group.ranked(draws)
    columns = [_column(metric, group.by, i) for i, metric in enumerate(group.metrics)]
    rows = [
        {
            "standing": one.standing,
            "model": name(one.entry),
            "which": ", ".join(filter(None, (one.entry.record.model.name, group.which(one.entry)))),
            "link": f"{models.path(name(one.entry))}#{quote(models.anchor(one.entry))}",
            "cells": [cell(metric, one, draws) for metric in group.metrics],
            **_facts(one.entry, draws),
        }
        for one in ranked
    ]
    return {
        "suite": group.title,
        "dataset": group.dataset,
        "about": group.about(),
        "by": group.by,
        "columns": columns,
        "audited": any(entry.record.findings for entry in group.entries),
        "draws": draws,
        "views": [(size, path(group, size)) for size in (None, *group.draws)] if group.draws else [],
        "rows": rows,
        "kinds": sorted({one.entry.kind for one in ranked}),
        "at_once": _ROWS,
        "figures": [] if draws else list(figures(group)),
        "heat_map": None if draws else heat_map(group),
        "own": path(group, None),
    }


def cell(metric: Metric, ranked: Ranked, draws: int | None = None) -> dict[str, Any]:
    """A number as it is shown, without the unit, which is the column's; its interval, and its place."""
    entry = ranked.entry
    texts = number(entry.value(metric, draws), metric), interval(entry.interval(metric, draws), metric)
    text, ends = (text.removesuffix(" %").replace(" – ", "–") for text in texts)
    return {"text": text, "interval": ends, "standing": ranked.standings.get(metric.name)}


def _column(metric: Metric, by: Metric | None, place: int) -> dict[str, Any]:
    return {
        "name": metric.name,
        "better": metric.better,
        "arrow": ARROW[metric.better],
        "unit": UNITS[metric.unit],
        "about": metric.about,
        "more": place >= _METRICS and metric != by,
    }


def _facts(entry: Entry, draws: int | None) -> dict[str, Any]:
    record = entry.record
    return {
        "draws": record.draws if draws is None or not record.model.stochastic else draws,
        "evidence": entry.evidence,
        "kind": entry.kind,
        "parameters": record.model.parameters,
        "audit": ", ".join(dict.fromkeys(finding.check for finding in record.findings)),
        "date": record.created.date().isoformat(),
    }
