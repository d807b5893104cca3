"""Records for the leaderboard's tests: consistent ones, as a run would leave them, and what to change in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from stressbench import registry
from stressbench.contracts import Condition, Metrics, Suite
from stressbench.leaderboard.ranking import Entry, Group
from stressbench.record import Record
from stressbench.results.scoring import summary

ENVIRONMENT = {
    "stressbench": "0.1.0", "commit": None, "python": "3.11.7", "packages": {"torch": "2.9.0"},
    "platform": "Linux x86_64", "device": "x86_64",
}  # fmt: skip


def fields(
    spec: str = "tiny", error: float = 0.2, curve: Mapping[int, float] | None = None, **changes: Any
) -> dict[str, Any]:
    """A faultless record of the corruption suite whose every cell has this error; `changes` go into its parts.

    With `curve`, a number of draws → the error there; the last is the record's own.
    """
    suite = registry.suite("corruption")
    conditions = suite.conditions()
    generator = np.random.default_rng(0)
    nll = generator.uniform(0.5, 2, len(conditions))
    if curve:
        error = list(curve.values())[-1]
        changes = {"draws": list(curve)[-1], **changes, "model": {"stochastic": True, **changes.get("model", {})}}

    def rows(error: float) -> list[dict[str, float | None]]:
        return [
            {"error": error, "nll": float(loss), "ece": 0.125, "signed_ece": 0.1, "brier": 0.3} for loss in nll
        ]  # fmt: skip

    def curves(metrics: Mapping[int, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
        names = next(iter(metrics.values()), {})
        return {name: {str(size): metrics[size][name] for size in metrics} for name in names}

    name = spec.partition(",")[0].partition(":")[0]
    by_size = {size: rows(value) for size, value in (curve or {}).items()}
    result: dict[str, Any] = {
        "schema_version": 3,
        "created": "2026-01-02T03:04:05Z",
        "suite": {
            "name": suite.name, "version": suite.version, "distribution": "stressbench",
            "distribution_version": "0.1.0", "options": {}, "baseline": None,
        },
        "dataset": {
            "name": "squares", "split": "test", "n": 1000, "fingerprint": "sha256:" + "a" * 64, "altered": False,
            "stress": "generated", "stress_verified": None,
        },
        "model": {
            "spec": spec, "distribution": "tiny-models", "version": "1.0",
            "plugins": [{"name": name, "distribution": "tiny-models", "version": "1.0"}],
            "parameters": 12, "stochastic": False,
            "weights_checksum": "sha256:" + "b" * 64, "weights_source": "the plugin's own",
        },
        "draws": 1, "seed": 0, "precision": "float32", "batch_size": 100, "device": "cpu",
        "environment": ENVIRONMENT, "timing": {"seconds": 1.5, "images_per_second": 100.0},
        "metrics": summary(suite, conditions, rows(error), None),
        "curves": curves({size: summary(suite, conditions, values, None) for size, values in by_size.items()}),
        "intervals": {}, "jackknife": {}, "findings": [],
    }  # fmt: skip
    for name, value in changes.items():
        result[name] = {**result[name], **value} if isinstance(value, dict) else value
    result["conditions"] = [
        {
            "condition": dict(condition),
            "n": result["dataset"]["n"],
            "metrics": row,
            "curves": curves({size: values[i] for size, values in by_size.items()}),
        }
        for i, (condition, row) in enumerate(zip(conditions, rows(error), strict=True))
    ]
    if "timing" not in changes:
        images = len(conditions) * result["dataset"]["n"]
        result["timing"] = {"seconds": images / 100, "images_per_second": 100.0}
    return result


def stressed(suite: Suite, spec: str, rank: float, rows: Sequence[tuple[Condition, Metrics]], **changes: Any) -> Record:
    """A model's record of any suite: its first metric is `rank` and these are its conditions; it would not be added."""
    record = fields(spec, **changes)
    record["suite"]["name"] = suite.name
    record["metrics"] = {metric.name: None for metric in suite.metrics} | {suite.metrics[0].name: rank}
    record["conditions"] = [
        {"condition": dict(condition), "n": 1000, "metrics": metrics, "curves": {}} for condition, metrics in rows
    ]
    return Record.model_validate(record)


