"""`bench list`: a family in a line, from names alone."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest
from click.testing import CliRunner

from stressbench import registry
from stressbench.cli.listing import families, list_


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], {}),
        (["net"], {"net": []}),
        (["net-smooth-mcdo", "net-mcdo", "net", "net-smooth"], {"net": ["-mcdo", "-smooth", "-smooth-mcdo"]}),
        (["net-a", "net-b"], {"net-a": [], "net-b": []}),  # no `net`, no family
        (["net-a", "net-a-b", "net-c"], {"net-a": ["-b"], "net-c": []}),
        (["net1", "net10", "net1-a", "net10-a"], {"net1": ["-a"], "net10": ["-a"]}),
        (["net", "network", "network-a", "my-net"], {"net": [], "network": ["-a"], "my-net": []}),
    ],
)
def test_names_that_continue_another_one_are_its_family(names: list[str], expected: dict[str, list[str]]) -> None:
    assert families(names) == expected
    assert sorted(stem + end for stem, ends in families(names).items() for end in ["", *ends]) == sorted(names)


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make these the models that are installed: pairs of a name and its distribution."""

    def install(*pairs: tuple[str, str]) -> None:
        point = EntryPoint("x", "no_such_module:x", "stressbench.models")
        found = [registry.Entry("models", name, distribution, "1.0", point) for name, distribution in sorted(pairs)]
        monkeypatch.setattr(registry, "entries", lambda kind: found if kind == "models" else [])

    return install


def test_a_family_is_a_line_in_natural_order_and_distributions_stay_apart(offer: Callable[..., None]) -> None:
    offer(("net18", "a"), ("net18-smooth", "a"), ("net9", "a"), ("net9-x", "a"), ("net18-mine", "b"), ("net18", "b"))
    shown = CliRunner().invoke(list_, ["models"]).output
    assert shown.splitlines() == [
        "models:",
        "  net9   plain, -x       a 1.0",
        "  net18  plain, -smooth  a 1.0",
        "  net18  plain, -mine    b 1.0",
    ]


def test_without_families_there_are_names_and_distributions(offer: Callable[..., None]) -> None:
    offer(("tiny", "a"), ("small-net", "b"))
    assert CliRunner().invoke(list_, ["models"]).output.splitlines() == [
        "models:",
        "  small-net  b 1.0",
        "  tiny       a 1.0",
    ]
    assert CliRunner().invoke(list_, ["suites"]).output.splitlines() == ["suites:"]
