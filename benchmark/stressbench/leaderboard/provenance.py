"""What a record says of when, where and with what it was made: none of it may contradict the rest.

Nothing here proves that a run took place. It refuses what `bench run` cannot have written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import torch

from stressbench import __version__
from stressbench.contracts import Suite
from stressbench.leaderboard.numbers import Fault
from stressbench.leaderboard.words import shown
from stressbench.record import Record, TrainingInfo
from stressbench.spec import parse
from stressbench.tasks import TASKS, Classification

_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
OURS = "stressbench"
_COMPLETE = (0, 2)  # the first version all of whose records have intervals, classes and the images' size
_LARGEST_SEED = 2**31 - 1
_MOST_PARAMETERS = 10**12
_RANGES = {"accuracy": (0.0, 1.0)}  # of numbers of a training that are not among its task's metrics
_VERSION = re.compile(r"\d+(\.\d+)*([-+._a-z]\S*|(a|b|rc)\d+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}(-dirty)?")
_PYTHON = re.compile(r"3\.(\d+)\.\d+\S*")


def faults(record: Record) -> Iterator[Fault]:
    """The faults of a record's date, versions, machine, training and timing, which are none of the suite's business."""
    yield from _date(record.created)
    yield from _versions(record)
    if not 0 <= record.seed <= _LARGEST_SEED:
        yield Fault("seed", f"is {record.seed}: it is between 0 and {_LARGEST_SEED}")
    if not _is_device(record.device):
        yield Fault("device", f"is {shown(record.device)}, which torch does not have")
    if record.model.parameters > _MOST_PARAMETERS:
        yield Fault("model.parameters", f"is {record.model.parameters}: at most {_MOST_PARAMETERS:.0e} are taken")
    for i, training in enumerate(record.model.training):
        yield from (Fault(f"model.training.{i}.{field}", message) for field, message in _training(record, training))
    if len(record.model.training) != len({(one.spec, one.seed) for one in record.model.training}):
        yield Fault("model.training", "has a part's training twice")
    if complete(record):
        yield from _missing(record)


def timing(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether the speed is that of all images in the seconds that are given."""
    seconds, speed = record.timing.seconds, record.timing.images_per_second
    if seconds < 0 or speed < 0:
        yield Fault("timing", "is negative")
    elif suite.rows == "image":
        images = sum(row.n for row in record.conditions)
        # Both are rounded: seconds to thousandths, images in a second to tenths.
        slack = 0.06 * seconds + 6e-4 * speed + 1e-6 * images
        if abs(speed * seconds - images) > slack:
            yield Fault("timing", f"is {seconds:g} s at {speed:g} images/s, and the conditions have {images} images")


def seen(suite: Suite, record: Record) -> Iterator[Fault]:
    """Whether a part was trained on what it is measured on, where the suite is not of training images by intention."""
    data = record.dataset
    for i, training in enumerate(record.model.training if suite.split == "test" else ()):
        if training.fingerprint == data.fingerprint or (training.dataset, training.split) == (data.name, data.split):
            fault = "is what the record is measured on: the model has seen these images and their labels"
            yield Fault(f"model.training.{i}.split", fault)


def complete(record: Record) -> bool:
    """Whether its version writes everything that checks need; what older ones left out, they do not ask for."""
    return version(record.environment.stressbench) >= _COMPLETE


def version(text: str) -> tuple[int, ...]:
    """The numbers at the front of a version.

    >>> version("0.2.1rc1"), version("dev")
    ((0, 2, 1), ())
    """
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def _date(created: datetime) -> Iterator[Fault]:
    offset = created.utcoffset()
    if offset is None:
        yield Fault("created", "has no time zone: dates are UTC")
    elif created < _FIRST:
        yield Fault("created", f"is {created.isoformat()}: there were no records before {_FIRST.year}")
    elif offset != timedelta(0):
        yield Fault("created", f"is {created.isoformat()}, not in UTC")


def _versions(record: Record) -> Iterator[Fault]:
    given, here = record.environment, record.environment.stressbench
    python = _PYTHON.fullmatch(given.python)
    if python is None or int(python[1]) < 11:
        yield Fault("environment.python", f"is {shown(given.python)}: stressbench runs on Python 3.11 and later")
    if given.commit is not None and not _COMMIT.fullmatch(given.commit):
        yield Fault("environment.commit", f"is {shown(given.commit)}: a commit has 40 hexadecimal digits")
    if "torch" not in given.packages:
        yield Fault("environment.packages", "are without torch, which every run needs")
    for name, text in {"stressbench": here, **given.packages}.items():
        if not _VERSION.fullmatch(text.lower()):
            yield Fault(f"environment.packages.{name}", f"is {shown(text)}, which is not a version")
    if version(here) > version(__version__):
        yield Fault("environment.stressbench", f"is {shown(here)}, and the newest version is {__version__}")
    used = {"suite.distribution_version": (record.suite.distribution, record.suite.distribution_version)} | {
        f"model.plugins.{i}.version": (plugin.distribution, plugin.version)
        for i, plugin in enumerate(record.model.plugins)
    }
    for field, (distribution, text) in used.items():
        if distribution == OURS and text != here:
            yield Fault(field, f"is {shown(text)}, and the run was made with stressbench {here}")


def _is_device(name: str) -> bool:
    try:
        torch.device(name)
    except (RuntimeError, ValueError):
        return False
    return True


def _training(record: Record, training: TrainingInfo) -> Iterator[tuple[str, str]]:
    name = parse(training.spec).name.partition(":")[0]
    if name not in {plugin.name.partition(":")[0] for plugin in record.model.plugins}:
        yield "spec", f"is {shown(training.spec)}, which is not a part of {shown(record.model.spec)}"
    if training.seed > _LARGEST_SEED:
        yield "seed", f"is {training.seed}: it is between 0 and {_LARGEST_SEED}"
    if training.seconds < 0:
        yield "seconds", "is negative"
    if not _is_device(training.device):
        yield "device", f"is {shown(training.device)}, which torch does not have"
    for key, text in training.versions.items():
        if not _VERSION.fullmatch(text.lower()):
            yield f"versions.{key}", f"is {shown(text)}, which is not a version"
    ranges = {
        metric.name: metric.range for metric in TASKS.get(record.dataset.task, Classification).row_metrics
    } | _RANGES
    for key, value in training.metrics.items():
        low, high = ranges.get(key, (-math.inf, math.inf))
        if not low <= value <= high:
            yield f"metrics.{key}", f"is {value}: it is between {low:g} and {high:g}"


def _missing(record: Record) -> Iterator[Fault]:
    if not record.intervals or not record.jackknife:
        yield Fault("intervals", "are missing, with the values without each group of images: run it again")
    if record.dataset.image_size is None:
        yield Fault("dataset.image_size", "is missing: run it again")
    if record.dataset.task == "classification" and record.dataset.classes is None:
        yield Fault("dataset.classes", "is missing: run it again")
