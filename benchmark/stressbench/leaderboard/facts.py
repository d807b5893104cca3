"""What the harness itself knows of a record's model and images, against what the record says of them.

Only models that stressbench offers, made of nothing else, are built here, without memory for their weights: the code of
other plugins, of files and of hubs is never run to check a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from pydantic import RootModel, ValidationError

from stressbench import registry, signatures
from stressbench._util import toml
from stressbench.contracts import Classification, Dataset, InMemory, Segmentation, Suite, Task
from stressbench.datasets.fingerprint import fingerprint
from stressbench.datasets.identity import claimed
from stressbench.errors import UserError
from stressbench.leaderboard.numbers import Fault
from stressbench.leaderboard.paths import DATASETS
from stressbench.leaderboard.words import shown
from stressbench.record import DatasetInfo, Digest, Record, Text
from stressbench.spec import Spec, parse
from stressbench.traits import traits

# Fingerprints of datasets by name and number of images, as whoever looks after a leaderboard has confirmed them.
Known = Mapping[str, Mapping[int, str]]

_OURS = "stressbench"
# The sets whose pixels come with the harness or are made by it, so that their fingerprints are known everywhere.
EMBEDDED = ("digits", "scenes", "scenes-depth", "photos", "noise", "blobs", "photo-patches")
_LARGEST_OPTION = 16  # a model with a greater number in its name is not built: it might take minutes
_ALIKE = str.maketrans("loizsb", "101258")


class _Known(RootModel[dict[Text, dict[int, Digest]]]):
    pass


def known(root: Path) -> Known:
    """The fingerprints in a leaderboard's datasets.toml; none without it. Raises `UserError` if it is invalid."""
    path = root / DATASETS
    return toml.read(path, _Known, _first).root if path.exists() else {}


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


# --- images ---------------------------------------------------------------------------------------------------


def images(label: str, data: DatasetInfo, field: str, fingerprints: Known) -> Iterator[Fault]:
    """Whether a dataset's name, size and fingerprint are those of the set that it claims to be."""
    meant = alike(data.name)
    if meant is not None:
        yield Fault(f"{field}.name", f"is {shown(data.name)}, which looks like {meant} and is not")
    if data.name in EMBEDDED:
        if data.split not in ("train", "test"):
            return  # a part of one of these, which a seed chose
        try:
            embedded = _embedded(data.name, data.split)
        except UserError as error:
            yield Fault(f"{field}.split", str(error))
            return
        count = len(embedded.images)
        if data.n > count:
            yield Fault(f"{field}.n", f"is {data.n}, and {data.name} has {count} {embedded.split} images")
        elif data.altered or data.fingerprint != _fingerprint(data.name, data.split, data.n):
            yield Fault(
                f"{field}.fingerprint", f"is not that of the first {data.n} {embedded.split} images of {data.name}"
            )
        return
    right = fingerprints.get(label, {}).get(data.n)
    if right is not None and data.fingerprint != right:
        yield Fault(f"{field}.fingerprint", f"is not that of the first {data.n} images of {label}, {right}")
    elif right is None and not data.altered and (data.published or claimed(data.name)):
        yield Fault(
            f"{field}.fingerprint",
            f"of the first {data.n} images of {label} is not known yet: who looks after the leaderboard adds it to "
            f"{DATASETS}, from files with the published checksums",
        )


def alike(name: str) -> str | None:
    """The known dataset for which a name could be taken, although it is another: `CIFAR-10`, `cifarl0`."""
    same = {_plain(entry.name): entry.name for entry in registry.entries("datasets")}
    meant = same.get(_plain(name))
    return None if meant in (None, name) else meant


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum()).translate(_ALIKE)


@cache
def _embedded(name: str, split: str) -> Dataset:
    return registry.dataset(f"{_OURS}/{name}", split)


@cache
def _fingerprint(name: str, split: str, n: int) -> str:
    return fingerprint(_embedded(name, split), n)


