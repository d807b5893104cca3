"""Networks of the RobustBench zoo (Croce et al., 2021) under their names there: `robustbench:Wong2020Fast`.

The package is an extra. Only its networks are used, with their normalisation; weights come from the zoo's files
(`--weights models/cifar10/Linf/Wong2020Fast.pt`), which are read by the restricted reader and never unpickled.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Literal, get_args

from torch import Tensor, nn

from stressbench.contracts import Dataset
from stressbench.errors import UserError, did_you_mean

Zoo = Literal["cifar10", "cifar100", "imagenet"]
Threat = Literal["Linf", "L2", "corruptions"]

_NORMALISATION = ("mu", "sigma", "mean", "std")  # buffers that the code knows and some of the zoo's files leave out


def robustbench(dataset: Dataset, argument: str, threat: Threat = "Linf", zoo: Zoo | None = None) -> nn.Module:
    """A network of RobustBench without weights, which `--weights` gives it from the zoo's file.

    `threat` is the list that it is in, `zoo` the set that it was trained for, by default the dataset itself.
    Raises `UserError` for names that the list does not have, and for networks of several files.
    """
    own: list[Zoo] = [name for name in get_args(Zoo) if name in (dataset.published, dataset.name)]
    chosen = zoo or next(iter(own), None)
    if chosen is None:
        raise UserError(f"RobustBench has no networks for {dataset.name}: give zoo=cifar10, cifar100 or imagenet")
    networks = _networks(chosen, threat)
    if argument not in networks:
        hint = did_you_mean(argument, list(networks))
        raise UserError(f"RobustBench has no network '{argument}' for {chosen} under {threat}: {hint}see its lists")
    entry = networks[argument]
    if isinstance(entry.get("gdrive_id"), list):
        raise UserError(f"'{argument}' is made of several files, which are not supported: name a network of one file")
    network: nn.Module = entry["model"]()
    network.register_load_state_dict_pre_hook(_completed)  # type: ignore[no-untyped-call]
    preprocessing = f", for images by {entry['preprocessing']}" if entry.get("preprocessing") else ""
    network.source = f"robustbench {_release('robustbench')}{preprocessing}"  # type: ignore[assignment]
    network.untrained = True  # type: ignore[assignment]
    return network


def _networks(zoo: str, threat: str) -> Mapping[str, Any]:
    """The zoo's list for a dataset and a threat model."""
    with _without_initialisation("robustbench"):
        models, enums = (importlib.import_module(f"robustbench.model_zoo.{part}") for part in ("models", "enums"))
    lists = models.model_dicts[enums.BenchmarkDataset(zoo)]
    found: Mapping[str, Any] = lists.get(enums.ThreatModel(threat), {})
    return found


@contextmanager
def _without_initialisation(name: str) -> Iterator[None]:
    """Inside, subpackages of a package can be imported without its `__init__`.

    RobustBench's imports the module `autoattack`, which no package on PyPI brings.
    """
    found = importlib.util.find_spec(name)
    if found is None or found.submodule_search_locations is None or _release(name) is None:
        raise UserError("robustbench is not installed: pip install 'stressbench[robustbench]'")
    bare = ModuleType(name)
    bare.__path__ = list(found.submodule_search_locations)
    before = sys.modules.get(name)
    sys.modules[name] = before or bare
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]


def _release(name: str) -> str | None:
    """An installed distribution's version; None where there is none, or what is left of one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _completed(module: nn.Module, given: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Put a file's tensors under the network's names, and add the normalisation that it leaves out.

    Files have names that begin with `module.` or `model.`; networks for ImageNet are a normalisation and the `model`
    that the file is of.
    """
    own = module.state_dict()
    bare = {name.removeprefix("module.").removeprefix("model."): tensor for name, tensor in given.items()}
    for names in (bare, {f"model.{name}": tensor for name, tensor in bare.items()}):
        if len(names) == len(given) and not own.keys() & given.keys() and names.keys() <= own.keys():
            given.clear()
            given.update(names)
    for name, tensor in own.items():
        if name.rpartition(".")[2] in _NORMALISATION:
            given.setdefault(name, tensor)
