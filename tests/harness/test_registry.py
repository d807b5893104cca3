"""Plugins: found by name, loaded only when asked for, and told about in a line when they are at fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import write_distribution
from stressbench import registry
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.errors import UserError

SOURCE = """
from __future__ import annotations
from typing import TYPE_CHECKING, Literal
from torch import nn
from stressbench.errors import UserError
from stressbench.registry import Entry, ModelName

if TYPE_CHECKING:
    from collections.abc import Sequence
    from stressbench.contracts import Dataset


def build(dataset: Dataset, width: int = 4, rate: float | None = None, mode: Literal["a", "b"] = "a",
          names: tuple[str, ...] = (), wide: bool = False, plain=3) -> nn.Module:
    module = nn.Flatten()
    module.given = dict(width=width, rate=rate, mode=mode, names=names, wide=wide, plain=plain)
    return module


def odd(dataset: Dataset, hidden: Sequence[int] = (), inner: nn.Module | None = None) -> nn.Module:
    return nn.Flatten()


def wrap(dataset: Dataset, argument: str, rate: float = 0.5) -> nn.Module:
    module = nn.Flatten()
    module.given = (argument, rate)
    return module


def both(dataset: Dataset, argument: ModelName, size: int = 1) -> nn.Module:
    return nn.Flatten()


class Shelf:
    # The callables of this file, by a place that is of no concern: shelf:any/where/build.
    def find(self, argument: str) -> Entry:
        if "/" not in argument:
            raise UserError(f"there is no {argument} on the shelf")
        self.name = argument.rpartition("/")[2]
        return Entry("models", f"shelf:{self.name}", "the-shelf", "2.0", self)

    def load(self) -> object:
        return globals()[self.name]


