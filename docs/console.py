"""Console output in the documentation: `make outputs` writes it into the marked places, and a test compares it.

cogapp calls `show` where a page has a comment with `[[[cog`; see `docs/commands.md`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from stressbench._util import tabular
from stressbench.leaderboard.ranking import groups
from stressbench.results.show import ARROW, interval, number

ROOT = Path(__file__).parents[1]


def show(command: str) -> None:
    """Prints a command of this environment and its output, as a Markdown block; raises if the command fails."""
    program, *arguments = shlex.split(command)
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run(
        [Path(sys.executable).parent / program, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stderr}")
    lines = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    print("```console", f"$ {command}", *lines, "```", sep="\n")


def board(suite: str, dataset: str, *metrics: str) -> None:
    """Prints the leaderboard's first table of a suite on a dataset: each of `metrics` with its 95 % interval."""
    (group, *_) = (one for one in groups(ROOT / "leaderboard") if (one.suite.name, one.dataset) == (suite, dataset))
    shown = {metric: f"{metric.name} {ARROW[metric.better]}" for metric in group.metrics if metric.name in metrics}
    rows = []
    for ranked in group.ranked():
        entry = ranked.entry
        seeds = ", ".join(str(training.seed) for training in entry.record.model.training)
        row = {"#": str(ranked.rank), "model": group.name(entry), "seed": seeds, "draws": str(entry.record.draws)}
        for metric, heading in shown.items():
            ends = entry.interval(metric)  # None for AlexNet's own mCE, which is 100 % by definition
            around = "" if ends is None else f" ({interval(ends, metric)})"
            row[heading] = number(entry.value(metric), metric) + around
        rows.append(row)
    print(tabular.markdown(rows, ("#", "model")))


def cost(dataset: str) -> None:
    """Prints how long the trainings and the runs of the leaderboard's records on a dataset took."""
    records = [entry.record for one in groups(ROOT / "leaderboard") if one.dataset == dataset for entry in one.entries]
    # One training has several records.
    trained = {(t.spec, t.seed, t.seconds) for record in records for t in record.model.training}
    for what, seconds in (("trainings", [t[-1] for t in trained]), ("runs", [r.timing.seconds for r in records])):
        print(f"- {len(seconds)} {what}: {sum(seconds) / 3600:.1f} hours")
