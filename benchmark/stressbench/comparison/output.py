"""A comparison formatted for the terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from string import ascii_uppercase

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stressbench._util import tabular
from stressbench._util.tabular import escape
from stressbench.comparison.pairs import Comparison, Difference, Pair
from stressbench.results.resampling import LEVEL
from stressbench.results.show import ARROW, ROOM, change, number

MOST_RUNS = len(ascii_uppercase)  # they go by letters

EQUAL = "{0} and {1} are equal: every number in every table is the same"


def terminal(comparison: Comparison) -> None:
    """Print the runs, a table for each pair, and an explanation of the numbers."""
    console = Console(highlight=False)
    console.width = max(console.width, ROOM)
    console.print(Text("\n" + "\n".join(_heading(comparison))), soft_wrap=True)
    for pair in comparison.pairs:
        one, two = letters(pair)
        if pair.identical:
            console.print(Text(f"\n{EQUAL.format(one, two)}"), soft_wrap=True)
        elif pair.differences:
            table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))  # close, to fit in 80 columns mostly
            for name in lines(pair)[0]:
                table.add_column(name, justify="left" if name in ("metric", "verdict") else "right", no_wrap=True)
            for line in lines(pair):
                table.add_row(*map(Text, line.values()))
            console.print(table)
        for remark in remarks(pair):
            console.print(Text(remark), soft_wrap=True)
    console.print(Text(f"\n{LEGEND}"), soft_wrap=True)


def markdown(comparison: Comparison) -> str:
    """The comparison as Markdown tables."""
    parts = ["  \n".join(escape(line) for line in _heading(comparison))]
    for pair in comparison.pairs:
        if pair.identical:
            parts.append(f"{EQUAL.format(*letters(pair))}.")
        elif pair.differences:
            escaped = [{name: escape(cell) for name, cell in line.items()} for line in lines(pair)]
            parts.append(tabular.markdown(escaped, left=("metric", "verdict")))
        parts += [escape(line) for line in remarks(pair)]
    return "\n\n".join([*parts, escape(LEGEND)])


def as_csv(comparison: Comparison) -> str:
    """A line for each pair and metric, in the units of the record (fraction, nats), not rounded."""
    lines = []
    for pair in comparison.pairs:
        sides = {"first": comparison.runs[pair.first], "second": comparison.runs[pair.second]}
        who = {f"{side}_run": str(run.path) for side, run in sides.items()}
        who |= {f"{side}_model": run.record.model.spec for side, run in sides.items()}
        who |= {f"{side}_label": run.label for side, run in sides.items()}
        lines += [{**who, "metric": d.metric.name, **_fields(d)} for d in pair.differences]
    return tabular.csv(lines)


def as_json(comparison: Comparison) -> str:
    """One object with the runs, the method and all numbers, in the units of the record, not rounded."""
    data, suite = comparison.runs[0].record.dataset, comparison.runs[0].record.suite
    document = {
        "suite": {"name": suite.name, "version": suite.version},
        "dataset": data.model_dump(mode="json"),
        "level": LEVEL,
        "runs": [
            {"path": str(run.path), "model": run.record.model.spec, "label": run.label, "draws": run.record.draws}
            for run in comparison.runs
        ],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "identical": pair.identical,
                "unknown": pair.unknown,
                "metrics": {d.metric.name: _fields(d) for d in pair.differences},
            }
            for pair in comparison.pairs
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def _heading(comparison: Comparison) -> list[str]:
    record = comparison.runs[0].record
    data = record.dataset
    runs = [
        f"{letter}  {run.label}  ({run.path})" for letter, run in zip(ascii_uppercase, comparison.runs, strict=False)
    ]
    doubts = [
        f"{letter} is doubtful ({finding.check}): {finding.message}"
        for letter, run in zip(ascii_uppercase, comparison.runs, strict=False)
        for finding in run.record.findings
    ]
    return [*runs, f"{record.suite.name} on {data.name}, {data.n:,} images, {data.stress} stress", *doubts]


def letters(pair: Pair) -> tuple[str, str]:
    """What the two runs of a pair go by."""
    return ascii_uppercase[pair.first], ascii_uppercase[pair.second]


def lines(pair: Pair) -> list[dict[str, str]]:
    """A line for each metric that both runs have, by heading."""
    one, two = letters(pair)
    return [
        {
            "metric": f"{d.metric.name} {ARROW[d.metric.better]}",
            one: number(d.first.value, d.metric),
            two: number(d.second.value, d.metric),
            f"{two} − {one}, {100 * LEVEL:.0f} % interval": change(d.difference.value, d.difference.interval, d.metric),
            "p": "–" if d.p_holm is None else f"{d.p_holm:.3f}" if d.p_holm >= 0.001 else "<0.001",
            "verdict": d.verdict.replace("first", one).replace("second", two),
        }
        for d in pair.differences
    ]


def remarks(pair: Pair) -> Iterator[str]:
    """What is to be said below the lines."""
    one, two = letters(pair)
    noise = [d.metric.name for d in pair.differences if d.verdict == "within noise"]
    if noise and not pair.identical:
        yield f"within noise between {one} and {two}: {', '.join(noise)}"
    if not pair.differences:
        yield f"{one} and {two} have no metric in common"
    if pair.unknown:
        yield f"unknown for {one} or {two}: {', '.join(pair.unknown)}"


LEGEND = (
    f"intervals: {100 * LEVEL:.0f} %, delete-a-group jackknife over the images; p: paired t-test of the same groups, "
    f"two-sided, adjusted for the number of metrics (Holm); within noise: p ≥ {1 - LEVEL:.2g}\n"
    "they speak of these trained models on images like these, and not of other trainings"
)


def _fields(d: Difference) -> dict[str, str | float | None]:
    """The fields of a difference, each estimate with its interval."""
    fields: dict[str, str | float | None] = {"unit": d.metric.unit, "better": d.metric.better}
    for name, estimate in (("first", d.first), ("second", d.second), ("difference", d.difference)):
        low, high = estimate.interval or (None, None)
        fields |= {name: estimate.value, f"{name}_low": low, f"{name}_high": high}
    return {**fields, "p": d.p, "p_holm": d.p_holm, "verdict": d.verdict}
