"""Where a record belongs: records/<dataset>/<suite>/<model>.json, one file a result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from stressbench.record import Record, dataset_label
from stressbench.spec import slug

RECORDS = "records"
REPLAYS = "replays"
DATASETS = "datasets.toml"
CLAIMS = "claims.toml"
REPLICATION = "REPLICATION.md"
INDEX = "index.html"
TABLES = "tables"
MODELS = "models"
GENERATED = ("README.md", INDEX, REPLICATION)


def generated(path: Path) -> bool:
    """Whether a file of the leaderboard, by its path in its folder, is made from the others."""
    page = len(path.parts) == 2 and path.parts[0] in (TABLES, MODELS) and path.suffix == ".html"
    return page or str(path) in GENERATED


def result(record: Record) -> str:
    """A digest of what was run: records with equal digests are the same result, also if their numbers differ."""
    what = {
        "suite": record.suite.options,
        "dataset": record.dataset.content,
        "model": [record.model.spec, record.model.distribution, record.model.weights_checksum],
        "draws": record.draws,
        "seed": record.seed,
        "precision": record.precision,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def training(record: Record) -> int | None:
    """Which of the model's trainings it is: k for seed k, or seeds kM … kM + M − 1 of M members; None if unknown."""
    seeds = [part.seed for part in record.model.training]
    return min(seeds) // (1 + max(seeds) - min(seeds)) if seeds else None


def paths(record: Record) -> tuple[Path, Path]:
    """The file of a record, and the one to use if that holds another result of the same model.

    Both are relative to the leaderboard's folder.
    """
    folder = Path(RECORDS, slug(dataset_label(record)), slug(record.suite.name))
    name = slug(record.model.spec)
    return folder / f"{name}.json", folder / f"{name}-{result(record)[:8]}.json"