shelf = Shelf()
"""


@pytest.fixture
def dataset() -> Dataset:
    class NoImages:
        def __len__(self) -> int:
            return 0

        def read(self, start: int, stop: int) -> torch.Tensor:
            return torch.empty(0, 3, 8, 8, dtype=torch.uint8)

    return Dataset("none", "test", Classification(3), NoImages(), InMemory(torch.empty(0).long()), (8, 8))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "typed_plugin.py").write_text(SOURCE)
    points = {
        "typed": "typed_plugin:build",
        "odd": "typed_plugin:odd",
        "wrap": "typed_plugin:wrap",
        "both": "typed_plugin:both",
        "shelf": "typed_plugin:shelf",
        "tiny": "typed_plugin:build",
    }
    write_distribution(tmp_path, "typed-plugin", {"stressbench.models": points})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "typed_plugin", raising=False)
    return tmp_path


def test_ours_are_found_by_name() -> None:
    entry = registry.find("models", "resnet18-smooth")
    assert (entry.name, entry.distribution) == ("resnet18-smooth", "stressbench")
    assert {"cifar10", "cifar100", "digits", "parquet"} <= {e.name for e in registry.entries("datasets")}


@pytest.mark.parametrize(
    ("kind", "typo", "meant"),
    [
        ("models", "resnet18-smoth", "resnet18-smooth"),
        ("suites", "coruption", "corruption"),
        ("datasets", "cifar", "cifar10"),
    ],
)
def test_a_typo_gets_a_suggestion(kind: str, typo: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"called '{typo}'.*did you mean '{meant}'"):
        registry.find(kind, typo)


def test_options_are_typed_by_the_signature(plugin: Path, dataset: Dataset) -> None:
    module = registry.model("typed,width=7,rate=0.25,mode=b,names=x+y,wide=true,plain=5", dataset)
    assert module.given == {"width": 7, "rate": 0.25, "mode": "b", "names": ("x", "y"), "wide": True, "plain": 5}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("typed,widht=3", ["no option 'widht'", "did you mean 'width'", "width, rate, mode"]),
        ("typed,width=3.5", ["'width'", "'3.5'", "integer"]),
        ("typed,mode=c", ["'mode'", "'c'", "'a' or 'b'"]),
        ("odd,hidden=3+4", ["'hidden'", "'Sequence[int]'", "outside of `if TYPE_CHECKING`"]),
        ("odd,inner=x", ["'inner'", "Module or None", "no words can name"]),
        ("typed,dataset=x", ["no option 'dataset'"]),
        ("typed:inner", ["write typed"]),
        ("wrap", ["write wrap:SOMETHING"]),
        ("dropped,width=3", ["no option 'width'", "its options are: none"]),
        ("resnet18,rate=0.1", ["no option 'rate'", "head, activation, downsample"]),
    ],
)
def test_a_wrong_option_lists_the_right_ones(plugin: Path, spec: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        registry.resolve(spec)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_type_for_type_checkers_alone_is_shown_as_its_text(plugin: Path) -> None:
    assert registry.option_type("models", "odd", registry.options("models", "odd")["hidden"]) == "Sequence[int]"


def test_the_part_after_the_colon_is_the_argument(plugin: Path, dataset: Dataset) -> None:
    assert registry.model("wrap:typed-thing,rate=0.1", dataset).given == ("typed-thing", 0.1)


def test_a_name_that_two_distributions_offer_is_refused_until_one_is_picked(plugin: Path) -> None:
    with pytest.raises(UserError, match=r"tiny-models/tiny or typed-plugin/tiny|typed-plugin/tiny or tiny-models/tiny"):
        registry.find("models", "tiny")
    assert registry.find("models", "typed-plugin/tiny").distribution == "typed-plugin"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("not-importable", ["model 'not-importable' of tiny-models 1.0", "no_such_module"]),
        ("not-callable", ["tiny-models 1.0", "is a int, not a callable"]),
        ("unbuildable", ["tiny-models 1.0", "ValueError: no such checkpoint"]),
        ("not-a-module", ["tiny-models 1.0", "returned a int", "Module"]),
    ],
)
def test_a_faulty_plugin_is_named_and_takes_none_down(name: str, words: list[str], dataset: Dataset) -> None:
    with pytest.raises(UserError) as error:
        registry.model(name, dataset)
    for word in words:
        assert word in str(error.value)
    assert registry.model("tiny", dataset) is not None


def test_listing_imports_nothing_heavy(bench: object) -> None:
    code = (
        "import sys; from stressbench.cli import cli; cli.main(['list'], standalone_mode=False);"
        "print([m for m in ('torch', 'pandas', 'numpy', 'rich', 'pydantic', 'tiny_models') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for words in ("resnet18-mcdo-smooth", "corruption", "digits", "not-importable"):
        assert words in done.stdout


def test_models_in_an_argument_are_checked_without_being_built(plugin: Path) -> None:
    assert registry.resolve("both:unbuildable+(typed,width=3)+wrap:anything").entry.name == "both"
    for text, words in (
        ("both:typed+tyyped", "did you mean 'typed'"),
        ("both:(typed,width=x)", "option 'width'"),
        ("both:both:(typed,witdh=1)", "did you mean 'width'"),
        ("both:typed+", "has no name"),
    ):
        with pytest.raises(UserError, match=words):
            registry.resolve(text)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("tiny-models/tiny,width=3", ["tiny"]),
        ("wrap:anything", ["wrap"]),  # its argument names no model
        ("both:typed", ["both", "typed"]),
        ("both:(typed,width=2)+dropped+typed", ["both", "typed", "dropped"]),
        ("both:(both:(wrap:x)+dropped)", ["both", "wrap", "dropped"]),
    ],
)
def test_the_plugins_of_a_spec_are_all_that_it_names(plugin: Path, spec: str, names: list[str]) -> None:
    assert [entry.name for entry in registry.resolve(spec).plugins] == names


def test_two_distributions_of_one_spec_are_both_named(plugin: Path) -> None:
    offers = [
        (entry.distribution, entry.version) for entry in registry.resolve("both:typed-plugin/tiny+dropped").plugins
    ]
    assert offers == [("typed-plugin", "1.0"), ("typed-plugin", "1.0"), ("tiny-models", "1.0")]


def test_a_finder_says_which_callable_its_argument_is(plugin: Path, dataset: Dataset) -> None:
    spec = "shelf:/home/me/build,width=7,mode=b"
    assert registry.model(spec, dataset).given["width"] == 7
    entry = registry.resolve(spec).entry
    assert str(entry) == "model 'shelf:build' of the-shelf 2.0"
    assert list(registry.options("models", spec)) == ["width", "rate", "mode", "names", "wide", "plain"]
    mode = registry.options("models", spec)["mode"]
    assert registry.option_type("models", spec, mode) == "a|b"
    for text, words in (
        ("shelf", "write shelf:SOMETHING"),
        ("shelf:build", "there is no build on the shelf"),
        ("shelf:a/build,widht=7", "model 'shelf:build' of the-shelf 2.0 has no option 'widht': did you mean 'width'"),
        ("both:typed+(shelf:a/build,width=x)", "option 'width' of model 'shelf:build'"),
    ):
        with pytest.raises(UserError, match=words):
            registry.resolve(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("typed,width=3,mode=b", "typed,mode=b,width=3"),
        ("wrap:typed", "wrap:typed"),
        ("wrap:/a/path", "wrap:/a/path"),  # its argument names no model
        ("both:typed+(typed,width=3),size=2", "both:typed+(typed,width=3),size=2"),
        ("both:(both:typed+typed)", "both:(both:typed+typed)"),
        ("both:both:typed", "both:both:typed"),
        ("shelf:/home/me/build", "shelf:build"),
        ("both:shelf:/home/me/build+typed,size=2", "both:shelf:build+typed,size=2"),
        ("both:(shelf:/a/build,width=3)+both:(shelf:/b/build,mode=a)",
         "both:(shelf:build,width=3)+both:(shelf:build,mode=a)"),
    ],
)  # fmt: skip
def test_what_a_finder_found_is_pinned_wherever_it_is_named(plugin: Path, text: str, expected: str) -> None:
    assert registry.resolve(text).canonical == expected
