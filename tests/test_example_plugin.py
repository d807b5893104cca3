"""The example under `plugins/`: installed by pip into an environment of its own, and used there as anybody would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT

EXAMPLE = ROOT / "plugins" / "example"
Command = Callable[..., str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run a script of Python's or stressbench's, with arguments, in an environment that has the example.

    It sees this environment's packages, editable ones too, through the line in a .pth file; the example it has itself.
    """
    folder = tmp_path_factory.mktemp("example")
    environment, source = folder / "env", folder / "source"
    venv.create(environment, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    shutil.copytree(EXAMPLE, source)  # since pip builds in place
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    clean["STRESSBENCH_HOME"] = str(folder / "home")

    def run(*arguments: object) -> str:
        command = [str(environment / "bin" / "python"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=source, env=clean, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--no-index"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-build-isolation", str(source)], check=True, env=clean)
    return run


@pytest.fixture(scope="module")
def bench(installed: Command) -> Command:
    script = Path(sys.executable).parent / "bench"
    return lambda *arguments: installed(script, *arguments)


def test_it_is_listed_under_its_distribution(bench: Command) -> None:
    assert "  example-net 0.1.0\n    example-net\n" in bench("list", "models")


def test_it_keeps_what_models_promise(bench: Command) -> None:
    lines = bench("plugin", "check", "example-net").splitlines()
    assert lines[0] == "model 'example-net' of example-net 0.1.0"
    assert not [line for line in lines if line.startswith(("✗", "!"))]


def test_its_own_tests_pass(installed: Command) -> None:
    assert "2 passed" in installed("-m", "pytest", "-p", "no:cacheprovider")


def test_it_is_trained_on_the_spot_and_runs(bench: Command) -> None:
    words = ("--limit", "200", "--corruptions", "fog", "--severities", "1", "--json")
    record = json.loads(bench("run", "--model", "example-net", *words))
    model = record["model"]
    assert (model["spec"], model["distribution"], model["version"]) == ("example-net", "example-net", "0.1.0")
    assert model["weights_source"].startswith("trained here, seed 0, recipe fast, ")
    assert record["metrics"]["clean_error"] < 0.1  # of 200 digits
