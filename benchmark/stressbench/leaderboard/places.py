"""Where a record belongs: records/<dataset>/<suite>/<model>.json, one file a result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from stressbench.record import Record
from stressbench.spec import slug

RECORDS = "records"
REPLAYS = "replays"
CLAIMS = "claims.toml"
FINDINGS = "FINDINGS.md"
GENERATED = ("README.md", "index.html", FINDINGS)


def dataset_label(record: Record) -> str:
    """The dataset's name; a copy whose pixels are not the published ones never goes by the plain name."""
    return f"{record.dataset.name}-altered" if record.dataset.altered else record.dataset.name


def result(record: Record) -> str:
    """What was run, as a digest: two records that agree in this are one result, whatever their numbers."""
    what = {
        "suite": record.suite.options,
        "dataset": record.dataset.model_dump(mode="json"),
        "model": [record.model.spec, record.model.distribution, record.model.weights_checksum],
        "draws": record.draws,
        "seed": record.seed,
        "precision": record.precision,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def places(record: Record) -> tuple[Path, Path]:
    """The file that a record belongs in, and the one where that holds another result of the same model.

    Both are relative to the leaderboard's folder.
    """
    folder = Path(RECORDS, slug(dataset_label(record)), slug(record.suite.name))
    name = slug(record.model.spec)
    return folder / f"{name}.json", folder / f"{name}-{result(record)[:8]}.json"
