"""The wheel: what is in it, and that it works where nothing else of this checkout is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from conftest import ROOT

PACKAGES = ("stressbench", "stressbench_plugins", "stressbench_suites")
SOURCES = {"stressbench": "benchmark", "stressbench_plugins": "plugins", "stressbench_suites": "suites"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that building leaves nothing in the checkout."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for folder in (*SOURCES.values(), "tests", "leaderboard"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = dist.glob("*.whl")
    return built


def test_the_wheel_holds_the_three_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT / SOURCES[package]))
        for package in PACKAGES
        for path in (ROOT / SOURCES[package] / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected
    assert any(name.endswith(".csv") for name in names)


def test_the_metadata_lie_in_setup_cfg_alone(wheel: Path) -> None:
    assert "[project]" not in (ROOT / "pyproject.toml").read_text()
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (archive.read(n).decode() for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        (licence,) = (n for n in archive.namelist() if n.endswith("LICENSE"))
    assert "Name: stressbench\n" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert licence
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    for requirement in config["options"]["install_requires"].split():
        assert ">=" in requirement, f"{requirement} has no lower bound"
        assert not re.search("<|==|~", requirement), f"{requirement} is pinned from above"


def test_the_wheel_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """A new environment gets the wheel, and sees this one's third-party packages, but not this checkout.

    Only a line in a .pth file adds those packages, and the links of an editable install do not work through that.
    """
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"STRESSBENCH_HOME": str(tmp_path / "home")}

    def bench(*arguments: str) -> str:
        command = [str(environment / "bin" / "bench"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=clean, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-c", f"import {', '.join(PACKAGES)}; print({', '.join(f'{p}.__file__' for p in PACKAGES)})"],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=clean,
    )  # fmt: skip
    assert where.stdout.count(str(site)) == len(PACKAGES)
    assert "resnet18-smooth" in bench("list")
    written = bench("data", "corrupt", "--dataset", "digits", "--corruption", "fog", "--limit", "4", "--out", "fog")
    assert "fog.npy" in written
    # A wheel without its tables of AlexNet's errors could not name a baseline.
    code = (
        "import json; from types import SimpleNamespace as Data;"
        "from stressbench_suites.corruption import published as s;"
        "sets = [Data(**vars(t), published=name, altered=False, split='test') for name, t in s.PUBLISHED.items()];"
        "print(json.dumps([s.published(one).model for one in sets]))"
    )
    named = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=clean)
    assert set(json.loads(named.stdout)) == {"alexnet"}
