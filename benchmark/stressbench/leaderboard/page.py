"""The leaderboard's README: one table a suite and dataset, best first, from the records alone."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from stressbench import registry
from stressbench.contracts import Suite
from stressbench.leaderboard.records import dataset_label, load_all
from stressbench.record import Record
from stressbench.show import ARROW, number
from stressbench.store import replace, writing

_Entry = tuple[Path, Record]


def build(root: Path) -> Path:
    """Write README.md from the records; the same records give the same bytes.

    Raises `UserError` for a file that is not a record or does not agree with itself, and where it cannot be written.
    """
    entries = sorted(load_all(root), key=lambda entry: (*_table(entry), *_comparable(entry), str(entry[0])))
    parts = ["# Leaderboard", "Made from the files in `records/` by `bench leaderboard build`."]
    if not entries:
        parts.append("No records yet: `bench leaderboard add RUN` puts the first one here.")
    for (suite_name, dataset), table in groupby(entries, key=_table):
        suite = registry.suite(suite_name)
        parts.append(f"## {escape(suite_name)} on {escape(dataset)}")
        groups = [list(group) for _, group in groupby(table, key=_comparable)]
        for group in groups:
            if len(groups) > 1:
                parts.append(f"### {_heading(group[0][1])}")
            parts.append(_markdown(suite, group))
    path = root / "README.md"
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        replace(path, ("\n\n".join(parts) + "\n").encode())
    return path


def escape(text: str) -> str:
    """A stranger's words as plain text in Markdown: no markup, no new line, no new cell."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", plain)


def _table(entry: _Entry) -> tuple[str, str]:
    return entry[1].suite.name, dataset_label(entry[1])


def _comparable(entry: _Entry) -> tuple[int, str, str]:
    """Results on other images, or on other stressed images, are ranked apart; most images first."""
    data = entry[1].dataset
    return -data.n, data.stress, data.fingerprint


def _heading(record: Record) -> str:
    data = record.dataset
    return f"{data.n:,} images, {data.stress} stress, content {data.fingerprint.removeprefix('sha256:')[:8]}"


def _markdown(suite: Suite, entries: Sequence[_Entry]) -> str:
    # A metric that no record has would be a column of dashes.
    shown = [m for m in suite.metrics if any(record.metrics.get(m.name) is not None for _, record in entries)]
    ranking = shown[0]
    sign = 1 if ranking.better == "lower" else -1
    scores = pd.Series([record.metrics.get(ranking.name) for _, record in entries], dtype="float64") * sign
    ranks = scores.rank(method="min", na_option="keep")
    order = sorted(range(len(entries)), key=lambda i: (pd.isna(ranks[i]), ranks[i], str(entries[i][0])))
    rows = []
    for i in order:
        path, record = entries[i]
        row = {"#": "–" if pd.isna(ranks[i]) else str(int(ranks[i]))}
        row["model"] = f"[{escape(record.model.spec)}]({quote(path.as_posix())})"
        row["draws"] = str(record.draws)
        for metric in shown:
            row[f"{metric.name} {ARROW[metric.better]}"] = number(record.metrics.get(metric.name), metric)
        row["images"] = f"{record.dataset.n:,}"
        row["stress"] = record.dataset.stress
        if any(other.findings for _, other in entries):
            row["audit"] = escape(", ".join(dict.fromkeys(f.check for f in record.findings))) or "no findings"
        rows.append(row)
    left = ("#", "model", "stress", "audit")
    columns = list(rows[0])
    return pd.DataFrame(rows, columns=columns, dtype="object").to_markdown(
        index=False, disable_numparse=True, colalign=["left" if column in left else "right" for column in columns]
    )
