"""The record: everything that someone needs to believe a result, or to repeat it.

One JSON file. Metrics are in the units that the suite states, unknown is null, dates are UTC in ISO 8601. A file of a
newer schema is refused; one of an older schema is upgraded on the way in.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stressbench.errors import UserError

SCHEMA_VERSION: Literal[3] = 3


def _from_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew neither ensemble sizes nor audits, and named the outermost plugin alone."""
    fields = {**fields, "schema_version": 2, "curves": {}, "findings": []}
    if isinstance(fields.get("model"), dict):
        model = fields["model"]
        name = str(model.get("spec")).partition(",")[0].partition(":")[0]
        plugin = {"name": name, "distribution": model.get("distribution"), "version": model.get("version")}
        fields["model"] = {**model, "plugins": [plugin]}
    return fields


def _from_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had no intervals, which cannot be made without the tables."""
    return {**fields, "schema_version": 3, "intervals": {}, "jackknife": {}}


# How to turn a record of schema version k into one of k + 1, by k. What a field's default says needs no step.
_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}

_LARGEST = 16 * 2**20  # bytes; a real record is some tens of thousands

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1, max_length=300)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


Size = Annotated[str, Field(pattern=r"^[1-9][0-9]*$")]  # a number of draws, in digits
# Metrics over ensemble sizes: metric → size → value.
Curves = dict[str, dict[Size, Number | None]]
# The same for the ends of 95 % intervals, and for what they are made from: the metric without each group of images.
Intervals = dict[str, dict[Size, tuple[Number, Number] | None]]
Jackknife = dict[str, dict[Size, list[Number] | None]]


class Row(_Part):
    condition: dict[str, str | int | float]
    n: Annotated[int, Field(ge=1)]
    metrics: dict[str, Number | None]
    curves: Curves = {}


class Baseline(_Part):
    """The model whose numbers normalise another's, with those numbers, so that nothing else is needed to check it."""

    model: Text
    source: Text  # the published table or the record that they are from
    conditions: list[Row]


class SuiteInfo(_Part):
    name: Text
    version: Text
    distribution: Text
    distribution_version: Text
    options: dict[str, str]
    baseline: Baseline | None

    @property
    def offer(self) -> str:
        """What names this suite also where another distribution offers one of the same name."""
        return f"{self.distribution}/{self.name}"


class DatasetInfo(_Part):
    name: Text
    split: Text
    n: Annotated[int, Field(ge=1)]
    fingerprint: Digest  # of the clean images and labels that were used
    altered: bool  # goes by a published set's name without having its pixels
    stress: Literal["official", "generated"]
    stress_verified: bool | None  # official files only: their checksums are the published ones; null: none published


class PluginInfo(_Part):
    name: Text
    distribution: Text
    version: Text


class ModelInfo(_Part):
    spec: Text
    distribution: Text  # of the outermost plugin
    version: Text
    plugins: Annotated[list[PluginInfo], Field(min_length=1)]  # all that the spec names, the outermost first
    parameters: Count
    stochastic: bool
    weights_checksum: Digest
    weights_source: Text


class Environment(_Part):
    stressbench: Text
    commit: str | None
    python: Text
    packages: dict[str, str]
    platform: Text
    device: Text  # its name, beside the record's `device`, which is what torch calls it


class Finding(_Part):
    """Something that makes a record's numbers doubtful."""

    check: Text  # a short stable name
    message: Text


class Timing(_Part):
    seconds: Number  # spent stressing, predicting and observing, over all conditions and all sittings
    images_per_second: Number  # clean and stressed images, each counted once however many draws it took


class Record(_Part):
    """One model through one suite."""

    schema_version: Literal[3]
    created: datetime
    suite: SuiteInfo
    dataset: DatasetInfo
    model: ModelInfo
    draws: Annotated[int, Field(ge=1)]
    seed: int
    precision: Text
    batch_size: Annotated[int, Field(ge=1)]
    device: Text
    environment: Environment
    timing: Timing
    metrics: dict[str, Number | None]
    curves: Curves  # empty where no ensemble sizes were asked for
    intervals: Intervals  # of the metrics at the record's draws and its curves' sizes; empty in upgraded records
    jackknife: Jackknife
    findings: list[Finding]
    conditions: Annotated[list[Row], Field(min_length=1)]

    def to_json(self) -> str:
        """Indented JSON with a final newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load(path: Path) -> Record:
    """Read a record file, or the one in a run folder.

    Raises `UserError` for a file that is missing, too large, not JSON, of a newer schema, or not a record; the line
    names the file and the first field that is wrong.
    """
    path = path / "record.json" if path.is_dir() else path
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path} has {path.stat().st_size / 2**20:.0f} MB: no record is that large")
        fields = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: give a run folder or its record.json") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a record: {error}") from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if type(version) is not int or version < 1:
        raise UserError(f"{path} is not a record: it has no schema_version")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, newer than this stressbench reads ({SCHEMA_VERSION}): upgrade it"
        )
    for step in range(version, SCHEMA_VERSION):
        fields = _UPGRADES[step](fields)
    try:
        return Record.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is not a record: {where}: {first['msg']}") from error


def environment(device: str) -> Environment:
    """This machine and what is installed on it; `device` is the device's own name."""
    packages = ["torch", "torchvision", "numpy", "pandas", "pillow", "datasets"]
    packages += ["timm"] if "timm" in sys.modules else []  # an extra, which networks may be made by
    return Environment(
        stressbench=importlib.metadata.version("stressbench"),
        commit=_commit(),
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in packages},
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
    )


def cpu_name() -> str:
    """What this machine's processor calls itself, or its architecture where it does not say."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor()) or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with `-dirty` where it differs; None when installed."""
    import subprocess

    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("it has a key twice")
    return fields


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}, which JSON does not have")