def stress(suite: Suite, data: DatasetInfo) -> Iterator[Fault]:
    """Whether there are official files for what claims to have used them."""
    if data.stress == "generated":
        if data.stress_verified is not None:
            yield Fault("dataset.stress_verified", "is for official files, and the stress was generated")
    elif data.name in EMBEDDED:
        yield Fault("dataset.stress", f"is official: there are no official files for {data.name}")
    elif type(suite).published is Suite.published:
        yield Fault("dataset.stress", f"is official: the {suite.name} suite has no official files")


# --- the model ------------------------------------------------------------------------------------------------


def model(record: Record) -> Iterator[Fault]:
    """Whether plugins, draws and parameters are those of the named model, as far as the harness can know."""
    given = record.model
    spec, first = parse(given.spec), given.plugins[0]
    if first.name not in (spec.name, f"{spec.name}:{spec.argument}"):
        yield Fault("model.plugins.0.name", f"is {shown(first.name)}, and the model is {shown(given.spec)}")
    if (first.distribution, first.version) != (given.distribution, given.version):
        yield Fault(
            "model.plugins.0",
            f"is of {first.distribution} {first.version}, the model of {given.distribution} {given.version}",
        )
    if given.distribution != _OURS or any(plugin.distribution != _OURS for plugin in given.plugins):
        return
    try:
        if not _plain_model(spec):
            return
        resolved = registry.resolve(given.spec)
    except UserError as error:
        yield Fault("model.spec", str(error))
        return
    if record.dataset.task == "regression":
        return  # its models need the target's channels and scale, which a record does not have
    names = [plugin.name for plugin in given.plugins]
    wanted = [entry.name for entry in resolved.plugins]
    if names != wanted:
        yield Fault("model.plugins", f"are {shown(names)}, and {given.spec} is made of {', '.join(wanted)}")
    elif not any(number > _LARGEST_OPTION for number in _numbers(given.spec)):
        yield from _built(resolved, record)


def _built(resolved: registry.ResolvedModel, record: Record) -> Iterator[Fault]:
    given, data = record.model, record.dataset
    try:
        with torch.device("meta"):
            module = resolved.build(_stand_in(data))
        declared = traits(module)
    except Exception:  # it needs the images themselves, or another dataset
        return
    if given.stochastic != declared.stochastic:
        kinds = ("deterministic", "stochastic")
        yield Fault(
            "model.stochastic",
            f"is {str(given.stochastic).lower()}: {given.spec} is {kinds[declared.stochastic]}",
        )
    elif declared.max_draws is not None and record.draws > declared.max_draws:
        yield Fault("draws", f"is {record.draws}, and {given.spec} has {declared.max_draws}")
    parameters = sum(p.numel() for p in module.parameters())
    if data.classes is not None and data.image_size is not None and given.parameters != parameters:
        yield Fault("model.parameters", f"is {given.parameters}, and {given.spec} has {parameters}")


def _plain_model(spec: Spec) -> bool:
    """Whether a model and all models in its name are callables of the harness, which take nothing else by name."""
    entry = registry.find("models", f"{_OURS}/{spec.name}")
    target = entry.load()
    if isinstance(target, registry.Finder):
        return False
    inner = registry.named_models(target, spec)
    takes = signatures.parameters(target, leading=1).get("argument")
    return (takes is None or bool(inner)) and all(_plain_model(parse(name)) for name in inner)


def _numbers(text: str) -> Sequence[float]:
    found = "".join(character if character.isdigit() else " " for character in text.partition(",")[2])
    return [int(word) for word in found.split()]


def _stand_in(data: DatasetInfo) -> Dataset:
    """A dataset of the same task and size with one black image, for what looks at its shape alone."""
    classes = data.classes or 10
    task: Task = Segmentation(classes) if data.task == "segmentation" else Classification(classes)
    height, width = data.image_size or (32, 32)
    return Dataset(
        name=data.name,
        split=data.split,
        task=task,
        images=InMemory(torch.zeros(1, 3, height, width, dtype=torch.uint8)),
        targets=InMemory(torch.zeros(1, dtype=torch.int64)),
        image_size=(height, width),
    )
