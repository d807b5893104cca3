"""Runs of two small models through several suites, for the tests of what is made from runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import write_distribution
from stressbench.cli import main

FAKES = {"bands": "fake_suites:Bands", "budgets": "fake_suites:Budgets", "frames": "fake_suites:Frames"}


def bench(*arguments: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


@contextmanager
def fake_suites(site: Path) -> Iterator[None]:
    """`fake_suites.py` as an installed distribution."""
    write_distribution(site, "fake-suites", {"stressbench.suites": FAKES})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield


def made(out: Path, suite: str, model: str, *arguments: object) -> Path:
    """The folder of a run of a model through a suite on 40 of the embedded images."""
    before = set(out.iterdir()) if out.exists() else set()
    assert bench("run", "--suite", suite, "--model", model, "--limit", 40, "--out", out, *arguments) == 0
    (folder,) = set(out.iterdir()) - before
    return folder
