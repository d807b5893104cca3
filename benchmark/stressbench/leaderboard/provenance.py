"""What a record says of when, where and with what it was made: none of it may contradict the rest.

Nothing here proves that a run took place. It refuses what `bench run` cannot have written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from stressbench import __version__, recipe
from stressbench.contracts import Suite
from stressbench.execution import class_balance, first_batch
from stressbench.leaderboard.numbers import Fault
from stressbench.leaderboard.words import shown
from stressbench.record import Record, TrainingInfo
from stressbench.spec import parse
from stressbench.tasks import TASKS, Classification

_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
OURS = "stressbench"
_COMPLETE = (0, 2)  # the first version all of whose records have intervals, classes and the images' size
_SINCE = datetime(2026, 11, 27, tzinfo=UTC)  # when it was there: records that are later are of no older version
_LARGEST_SEED = 2**31 - 1
_MOST_PARAMETERS = 10**12
# Numbers of a training that are not among its task's metrics.
_RANGES = {"accuracy": (0.0, 1.0), "train_loss": (-math.inf, math.inf)}
_DEVICES = ("cpu", "cuda")
_EXECUTOR = re.compile(r"this process|Ray, (1 worker|[1-9]\d{0,5} workers)")
_NOTICED = {*first_batch.CHECKS.values(), *class_balance.CHECKS}  # the names of what a run finds
_RECIPE = re.compile(r"[A-Za-z0-9][\w.+/-]*(,\w+=[^,]+)*")
_SETTINGS = recipe.NAMES
_TRAINED = re.compile(r"trained here, seed (\d+)(?:, recipe (.+), (\d+) epochs?)?")
_VERSION = re.compile(r"\d+(\.\d+)*([-+._a-z]\S*|(a|b|rc)\d+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}(-dirty)?")
_PYTHON = re.compile(r"3\.(\d+)\.\d+\S*")


def faults(record: Record) -> Iterator[Fault]:
    """The faults of a record's date, versions, machine, training and timing, which are none of the suite's business."""
    yield from _date(record.created)
    yield from _versions(record)
    if not 0 <= record.seed <= _LARGEST_SEED:
        yield Fault("seed", f"is {record.seed}: it is between 0 and {_LARGEST_SEED}")
    if record.device not in _DEVICES:
        yield Fault("device", f"is {shown(record.device)}: runs are on {' or '.join(_DEVICES)}")
    if not _EXECUTOR.fullmatch(record.environment.executor):
        yield Fault("environment.executor", f"is {shown(record.environment.executor)}, which no run is computed by")
    yield from _findings(record)
    if record.model.parameters > _MOST_PARAMETERS:
        yield Fault("model.parameters", f"is {record.model.parameters}: at most {_MOST_PARAMETERS:.0e} are taken")
    for i, training in enumerate(record.model.training):
        yield from (Fault(f"model.training.{i}.{field}", message) for field, message in _training(record, training))
    if len(record.model.training) != len({(one.spec, one.seed) for one in record.model.training}):
        yield Fault("model.training", "has a part's training twice")
    yield from _sources(record)
    if complete(record):
        yield from missing(record)


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
    """Whether its version writes everything that checks need; what older ones left out, they do not ask for.

    An older version that is claimed after that one was there, or in a new submission, is no excuse.
    """
    late = record.created.utcoffset() is not None and record.created >= _SINCE
    return late or version(record.environment.stressbench) >= _COMPLETE


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


def _findings(record: Record) -> Iterator[Fault]:
    """Whether what the run noticed has one of the names that runs give; the suite's findings are computed again."""
    seen = set()
    for i, finding in enumerate(record.findings):
        if finding.source == "run" and finding.check not in _NOTICED:
            yield Fault(f"findings.{i}.check", f"is {shown(finding.check)}, which no run looks for")
        if (finding.check, finding.message) in seen:
            yield Fault(f"findings.{i}", f"is {shown(finding.check)} again")
        seen.add((finding.check, finding.message))


def _sources(record: Record) -> Iterator[Fault]:
    """Whether the weights were trained as long as they are said to be where the record has the trainings, too."""
    trainings = {(one.seed, one.recipe, one.epochs) for one in record.model.training}
    for piece in record.model.weights_source.split("; ") if trainings else ():
        found = _TRAINED.fullmatch(piece)
        if found and found[2] and (int(found[1]), found[2], int(found[3])) not in trainings:
            yield Fault("model.weights_source", f"has {shown(piece)}, which is none of model.training")


def _training(record: Record, training: TrainingInfo) -> Iterator[tuple[str, str]]:
    name = parse(training.spec).name.partition(":")[0]
    if name not in {plugin.name.partition(":")[0] for plugin in record.model.plugins}:
        yield "spec", f"is {shown(training.spec)}, which is not a part of {shown(record.model.spec)}"
    if training.seed > _LARGEST_SEED:
        yield "seed", f"is {training.seed}: it is between 0 and {_LARGEST_SEED}"
    if training.seconds < 0:
        yield "seconds", "is negative"
    if training.device.partition(":")[0] not in _DEVICES:
        yield "device", f"is {shown(training.device)}: trainings are on {' or '.join(_DEVICES)}"
    yield from _taught(training)
    for key, text in training.versions.items():
        if not _VERSION.fullmatch(text.lower()):
            yield f"versions.{key}", f"is {shown(text)}, which is not a version"
    if version(training.versions.get(OURS, "")) > version(record.environment.stressbench):
        yield f"versions.{OURS}", "is newer than the run's, which came after the training"
    ranges = {
        metric.name: metric.range for metric in TASKS.get(record.dataset.task, Classification).row_metrics
    } | _RANGES
    for key, value in training.metrics.items():
        if key not in ranges:
            yield f"metrics.{key}", f"is not measured after a training for {record.dataset.task}"
            continue
        low, high = ranges[key]
        if not low <= value <= high:
            yield f"metrics.{key}", f"is {value}: it is between {low:g} and {high:g}"


def _taught(training: TrainingInfo) -> Iterator[tuple[str, str]]:
    """How it was trained: what `bench train` has as options and recipes, and measures on."""
    measured = "validation" if training.validation else "test"
    if training.measured_on != measured:
        found = shown(training.measured_on)
        yield "measured_on", f"is {found}: with {training.validation} images held out it is {measured}"
    if not _RECIPE.fullmatch(training.recipe):
        yield "recipe", f"is {shown(training.recipe)}: it is a name with options, as fast,epochs=2"
    for key in training.settings:
        if key not in _SETTINGS:
            yield f"settings.{key}", "is not an option of a training"
    precision = training.settings.get("precision", "auto")
    if precision not in ("auto", training.precision):
        yield "precision", f"is {training.precision}, and the recipe's is {shown(precision)}"
    for key in ("batch_size", "learning_rate", "draws"):
        text = training.settings.get(key, "1")
        if not _is_positive(text):
            yield f"settings.{key}", f"is {shown(text)}, which is not a positive number"


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def missing(record: Record) -> Iterator[Fault]:
    """What a record lacks that every run of the present version writes."""
    if not record.intervals or not record.jackknife:
        yield Fault("intervals", "are missing, with the values without each group of images: run it again")
    if record.dataset.image_size is None:
        yield Fault("dataset.image_size", "is missing: run it again")
    if record.dataset.task == "classification" and record.dataset.classes is None:
        yield Fault("dataset.classes", "is missing: run it again")
