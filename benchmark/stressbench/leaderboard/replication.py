"""Generates REPLICATION.md from claims.toml and the records: each claim with its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from stressbench._util.files import replace, writing
from stressbench._util.tabular import escape, markdown
from stressbench.leaderboard import claims, ranking
from stressbench.leaderboard.answers import Answer, Number, answers
from stressbench.leaderboard.claims import Claims
from stressbench.leaderboard.paths import CLAIMS, REPLICATION
from stressbench.leaderboard.ranking import Entry, Group
from stressbench.results.resampling import LEVEL
from stressbench.results.show import change, number

_LEFT = ("metric", "first → second", "paper", "verdict", "model", "weights", "suites")

_READING = f"""\
- The difference is the second number less the first. Its {100 * LEVEL:.0f} % interval is paired: records hold each
  metric without each of twenty groups of the images, the same groups for every model; how much the difference moves
  between these is what the images make of it (the delete-a-group jackknife).
- *Agrees*: the interval lies wholly where the difference is expected; *disagrees*: wholly outside. All else is *not
  tested*, with the reason.
- Intervals are over images, of these trained networks. They say nothing of another training of the same network, and
  are not adjusted for the number of claims: of twenty with nothing behind them, about one agrees or disagrees by
  chance.
- Where a question is about conditions of one model, the most extreme of some is held against the most extreme of
  others, each with the Wilson interval of a share of the images; half-widths are added in quadrature, as of independent
  images, which makes the interval wider than it needs to be. Where there was a choice, it was made by looking at the
  results, for which the interval makes no allowance.
- Of several results of one model, that of the most draws is taken, and of these the first that was added."""


def write(root: Path) -> Path:
    """Write REPLICATION.md in a leaderboard's folder and return its path.

    Raises `UserError` for claims that cannot be read or that no installed suite can test, for an invalid record, and if
    the page cannot be written.
    """
    wanted = claims.read(root / CLAIMS)
    page = root / REPLICATION
    text = render(wanted, list(ranking.groups(root)))
    with writing(root):
        replace(page, text.encode())
    return page


def render(wanted: Claims, groups: Sequence[Group]) -> str:
    """The whole text, with a final newline."""
    found = list(answers(wanted, groups))
    every = [answer for _, several in found for answer in several]
    parts = ["# Replication report", _made(wanted, every), escape(wanted.about), _counts(every)]
    for claim, several in found:
        parts += [f"## {escape(claim.question)}", f"The paper's numbers: {escape(claim.source)}."]
        parts.append(markdown([_line(answer) for answer in several], _LEFT))
    parts += ["## How to read this", _READING]
    if any(map(_sides, every)):
        parts += ["## The models", _models(every)]
    return "\n\n".join(parts) + "\n"


def _made(wanted: Claims, every: Sequence[Answer]) -> str:
    """The sources of the page and the number of images."""
    sizes = sorted({entry.record.dataset.n for answer in every for entry in _sides(answer)})
    images = f"{' and '.join(f'{n:,}' for n in sizes)} test images" if sizes else "no record of it is used yet"
    return (
        f"Made from `{CLAIMS}` and the files in `records/` by `bench leaderboard replicate`. "
        f"The dataset is {escape(wanted.dataset)} ({images})."
    )


def _counts(every: Sequence[Answer]) -> str:
    count = Counter(answer.verdict for answer in every)
    return (
        f"Claims: {len(every)}. Agrees: {count['agrees']}. Disagrees: {count['disagrees']}. "
        f"Not tested: {count['not tested']}."
    )


def _line(answer: Answer) -> dict[str, str]:
    verdict = f"{answer.verdict}: {answer.reason}" if answer.reason else answer.verdict
    checks = {finding.check: None for side in _sides(answer) for finding in side.record.findings}
    return {
        "metric": escape(answer.label),
        "first → second": f"{_name(answer.first)} → {_name(answer.second)}",
        "ours": f"{number(answer.first.value, answer.metric)} → {number(answer.second.value, answer.metric)}",
        "expected": f"{'<' if answer.expect == 'lower' else '>'} {answer.edge}",
        "difference": "–" if answer.difference is None else change(answer.difference, answer.interval, answer.metric),
        "paper": escape(answer.paper),
        "verdict": escape("; ".join([verdict, *(f"audit: {check}" for check in checks)])),
    }


def _name(side: Number) -> str:
    """A model, linked to its record if there is one, with its draws or its condition."""
    if side.entry is None:
        return escape(side.model)
    return f"[{escape(side.model)}]({quote(side.entry.path.as_posix())}) {escape(side.at)}".rstrip()


def _sides(answer: Answer) -> list[Entry]:
    return [side.entry for side in (answer.first, answer.second) if side.entry is not None]


def _models(every: Sequence[Answer]) -> str:
    """The trained networks, a line each, over all suites."""
    used = {entry.path: entry for answer in every for entry in _sides(answer)}
    suites: dict[tuple[str, str, str], dict[str, None]] = {}
    for _, entry in sorted(used.items()):
        model = entry.record.model
        trained = (model.spec, model.weights_checksum, model.weights_source)
        suites.setdefault(trained, {})[entry.record.suite.name] = None
    rows = [
        {
            "model": escape(spec),
            "weights": escape(source),
            "checksum": checksum.removeprefix("sha256:")[:8],
            "suites": escape(", ".join(names)),
        }
        for (spec, checksum, source), names in sorted(suites.items())
    ]
    return markdown(rows, _LEFT)
