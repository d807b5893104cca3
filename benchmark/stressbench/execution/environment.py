"""The machine and the software that a run is made with, for its record."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from stressbench.record import Environment


def environment(device: str, executor: str, distributions: Iterable[str] = (), compiled: bool = False) -> Environment:
    """This machine and what is installed on it.

    `device` is the device's own name, `executor` who computes, `compiled` whether by torch.compile. `packages` has the
    versions of what stressbench and these `distributions` require, as far as this process has imported it: a suite or a
    model may be another library's work.
    """
    return Environment(
        stressbench=importlib.metadata.version("stressbench"),
        commit=commit(),
        python=platform.python_version(),
        packages=_imported({"stressbench", *distributions}),
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
        executor=executor,
        compiled=compiled,
    )


def _imported(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of the distributions' requirements, optional ones too, of which a module is imported."""
    required = {
        re.sub(r"[-_.]+", "-", named[0]).lower()
        for distribution in distributions
        for requirement in _requirements(distribution)
        if (named := re.match(r"[A-Za-z0-9._-]+", requirement))
    }
    versions: dict[str, str] = {}
    for name in sorted(required - {"stressbench"}):
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not sys.modules.keys().isdisjoint(_modules(found)):
            versions[name] = found.version
    return versions


def _requirements(distribution: str) -> list[str]:
    """What a distribution requires; nothing for a model of a file, which has a distribution's name but is not one."""
    try:
        return importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _modules(distribution: importlib.metadata.Distribution) -> set[str]:
    """The top-level modules of a distribution, by its metadata or by its files."""
    listed = distribution.read_text("top_level.txt")
    if listed is not None:
        return set(listed.split())
    return {file.parts[0].removesuffix(".py") for file in distribution.files or ()}


def cpu_name() -> str:
    """What this machine's processor calls itself, or its architecture where it does not say."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor()) or platform.machine()


def commit() -> str | None:
    """The commit of the checkout that this code runs from, with `-dirty` where it differs; None when installed."""
    import subprocess

    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
