"""What the page of one model shows: each of its results in words and numbers, how to run it, and how to cite it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from stressbench.leaderboard import tables
from stressbench.leaderboard.figures import figures
from stressbench.leaderboard.paths import MODELS
from stressbench.leaderboard.ranking import Entry, Group, Ranked
from stressbench.record import Record, TrainingInfo, dataset_label
from stressbench.spec import slug


def path(name: str) -> str:
    """Where a model's page is, by its name on the leaderboard."""
    return f"{MODELS}/{slug(name)}.html"


def anchor(entry: Entry) -> str:
    """The place of a result in its model's page."""
    return hashlib.sha256(entry.path.as_posix().encode()).hexdigest()[:8]


def model(name: str, results: Sequence[tuple[Group, Ranked]]) -> dict[str, Any]:
    """A model's results, by dataset and suite."""
    ordered = sorted(results, key=lambda one: (one[0].dataset, one[0].title, str(one[1].entry.path)))
    last = max((ranked.entry.record for _, ranked in results), key=lambda record: record.created)
    return {
        "name": name,
        "kind": "stochastic" if last.model.stochastic else "deterministic",
        "distribution": f"{last.model.distribution} {last.model.version}",
        "parameters": last.model.parameters,
        "plugins": [plugin.name for plugin in last.model.plugins],
        "results": [_result(group, ranked) for group, ranked in ordered],
    }


def command(record: Record) -> str:
    """The command that runs a record again, on the same images and with the same weights."""
    data, suite = record.dataset, record.suite
    words = ["bench", "run", "--suite", f"{suite.distribution}/{suite.name}"]
    words += ["--model", record.model.spec, "--dataset", data.name, "--limit", str(data.n), "--stress", data.stress]
    words += [word for key, value in sorted(suite.options.items()) for word in ("--option", f"{key}={value}")]
    sizes = next(iter(record.curves.values()), {})
    if record.model.stochastic:
        words += ["--draws", str(record.draws)]
    if sizes:
        words += ["--sizes", ",".join(sizes)]
    words += ["--seed", str(record.seed), "--precision", record.precision]
    words += ["--compile"] * record.environment.compiled
    return shlex.join(words)


def _result(group: Group, ranked: Ranked) -> dict[str, Any]:
    entry, record = ranked.entry, ranked.entry.record
    cells = [(metric, tables.UNITS[metric.unit], tables.cell(metric, ranked)) for metric in group.metrics]
    return {
        "anchor": anchor(entry),
        "title": f"{group.title} on {group.dataset}",
        "table": tables.path(group, None),
        "standing": ranked.standing,
        "by": group.by,
        "of": len(group.entries),
        "cells": [one for one in cells if entry.value(one[0]) is not None],
        "about": group.about(),
        "record": record,
        "link": quote(entry.path.as_posix()),
        "evidence": _evidence(entry),
        "training": [_trained(training) for training in record.model.training],
        "command": command(record),
        "citation": _citation(record, entry),
        "figures": list(figures(replace(group, entries=[entry]))),
    }


def _evidence(entry: Entry) -> str:
    note = entry.replay
    if note is None:
        return entry.evidence
    who = note.by or "its author or whoever looks after this page"
    how = "rows, from image to image," if note.rows else "means over images"
    return (
        f"replayed by {who} on {note.replayed.date().isoformat()}: "
        f"{how} of {len(note.conditions)} of {len(entry.record.conditions)} conditions agreed, with stressbench "
        f"{note.stressbench} on {note.device}"
    )


def _trained(training: TrainingInfo) -> str:
    held_out = f", with {training.validation:,} images held out" if training.validation else ""
    measured = ", ".join(f"{name} {value:.4g}" for name, value in training.metrics.items())
    return (
        f"{training.spec}: recipe {training.recipe}, {training.epochs} epochs, seed {training.seed}, on the "
        f"{training.split} split of {training.dataset}{held_out}, in {training.precision} on {training.device_name}, "
        f"{training.seconds / 3600:.1f} h; then on its {training.measured_on} split: {measured}"
    )


def _citation(record: Record, entry: Entry) -> str:
    key = slug(f"stressbench-{record.suite.name}-{record.model.spec}")
    return "\n".join(
        [
            f"@misc{{{key},",
            f"  title = {{{record.model.spec} under the {record.suite.name} suite on {dataset_label(record)}}},",
            f"  howpublished = {{stressbench {record.environment.stressbench}, {entry.path.as_posix()}, model of "
            f"{record.model.distribution} {record.model.version}}},",
            f"  year = {{{record.created.year}}},",
            "}",
        ]
    )
