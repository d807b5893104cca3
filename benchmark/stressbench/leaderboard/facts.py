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

from stressbench import held_out, registry, signatures
from stressbench._util import toml
from stressbench.contracts import Classification, Dataset, InMemory, Segmentation, Suite, Task
from stressbench.datasets.fingerprint import fingerprint
from stressbench.datasets.identity import claimed
from stressbench.errors import UserError
from stressbench.leaderboard.numbers import Fault
from stressbench.leaderboard.paths import DATASETS
from stressbench.leaderboard.words import shown
from stressbench.record import DatasetInfo, Digest, Record, Text, dataset_label
from stressbench.spec import Spec, parse
from stressbench.traits import traits

# Fingerprints of datasets by name and number of images, as whoever looks after a leaderboard has confirmed them.
Known = Mapping[str, Mapping[int, str]]

_OURS = "stressbench"
# The sets whose pixels come with the harness or are made by it, so that their fingerprints are known everywhere.
EMBEDDED = ("digits", "scenes", "scenes-depth", "photos", "noise", "blobs", "photo-patches")
_REST = "-rest"  # behind the label of what `held_out.rest` leaves of a test split
_STAND_INS = ("resnet20", "alexnet")  # for a model that is not built: a residual network, and one with dropout layers
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
        yield from _of_embedded(label, data, field)
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


def _of_embedded(label: str, data: DatasetInfo, field: str) -> Iterator[Fault]:
    split = _REST if label.endswith(_REST) and data.split == "test" else data.split
    try:
        embedded = _embedded(data.name, split)
    except UserError as error:
        yield Fault(f"{field}.split", str(error))
        return
    count = len(embedded.images)
    if data.n > count:
        yield Fault(f"{field}.n", f"is {data.n}, and {data.name} has {count} {embedded.split} images")
    elif data.altered or data.fingerprint != _fingerprint(data.name, split, data.n):
        yield Fault(f"{field}.fingerprint", f"is not that of the first {data.n} {embedded.split} images of {data.name}")
    sizes: dict[str, object] = {"image_size": embedded.image_size}
    if isinstance(embedded.task, Classification):
        sizes["classes"] = embedded.task.classes
    for name, right in sizes.items():
        if getattr(data, name) not in (None, right):
            yield Fault(f"{field}.{name}", f"is {getattr(data, name)}, and {data.name} has {right}")


def label(record: Record) -> str:
    """The dataset's label, marked where the first n images are others than those of its test split.

    That is where a part of the test images was kept for fitting, and for another split.
    """
    data = record.dataset
    kept = any(one.name == data.name and one.split in held_out.SPLITS for one in record.sources)
    return _of_split(dataset_label(record), data.split) + (_REST if kept else "")


def sources(record: Record) -> Iterator[tuple[str, DatasetInfo]]:
    """The same labels of a record's other datasets."""
    yield from ((_of_split(source.name, source.split), source) for source in record.sources)


def _of_split(name: str, split: str) -> str:
    return name if split == "test" else f"{name}-{split}"


def alike(name: str) -> str | None:
    """The known dataset for which a name could be taken, although it is another: `CIFAR-10`, `cifarl0`."""
    same = {plain(entry.name): entry.name for entry in registry.entries("datasets")}
    meant = same.get(plain(name))
    return None if meant in (None, name) else meant


def plain(name: str) -> str:
    """A name without what the eye overlooks: two that are plainly the same could be taken for one another."""
    return "".join(character for character in name.lower() if character.isalnum()).translate(_ALIKE)


@cache
def _embedded(name: str, split: str) -> Dataset:
    dataset = registry.dataset(f"{_OURS}/{name}", "test" if split in (_REST, *held_out.SPLITS) else split)
    if split == _REST:
        return held_out.rest(dataset)
    return held_out.part(dataset, split) if split in held_out.SPLITS else dataset


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
    own = (spec.name, f"{spec.name}:{spec.argument}", spec.name.removeprefix(f"{given.distribution}/"))
    if first.name not in own:
        yield Fault("model.plugins.0.name", f"is {shown(first.name)}, and the model is {shown(given.spec)}")
    if (first.distribution, first.version) != (given.distribution, given.version):
        yield Fault(
            "model.plugins.0",
            f"is of {first.distribution} {first.version}, the model of {given.distribution} {given.version}",
        )
    yield from _named(spec, record)
    if given.distribution != _OURS:
        return
    if any(plugin.distribution != _OURS for plugin in given.plugins):
        yield from _wrapper(spec, record)
        return
    try:
        if not _plain_model(spec):
            yield from _wrapper(spec, record)
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


def _named(spec: Spec, record: Record) -> Iterator[Fault]:
    """Whether all plugins stand in the model's name, and its author's name for it is not another model's."""
    given = record.model
    for i, plugin in enumerate(given.plugins):
        if plugin.name.partition("@")[0] not in given.spec:
            yield Fault(f"model.plugins.{i}.name", f"is {shown(plugin.name)}, which is not in {shown(given.spec)}")
        elif plugin in given.plugins[:i]:
            yield Fault(f"model.plugins.{i}.name", f"is {shown(plugin.name)} again")
    if given.distribution != _OURS and given.plugins[0].name == spec.name and _offered(spec.name):
        yield Fault("model.spec", f"is {shown(given.spec)}, which is {_OURS}'s: it is {given.distribution}/{spec.name}")
    called = given.name
    if called is not None and called != spec.name and _offered(called):
        yield Fault("model.name", f"is {shown(called)}, which is another model")


def _offered(name: str) -> bool:
    return any(entry.name == name and entry.distribution == _OURS for entry in registry.entries("models"))


def _wrapper(spec: Spec, record: Record) -> Iterator[Fault]:
    """What a wrapper of ours around another's model cannot be: that depends on the wrapper alone.

    A stand-in takes the other model's place. If what is around it makes draws, the whole model does.
    """
    given = record.model
    try:
        target = registry.find("models", f"{_OURS}/{spec.name}").load()
        inner = [] if isinstance(target, registry.Finder) else registry.named_models(target, spec)
        if not inner:
            return
        around = [
            registry.resolve(str(Spec(spec.name, "+".join(name for _ in inner), spec.options))) for name in _STAND_INS
        ]
    except UserError as error:
        yield Fault("model.spec", str(error))
        return
    if not given.stochastic and any(_stochastic(model, record.dataset) for model in around):
        yield Fault("model.stochastic", f"is false: {given.spec} is stochastic")


def _stochastic(model: registry.ResolvedModel, data: DatasetInfo) -> bool:
    try:
        with torch.device("meta"):
            return traits(model.build(_stand_in(data))).stochastic
    except Exception:  # its options name parts that the stand-in does not have
        return False


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
