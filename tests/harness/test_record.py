"""The record as a file: it comes back as it was, and what is not a record is refused in a line."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from stressbench import record, record_file
from stressbench.errors import UserError
from stressbench.execution.environment import environment

FIELDS: dict[str, Any] = {
    "schema_version": 3,
    "created": "2026-01-02T03:04:05Z",
    "suite": {
        "name": "corruption", "version": "1.1", "distribution": "stressbench", "distribution_version": "0.1.0",
        "options": {}, "baseline": None, "protocol": None,
    },
    "dataset": {
        "name": "digits", "split": "test", "n": 3, "fingerprint": "sha256:" + "a" * 64, "altered": False,
        "stress": "generated", "stress_verified": None, "published": None, "classes": 10, "image_size": [8, 8],
        "task": "classification",
    },
    "sources": [],
    "model": {
        "spec": "tiny", "distribution": "tiny-models", "version": "1.0",
        "plugins": [{"name": "tiny", "distribution": "tiny-models", "version": "1.0"}],
        "parameters": 12, "stochastic": False,
        "weights_checksum": "sha256:" + "b" * 64, "weights_source": "the plugin's own",
        "training": [
            {
                "spec": "tiny", "seed": 0, "dataset": "digits", "split": "train", "fingerprint": "sha256:" + "c" * 64,
                "validation": 0, "recipe": "fast,epochs=2", "epochs": 2, "settings": {"flip": "True"},
                "precision": "float32", "measured_on": "test", "metrics": {"accuracy": 0.75}, "seconds": 1.5,
                "device": "cpu", "device_name": "x86_64", "versions": {"torch": "2.9.0"},
            },
        ],
    },
    "draws": 1, "seed": 0, "precision": "float32", "batch_size": 100, "device": "cpu",
    "environment": {
        "stressbench": "0.1.0", "commit": None, "python": "3.11.7", "packages": {"torch": "2.9.0"},
        "platform": "Linux x86_64", "device": "x86_64", "executor": "this process",
    },
    "timing": {"seconds": 1.5, "images_per_second": 100.0},
    "metrics": {"clean_error": 0.25, "mCE": None},
    "curves": {"clean_error": {"1": 0.5, "2": 0.25}}, "intervals": {"clean_error": {"1": None, "2": [0.125, 0.5]}},
    "jackknife": {"clean_error": {"1": None, "2": [0.25, 0.125]}},
    "findings": [{"check": "zero-gradients", "message": "some", "source": "suite"}],
    "conditions": [
        {
            "condition": {"corruption": "none", "severity": 0}, "n": 3, "metrics": {"error": 0.25},
            "curves": {"error": {"1": 0.5, "2": 0.25}}, "jackknife": {"error": [0.0, 0.5, 0.25]},
        },
    ],
}  # fmt: skip


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps(FIELDS))
    loaded = record.load(tmp_path)
    assert json.loads(loaded.to_json()) == FIELDS
    (tmp_path / "copy.json").write_text(loaded.to_json())
    assert record.load(tmp_path / "copy.json") == loaded


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "golden").glob("*.json")), ids=lambda path: path.name)
def test_old_records_still_load_and_agree_with_themselves(path: Path) -> None:
    loaded = record.load(path)
    assert loaded.metrics["mean_error"] == pytest.approx(
        sum(row.metrics["error"] or 0 for row in loaded.conditions[1:]) / 75
    )
    if path.stem == f"record-v{record_file.SCHEMA_VERSION}":
        assert loaded.to_json() == path.read_text()


def test_a_record_of_version_1_is_upgraded(tmp_path: Path) -> None:
    old = {key: value for key, value in FIELDS.items() if key not in ("curves", "findings")}
    old["schema_version"] = 1
    old["model"] = {**FIELDS["model"], "spec": "infer-noise:tiny,sigma=1"}
    del old["model"]["plugins"]
    (tmp_path / "record.json").write_text(json.dumps(old))
    loaded = record.load(tmp_path)
    assert (loaded.schema_version, loaded.curves, loaded.findings) == (3, {}, [])
    assert [plugin.name for plugin in loaded.model.plugins] == ["infer-noise"]
    for broken in ({**old, "model": 3}, {**old, "model": {}}):
        (tmp_path / "record.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match="is not a record: model"):
            record.load(tmp_path)


def with_field(path: str, value: object) -> dict[str, Any]:
    fields = json.loads(json.dumps(FIELDS))
    *parents, last = path.split(".")
    part = fields
    for parent in parents:
        part = part[int(parent) if parent.isdigit() else parent]
    part[last] = value
    return fields


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not a record"),
        ("[1, 2", "is not a record"),
        ("[]", "no schema_version"),
        ("{}", "no schema_version"),
        ('{"schema_version": true}', "no schema_version"),
        ('{"schema_version": 4}', "schema version 4, newer than this stressbench reads"),
        ('{"schema_version": 1, "schema_version": 1}', "a key twice"),
        ('{"schema_version": 1, "seed": NaN}', "NaN"),
        ("[" * 100_000, "is not a record"),
        (json.dumps(with_field("metrics.clean_error", "0.2 %")), "metrics.clean_error"),
        (json.dumps(with_field("metrics.clean_error", 1e999)), "Infinity"),
        (json.dumps(with_field("dataset.fingerprint", "sha256:../../x")), "dataset.fingerprint"),
        (json.dumps(with_field("dataset.stress", "invented")), "dataset.stress"),
        (json.dumps(with_field("draws", 0)), "draws"),
        (json.dumps(with_field("extra", 0)), "extra"),
        (json.dumps(with_field("conditions", [])), "conditions"),
        (json.dumps(with_field("curves", {"mCE": {"0": 1.0}})), "curves"),
        (json.dumps(with_field("findings", ["doubtful"])), "findings"),
    ],
)
def test_what_is_not_a_record_is_refused_in_a_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(UserError, match=words) as error:
        record.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        record.load(tmp_path)
    (tmp_path / "record.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not a record"):
        record.load(tmp_path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(UserError, match="more than 16 MB"):
        record.load(path)


def test_the_environment_has_the_versions_of_what_was_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the requirements of the distributions involved: those that are imported, and neither others nor all."""

    def install(name: str, requires: Sequence[str] = (), module: str | None = None) -> None:
        info = tmp_path / f"{name.replace('-', '_')}-2.5.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 2.5", *(f"Requires-Dist: {r}" for r in requires)]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        if module is not None:
            (tmp_path / f"{module}.py").touch()
            (info / "RECORD").write_text(f"{module}.py,,\n")

    install("My-Attacks", ['Fast.Steps>=2; extra == "fast"', "unused-steps", "never-installed (>=1)"])
    install("fast-steps", module="quicksteps")
    install("unused-steps", module="unusedsteps")
    install("elsewhere", module="elsewhere_steps")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("quicksteps", "elsewhere_steps"):
        monkeypatch.setitem(sys.modules, module, importlib.import_module(module))
    packages = environment(
        "cpu", "this process", ["My-Attacks", "file"]
    ).packages  # `file:net.py:net` is of no distribution
    assert packages["fast-steps"] == "2.5"
    assert not {"unused-steps", "never-installed", "elsewhere"} & packages.keys()
    assert packages["pydantic"] == importlib.metadata.version("pydantic")
    assert "fast-steps" not in environment("cpu", "this process").packages
