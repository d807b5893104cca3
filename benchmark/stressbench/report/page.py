"""Runs → one self-contained HTML file: tables, comparisons, figures, and how everything was measured.

It holds no script and asks no other host for anything; records are untrusted, and every text of theirs is escaped. The
same runs give the same bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase

from markupsafe import Markup

from stressbench._util import files, pages
from stressbench._util.terminal import Screen
from stressbench.comparison import output
from stressbench.comparison.pairs import compare_runs
from stressbench.errors import UserError
from stressbench.plots.draw import rendered
from stressbench.plots.style import LeftOut
from stressbench.record import Record, dataset_label
from stressbench.results import runs, show, summary
from stressbench.results.runs import Run

_LARGEST_SVG = 400_000  # bytes; beyond it, a figure's PNG is smaller


@dataclass(frozen=True)
class Lines:
    """A table: each line by heading."""

    title: str
    lines: Sequence[dict[str, str]]
    remarks: Sequence[str] = ()

    @property
    def headings(self) -> list[str]:
        return list(self.lines[0]) if self.lines else []


@dataclass(frozen=True)
class Section:
    """One suite's runs, which are on the same images."""

    title: str
    runs: Sequence[tuple[str, str]]
    """The letter and the name of each."""
    compared: Sequence[Lines]
    why_not: str | None
    """Why the runs are not compared."""
    figures: Sequence[tuple[str, str]]
    """The name and the data URL of each."""
    conditions: Sequence[Lines]
    """Every condition of each run."""
    measured: Sequence[Lines]
    """How each run was measured."""


def write(paths: Sequence[Path], out: Path, screen: Screen, names: Sequence[str], labels: Sequence[str]) -> None:
    """Write the report of run folders or record files; `names` are metrics, and `labels` what to call the runs.

    Raises `UserError` for runs of one suite that do not compare, for an unknown metric, and where the file cannot be
    written.
    """
    text = html(runs.load_all(paths, labels), screen, names)
    with files.writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        files.replace(out, text.encode())


def html(found: Sequence[Run], screen: Screen, names: Sequence[str] = ()) -> str:
    """The page's text."""
    table = summary.of_runs(found, names)
    called = summary.labels(found)
    suites: dict[str, list[Run]] = {}
    for run in found:
        if called[run.path] != run.record.model.label:  # models of one name, which all parts of the page tell apart
            run = replace(run, record=run.record.named(called[run.path]))
        suites.setdefault(run.record.suite.name, []).append(run)
    style = pages.text(__package__, "pages", "style.css")
    return (
        pages.environment(__package__, "pages")
        .get_template("report.j2")
        .render(
            style=Markup(style),
            policy=pages.policy(style),
            columns=[table.heading(column) for column in table.columns],
            rows=[
                (label, [_cell(cells.get(column)) for column in table.columns]) for label, cells in table.rows.items()
            ],
            tie=summary.TIE if any(cell.tied for cells in table.rows.values() for cell in cells.values()) else None,
            legend=output.LEGEND,
            sections=[_section(alike, screen) for alike in suites.values()],
            doubts=[
                f"{run.label}, {run.record.suite.name}: {finding.message} ({finding.check})"
                for run in found
                for finding in run.record.findings
            ],
        )
    )


def _cell(cell: summary.Cell | None) -> tuple[str, bool]:
    """What is shown in a cell of the first table, and whether it is the best of its column."""
    return ("–", False) if cell is None else (summary.text(cell), cell.best)


def _section(alike: Sequence[Run], screen: Screen) -> Section:
    first = alike[0].record
    compared, why_not = _compared(alike, screen)
    data = first.dataset
    return Section(
        title=f"{first.suite.name} on {dataset_label(first)}, {data.n:,} images, {data.stress} stress",
        runs=[(letter, run.label) for letter, run in zip(ascii_uppercase, alike, strict=False)],
        compared=compared,
        why_not=why_not,
        figures=list(_figures(alike)),
        conditions=[Lines(run.label, show.by_condition(run.suite, run.record)) for run in alike],
        measured=[Lines(run.label, list(_measured(run.record))) for run in alike],
    )


def _compared(alike: Sequence[Run], screen: Screen) -> tuple[list[Lines], str | None]:
    """A table for the first run and each of the others, or why there is none."""
    if len(alike) < 2:
        return [], None
    if len(alike) > output.MOST_RUNS:
        return [], f"{len(alike)} runs are more than the {output.MOST_RUNS} that are compared at once"
    try:
        comparison = compare_runs(alike, screen)
    except UserError as error:
        return [], str(error)
    tables = []
    for pair in comparison.pairs:
        one, two = output.letters(pair)
        said = [output.EQUAL.format(one, two)] if pair.identical else list(output.remarks(pair))
        tables.append(Lines(f"{one} and {two}", [] if pair.identical else output.lines(pair), said))
    return tables, None


def _figures(alike: Sequence[Run]) -> Iterator[tuple[str, str]]:
    for name, drawn in rendered(alike):
        if not isinstance(drawn, LeftOut):
            svg = len(drawn["svg"]) <= _LARGEST_SVG
            kind, content = ("svg+xml", drawn["svg"]) if svg else ("png", drawn["png"])
            yield name, f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _measured(record: Record) -> Iterator[dict[str, str]]:
    """What a reader needs to believe or repeat a run, a line each."""
    suite, data, model, software = record.suite, record.dataset, record.model, record.environment
    plugins = ", ".join(f"{one.name} of {one.distribution} {one.version}" for one in model.plugins)
    options = ", ".join(f"{key}={value}" for key, value in suite.options.items())
    arithmetic = f"{record.precision}{', compiled,' * software.compiled}"
    commit = "" if software.commit is None else f", commit {software.commit}"
    facts = {
        "model": model.spec,
        "plugins": plugins,
        "parameters": f"{model.parameters:,}",
        "draws": f"{record.draws} of a stochastic model" if model.stochastic else "1 of a deterministic model",
        "weights": f"{model.weights_source} ({model.weights_checksum})",
        "suite": f"{suite.name} {suite.version} of {suite.distribution} {suite.distribution_version}",
        "options": options or "none",
        "protocol": suite.protocol or "the suite's own",
        "images": f"{dataset_label(record)}, {data.split} split, {data.n:,} images ({data.fingerprint})",
        "stress": data.stress,
        "seed": str(record.seed),
        "computed": f"in {arithmetic} on {record.device} ({software.device}), in batches of {record.batch_size}",
        "software": f"stressbench {software.stressbench}{commit}, Python {software.python}, {software.platform}",
        "packages": ", ".join(f"{name} {version}" for name, version in software.packages.items()),
        "made": f"{record.created:%Y-%m-%d %H:%M} UTC, in {record.timing.seconds:,.1f} s",
    }
    return ({"what": what, "value": value} for what, value in facts.items())
