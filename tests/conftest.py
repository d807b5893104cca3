"""What all tests share: a home of their own, and test models installed as a distribution would install them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is not a fault of the code; and CI tries the same examples each time, so that red means a change.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if "CI" in os.environ else "local")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

_TEST_MODELS = {
    "tiny": "tiny_models:tiny",
    "dropped": "tiny_models:dropped",
    "untrained": "tiny_models:untrained",
    "masked": "tiny_models:masked",
    "small": "tiny_models:small",
    "wrong": "tiny_models:wrong",
    "unbuildable": "tiny_models:unbuildable",
    "not-a-module": "tiny_models:not_a_module",
    "not-callable": "tiny_models:constant",
    "not-importable": "no_such_module:model",
    "public-resnet20": "public_resnet20:resnet20",
}


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data and weights beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the public data and weights are not beside this checkout")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRESSBENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def write_distribution(folder: Path, name: str, groups: Mapping[str, Mapping[str, str]]) -> None:
    """The metadata that pip leaves of an installed distribution, version 1.0, with these entry points."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(autouse=True, scope="session")
def _test_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The models of `tiny_models.py` as a distribution on the path, in this process and in those that it starts."""
    site = tmp_path_factory.mktemp("site")
    write_distribution(site, "tiny-models", {"stressbench.models": _TEST_MODELS})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT / "tests")]))
        yield


Bench = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def bench() -> Bench:
    """Run the installed `bench` command in a process of its own."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "bench"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)

    return run
