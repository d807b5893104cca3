"""What a bug report needs to say of a machine and of what is installed on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stressbench import registry
from stressbench._util.home import home
from stressbench._util.locks import require_locks
from stressbench.errors import UserError, describe
from stressbench.execution.environment import commit, cpu_name

_GIB = 2**30
# What changes how fast or where things are computed and kept; no others, which may hold secrets.
_VARIABLES = ("STRESSBENCH_HOME", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE")
_EXTRA = re.compile(r"extra\s*==\s*[\"']([^\"']+)[\"']")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_NOT_USERS = {"dev", "docs"}  # extras for work on the package itself


def facts() -> dict[str, Any]:
    """All facts as plain values, for JSON. Imports every plugin, writes nothing that stays, and raises nothing."""
    required, extras = _requirements()
    return {
        "stressbench": {"version": importlib.metadata.version("stressbench"), "commit": commit()},
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "platform": platform.platform(),
        "processor": {"name": cpu_name(), "cores": os.cpu_count(), "usable": _usable()},
        "memory_gib": _memory(),
        "torch": _torch(),
        "folders": {"home": _home(), "here": _folder(Path.cwd())},
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "packages": {name: _version(name) for name in required},
        "extras": {extra: {name: _version(name) for name in names} for extra, names in extras.items()},
        "plugins": _plugins(),
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The facts for one screen, then what is wrong, a line each."""
    processor, python, own = found["processor"], found["python"], found["stressbench"]
    missing = [name for name, version in found["packages"].items() if version is None]
    of_checkout = "" if own["commit"] is None else f", commit {own['commit']}"
    yield f"stressbench   {own['version']}{of_checkout}"
    yield f"Python        {python['version']}, {python['executable']}"
    yield f"platform      {found['platform']}"
    yield f"processor     {processor['name']}, {processor['usable']} of {processor['cores']} cores usable"
    yield f"memory        {_gib(found['memory_gib'])}"
    for gpu in found["torch"]["gpus"] or ["none that torch can use"]:
        yield f"GPU           {gpu}"
    torch = found["torch"]
    yield f"torch         {torch['threads'] or 'unknown'} threads, CUDA {torch['cuda'] or 'not built in'}"
    for name, folder in found["folders"].items():
        free = "" if folder["free_gib"] is None else f", {_gib(folder['free_gib'])} free"
        yield f"{name:<14}{folder['path'] or 'none'}{free}"
    for name, value in found["variables"].items():
        yield f"variable      {name}={value}"
    yield f"packages      {', '.join(f'{k} {v}' for k, v in found['packages'].items() if v)}"
    for extra, names in found["extras"].items():
        lacking = [name for name, version in names.items() if version is None]
        state = f"lacks {', '.join(lacking)}" if lacking else ", ".join(f"{k} {v}" for k, v in names.items())
        yield f"extra         {extra}: {state}"
    for offer, kinds in found["plugins"]["offers"].items():
        yield f"plugins       {offer}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"
    problems = [f"{name} is required and not installed" for name in missing]
    problems += [folder["problem"] for folder in found["folders"].values() if folder["problem"]]
    problems += found["plugins"]["broken"]
    problems += filter(None, [found["torch"]["problem"]])
    yield from ("", *(f"problem: {one}" for one in problems)) if problems else ("", "no problems found")


def _requirements() -> tuple[list[str], dict[str, list[str]]]:
    """The distributions that stressbench requires, and those of each extra for its users."""
    required: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("stressbench") or []:
        name, extra = _NAME.match(requirement), _EXTRA.search(requirement)
        assert name is not None, "of the metadata's own grammar"
        if extra is None:
            required.append(name[0])
        elif extra[1] not in _NOT_USERS:
            extras.setdefault(extra[1], []).append(name[0])
    return required, extras


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _usable() -> int | None:
    """The cores that this process may use, which a container or a job may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> float | None:
    """The machine's memory; None where the system does not say."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= names.keys():
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB


def _torch() -> dict[str, Any]:
    """What torch finds; it may not even be importable, which is then the problem."""
    try:
        import torch

        devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
        properties = [torch.cuda.get_device_properties(i) for i in devices]
        gpus = [f"{one.name}, {_gib(one.total_memory / _GIB)}" for one in properties]
        return {"threads": torch.get_num_threads(), "cuda": torch.version.cuda, "gpus": gpus, "problem": None}
    except Exception as error:
        problem = f"torch cannot be used: {describe(error)}; install it again"
        return {"threads": None, "cuda": None, "gpus": [], "problem": problem}


def _home() -> dict[str, Any]:
    try:
        return _folder(home())
    except UserError as error:
        return {"path": None, "free_gib": None, "problem": str(error)}


def _folder(path: Path) -> dict[str, Any]:
    """Whether files can be written and locked in a folder, or in the nearest folder above that is there."""
    there = next((folder for folder in (path, *path.parents) if folder.exists()), path)
    problem = None
    try:
        with tempfile.TemporaryFile(dir=there):
            require_locks(there, "choose a folder")
    except OSError as error:
        problem = f"{there} cannot be written to: {describe(error)}"
    except UserError as error:
        problem = str(error)
    try:
        free = shutil.disk_usage(there).free / _GIB
    except OSError:
        free = None
    return {"path": str(path), "free_gib": free, "problem": problem}


def _plugins() -> dict[str, Any]:
    """How much of each kind each distribution offers, and the plugins that cannot be imported."""
    offers: dict[str, Counter[str]] = {}
    broken = []
    for kind in registry.KINDS:
        for entry in registry.entries(kind):
            offers.setdefault(f"{entry.distribution} {entry.version}", Counter())[kind] += 1
            try:
                entry.load()
            except UserError as error:
                broken.append(str(error))
    return {"offers": {offer: dict(counts) for offer, counts in sorted(offers.items())}, "broken": broken}


def _gib(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} GiB"
