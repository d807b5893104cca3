"""Generates REPLICATION.md from claims.toml and the records: each claim with its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args
from urllib.parse import quote

from stressbench._util.files import replace, writing
from stressbench._util.tabular import escape, markdown
from stressbench.leaderboard import claims, ranking
from stressbench.leaderboard.answers import Answer, Number, Verdict, answers
from stressbench.leaderboard.claims import Claims, Comparison, Extreme
from stressbench.leaderboard.paths import CLAIMS, REPLICATION, training
from stressbench.leaderboard.ranking import Entry, Group
from stressbench.results.resampling import LEVEL
from stressbench.results.show import change, number

_LEFT = (
    "claim", "metric", "first → second", "paper", "interval over", "by training", "verdict", "all its tests", "model",
    "weights", "suites",
)  # fmt: skip
_VERDICTS = get_args(Verdict)

_READING = f"""\
- The first table has a row for each question: its first model and metric in `{CLAIMS}`, whose order was fixed before
  there were results. *All its tests* counts the verdicts on the question's other models and metrics, too.
- The difference is the second number less the first. Its {100 * LEVEL:.0f} % interval is paired: records hold each
  metric without each of twenty groups of the images, the same groups for every model; how much the difference moves
  between these is what the images make of it (the delete-a-group jackknife).
- Of several trainings, number k of both models is a pair, and the numbers are means over these. The interval is then
  over images and trainings: the difference's variance over images plus that of a mean over trainings, with
  Satterthwaite's degrees of freedom. **With one training, the interval is over images alone** and says nothing of
  another training of the same networks.
- *Agrees*: the interval lies wholly where the difference is expected; *disagrees*: wholly outside; *undecided*: the
  interval holds the edge; *not tested*: a record, a number or an interval is missing.
- Intervals are not adjusted for the number of claims: of twenty with nothing behind them, about one agrees or disagrees
  by chance.
- Where a question is about conditions of one model, the most extreme of some is held against the most extreme of
  others, each with the Wilson interval of a share of the images; half-widths are added in quadrature, as of independent
  images, which makes the interval wider than it needs to be. Where there was a choice, it was made by looking at the
  results, for which the interval makes no allowance.
- Of several results of one training, that of the most draws is taken, and of these the first that was added."""


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
    parts = ["# Replication report", _summary(found), _made(wanted, found), escape(wanted.about), _counts(every)]
    for claim, several in found:
        parts += [f"## {escape(claim.question)}", f"The paper's numbers: {escape(claim.source)}.{_elsewhere(claim)}"]
        parts.append(markdown([_line(answer, several) for answer in several], _LEFT))
    parts += ["## How to read this", _READING]
    if any(map(_used, every)):
        parts += ["## The models", _models(every)]
    return "\n\n".join(parts) + "\n"


def _summary(found: Sequence[tuple[Comparison | Extreme, list[Answer]]]) -> str:
    """A row for each question, of its first answer."""
    return markdown(
        [
            {
                "claim": f"{escape(claim.question)} ({escape(several[0].label)})",
                "paper": escape(several[0].paper),
                "ours": _values(several[0]),
                "difference": _difference(several[0]),
                "interval over": _over(several[0]),
                "verdict": f"**{several[0].verdict}**",
                "all its tests": _tally(several),
            }
            for claim, several in found
        ],
        _LEFT,
    )


def _elsewhere(claim: Comparison | Extreme) -> str:
    return f" Ours: {escape(claim.dataset)}." if claim.dataset else ""


def _made(wanted: Claims, found: Sequence[tuple[Comparison | Extreme, list[Answer]]]) -> str:
    """The sources of the page and the number of images of its dataset."""
    here = [answer for claim, several in found if claim.dataset is None for answer in several]
    sizes = sorted({entry.record.dataset.n for answer in here for entry in _used(answer)})
    images = f"{' and '.join(f'{n:,}' for n in sizes)} test images" if sizes else "no record of it is used yet"
    return (
        f"Made from `{CLAIMS}` and the files in `records/` by `bench leaderboard replicate`. "
        f"The dataset is {escape(wanted.dataset)} ({images})."
    )


def _counts(every: Sequence[Answer]) -> str:
    return f"Tests: {len(every)}. {_tally(every).capitalize()}."


def _tally(several: Sequence[Answer]) -> str:
    """How many answers have each verdict: `2 agrees, 1 undecided`."""
    count = Counter(answer.verdict for answer in several)
    return ", ".join(f"{count[verdict]} {verdict}" for verdict in _VERDICTS if count[verdict])


def _line(answer: Answer, others: Sequence[Answer]) -> dict[str, str]:
    verdict = f"{answer.verdict}: {answer.reason}" if answer.reason else answer.verdict
    checks = {finding.check: None for entry in _used(answer) for finding in entry.record.findings}
    by_training = {"by training": _by_training(answer)} if any(len(one.trainings) > 1 for one in others) else {}
    return {
        "metric": escape(answer.label),
        "first → second": " → ".join(map(_name, zip(*answer.trainings, strict=True))),
        "ours": _values(answer),
        "expected": f"{'<' if answer.expect == 'lower' else '>'} {answer.edge}",
        "difference": _difference(answer),
        **by_training,
        "interval over": _over(answer),
        "paper": escape(answer.paper),
        "verdict": escape("; ".join([verdict, *(f"audit: {check}" for check in checks)])),
    }


def _values(answer: Answer) -> str:
    return " → ".join(number(value, answer.metric) for value in answer.values)


def _difference(answer: Answer) -> str:
    return "–" if answer.difference is None else change(answer.difference, answer.interval, answer.metric)


def _by_training(answer: Answer) -> str:
    """The difference of each training."""
    numbers = [training(two.entry.record) for _, two in answer.trainings if two.entry is not None]
    told = ("?" if number is None else str(number) for number in numbers)
    return ", ".join(f"{n}: {change(d, None, answer.metric)}" for n, d in zip(told, answer.differences, strict=False))


def _over(answer: Answer) -> str:
    """What the interval is over."""
    if answer.interval is None or answer.second.entry is None:
        return "–"
    count = len(answer.trainings)
    return f"{answer.second.entry.record.dataset.n:,} images, {f'{count} trainings' if count > 1 else 'one training'}"


def _name(sides: Sequence[Number]) -> str:
    """A model, linked to its record if there is one, with its draws or its condition; then its other trainings."""
    first, *others = sides
    if first.entry is None:
        return escape(first.model)
    more = [
        f", [{training(side.entry.record)}]({quote(side.entry.path.as_posix())})"
        for side in others
        if side.entry is not None
    ]
    link = f"[{escape(first.model)}]({quote(first.entry.path.as_posix())}){''.join(more)}"
    return f"{link} {escape(first.at)}".rstrip()


def _used(answer: Answer) -> list[Entry]:
    sides = [side for training in answer.trainings for side in training]
    return [entry for side in sides for entry in (side.entry, side.minus) if entry is not None]


def _models(every: Sequence[Answer]) -> str:
    """The trained networks, a line each, over all suites."""
    used = {entry.path: entry for answer in every for entry in _used(answer)}
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
