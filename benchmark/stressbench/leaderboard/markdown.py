"""The leaderboard's README: a table for each set of comparable results, best first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from urllib.parse import quote

from stressbench._util.tabular import escape, markdown
from stressbench.leaderboard.ranking import Group
from stressbench.results.show import ARROW, number

_LEFT = ("#", "model", "audit", "evidence", "weights")


def render(groups: Sequence[Group]) -> str:
    """The whole text, with a final newline."""
    parts = [
        "# Leaderboard",
        "Made from the files in `records/` by `bench leaderboard build`. `index.html` beside it has the same results, "
        "with sorting, filters, curves over the number of draws, and ranks at equal cost.",
    ]
    if not groups:
        parts.append("No records yet: `bench leaderboard add RUN` puts the first one here.")
    for (suite, dataset), tables in groupby(groups, key=lambda group: (group.title, group.dataset)):
        parts.append(f"## {escape(suite)} on {escape(dataset)}")
        for group in tables:
            parts += [escape(f"{group.about()}; {_order(group)}") + ":", _table(group)]
    return "\n\n".join(parts) + "\n"


def _order(group: Group) -> str:
    return "not ranked" if group.by is None else f"ranked by {group.by.name}"


def _table(group: Group) -> str:
    rows = []
    for rank, entry in ((ranked.rank, ranked.entry) for ranked in group.own):
        record = entry.record
        row = {"#": "–" if rank is None else str(rank)}
        row["model"] = f"[{escape(group.name(entry))}]({quote(entry.path.as_posix())})"
        if record.model.name is not None:
            row["model"] += f": {escape(record.model.name)}"
        row["draws"] = str(record.draws)
        for metric in group.metrics:
            row[f"{metric.name} {ARROW[metric.better]}"] = number(entry.value(metric), metric)
        if any(other.record.findings for other in group.entries):
            row["audit"] = escape(", ".join(dict.fromkeys(f.check for f in record.findings))) or "no findings"
        row["evidence"] = entry.evidence
        row["weights"] = escape(record.model.weights_source)
        rows.append(row)
    return markdown(rows, _LEFT)
