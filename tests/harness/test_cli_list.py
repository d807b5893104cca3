"""`bench list`: a family in a line, from names alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from stressbench import registry
from stressbench.cli.listing import families, list_


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], []),
        (["net"], [["net"]]),
        (["net-smooth-mcdo", "net-mcdo", "net", "net-smooth"], [["net", "net-mcdo", "net-smooth", "net-smooth-mcdo"]]),
        (["net-b", "net-a"], [["net-a"], ["net-b"]]),  # no `net`, no family
        (["net-a", "net-a-b", "net-c"], [["net-a", "net-a-b"], ["net-c"]]),
        (["net10-a", "net10", "net9", "net9-a"], [["net9", "net9-a"], ["net10", "net10-a"]]),
        (["net", "network", "network-a", "my-net"], [["my-net"], ["net"], ["network", "network-a"]]),
    ],
)
def test_names_that_continue_another_one_are_its_family(names: list[str], expected: list[list[str]]) -> None:
    assert families(names) == expected


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make these the models that are installed: pairs of a name and its distribution."""

    def install(*pairs: tuple[str, str]) -> None:
        point = EntryPoint("x", "no_such_module:x", "stressbench.models")
        found = [registry.Entry("models", name, distribution, "1.0", point) for name, distribution in sorted(pairs)]
        monkeypatch.setattr(registry, "entries", lambda kind: found if kind == "models" else [])

    return install


def test_a_family_is_a_line_and_distributions_stay_apart(offer: Callable[..., None]) -> None:
    offer(("net18", "a"), ("net18-smooth", "a"), ("net9", "a"), ("net9-x", "a"), ("net18-mine", "b"), ("net18", "b"))
    assert CliRunner().invoke(list_, ["models"]).output.splitlines() == [
        "models:",
        "  a 1.0",
        "    net9  net9-x",
        "    net18  net18-smooth",
        "  b 1.0",
        "    net18  net18-mine",
    ]
    assert CliRunner().invoke(list_, ["suites"]).output.splitlines() == ["suites:"]


@pytest.mark.parametrize("kind", ["models", "recipes"])
def test_entry_points_say_what_follows_a_colon(kind: str) -> None:
    """Those of ours whose callable takes something there, and no others; a finder takes nothing else."""
    ours = [entry for entry in registry.entries(kind) if entry.distribution == "stressbench"]
    with_argument = {
        entry.name
        for entry in ours
        if isinstance(target := entry.load(), registry.Finder) or "argument" in inspect.signature(target).parameters
    }
    assert with_argument
    assert {entry.name for entry in ours if entry.argument is not None} == with_argument
    listed = CliRunner().invoke(list_, [kind]).output.split()
    assert {f"{entry.name}:{entry.argument}" for entry in ours if entry.argument is not None} <= {*listed}