def group(suite: Suite, records: Sequence[Record]) -> Group:
    return Group(
        suite, "squares", [Entry(Path("records", f"{i}.json"), record, None) for i, record in enumerate(records)]
    )


def put(record: Mapping[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def write(path: Path, spec: str = "tiny", error: float = 0.2, **changes: Any) -> Path:
    """The file of a record as `fields` makes it."""
    return put(fields(spec, error, **changes), path)


def changed(record: dict[str, Any], where: Sequence[str | int], value: Any) -> dict[str, Any]:
    """A copy of a record with one field, deep inside, set to a value."""
    copy: dict[str, Any] = json.loads(json.dumps(record))
    inner: Any = copy
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    return copy


def without_intervals(record: dict[str, Any]) -> dict[str, Any]:
    """The same, as stressbench 0.1 wrote it, whose records have no values without groups of images."""
    copy: dict[str, Any] = {**json.loads(json.dumps(record)), "intervals": {}, "jackknife": {}, "sketches": []}
    copy["created"], copy["model"]["training"] = "2026-11-22T05:45:02Z", []
    copy["environment"]["stressbench"] = copy["suite"]["distribution_version"] = "0.1.0"
    for plugin in (copy["model"], *copy["model"]["plugins"]):
        if copy["model"]["distribution"] == "stressbench":
            plugin["version"] = "0.1.0"
    for row in copy["conditions"]:
        row["jackknife"] = {}
    return copy


def around(
    spec: str = "tiny", error: float = 0.2, half: float = 0.03, pattern: int | None = None, **changes: Any
) -> dict[str, Any]:
    """The same as `fields`, with intervals: the values ± `half`, cut off at 0.

    `clean_error` is a count of images, also without a group, and its interval has the nearest width that counts give.
    What the values are without each group of images is a little more or less by one of three patterns, "a" having
    another one than "b": numbers of the same pattern rise and fall together, those of different ones independently.
    """
    record = fields(spec, error, **changes)
    patterns = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    raised = np.tile(patterns[sum(map(ord, spec)) % 3 if pattern is None else pattern], 5)  # by 1, up or down
    step = half / (scipy.stats.t.ppf(0.975, 19) * np.sqrt(19))
    for name, value in record["metrics"].items():
        values = {str(record["draws"]): value, **record["curves"].get(name, {})}
        record["intervals"][name] = {
            size: None if at is None else (max(at - half, 0.0), at + half) for size, at in values.items()
        }
        record["jackknife"][name] = {
            size: None if at is None else (at + step * raised).tolist() for size, at in values.items()
        }
    _count_groups(record, "clean_error", np.round(step * record["dataset"]["n"]) * raised)
    return record


def complete(spec: str = "tiny") -> dict[str, Any]:
    """A record with all that a new submission has to have."""
    return around(spec, dataset={"classes": 10, "image_size": [32, 32]})


def _count_groups(record: dict[str, Any], name: str, fewer: np.ndarray) -> None:
    """Make a metric's jackknife one of counts: each group has an equal share of the errors, and `fewer` less."""
    n = record["dataset"]["n"]
    sizes = np.array([len(range(group, n, 20)) for group in range(20)])
    for size, value in {str(record["draws"]): record["metrics"][name], **record["curves"].get(name, {})}.items():
        wrong = round(value * n)
        share = wrong // 20 + (np.arange(20) < wrong % 20)
        apart = fewer if ((share - fewer >= 0) & (share - fewer <= sizes)).all() else 0 * fewer
        without = (wrong - share + apart) / (n - sizes)
        half = scipy.stats.t.ppf(0.975, 19) * np.sqrt(19) * without.std()
        ends = None if half < 1e-12 else (max(value - half, 0.0), min(value + half, 1.0))
        record["jackknife"][name][size], record["intervals"][name][size] = without.tolist(), ends


def parsed(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown page, as rows of cells."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def claimed(page: str) -> list[dict[str, str]]:
    """The rows of all claims in a replication report, by column."""
    tables = [table for table in parsed(page) if {"metric", "verdict"} <= {*table[0]}]
    return [dict(zip(table[0], row, strict=True)) for table in tables for row in table[2:]]
