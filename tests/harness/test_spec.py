"""What a person writes to name a model, and what it stands for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stressbench.errors import UserError
from stressbench.spec import Spec, parse, slug, split

_WORD = st.text("abcxyz0189-._/", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("resnet18", Spec("resnet18")),
        ("resnet18-mcdo,rate=0.1", Spec("resnet18-mcdo", None, {"rate": "0.1"})),
        ("infer-dropout:resnet18-smooth,rate=0.1", Spec("infer-dropout", "resnet18-smooth", {"rate": "0.1"})),
        (" a , b = 1 , a=2", Spec("a", None, {"a": "2", "b": "1"})),
        ("file:zoo/net.py:build", Spec("file", "zoo/net.py:build")),
        ("wrap:(a,x=1),y=2", Spec("wrap", "(a,x=1)", {"y": "2"})),
        ("wrap:both:(a,x=1)+b", Spec("wrap", "both:(a,x=1)+b")),
        (" ((a, x=1)) ", Spec("a", None, {"x": "1"})),
        ("a,x=(1,2)", Spec("a", None, {"x": "(1,2)"})),
    ],
)
def test_parse(text: str, spec: Spec) -> None:
    assert parse(text) == spec
    assert parse(str(spec)) == spec


@pytest.mark.parametrize(
    "text", ["", ",a=1", ":x", "a:", "a,b", "a,b=", "a,=1", "a,b=1,b=2", "a,,b=1", "()", "(a", "a)", "a:)(", "b:(a))"]
)
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse(text)


@given(_WORD, st.none() | _WORD, st.dictionaries(st.text("abc_", min_size=1), _WORD, max_size=4))
def test_writing_and_reading_agree(name: str, argument: str | None, options: dict[str, str]) -> None:
    spec = Spec(name, argument, options)
    assert parse(str(spec)) == spec


_SPECS = st.recursive(
    st.builds(Spec, _WORD, st.none(), st.dictionaries(st.text("abc_", min_size=1), _WORD, max_size=3)),
    lambda inner: st.builds(
        Spec,
        _WORD,
        inner.map(lambda spec: f"({spec})"),
        st.dictionaries(st.text("abc_", min_size=1), _WORD, max_size=3),
    ),
    max_leaves=4,
)


@given(_SPECS)
def test_brackets_keep_the_options_of_each_model_apart(spec: Spec) -> None:
    assert parse(str(spec)) == spec
    assert parse(f"( {spec} )") == spec
    while spec.argument is not None:
        spec = parse(spec.argument)
        assert parse(str(spec)) == spec


@given(st.lists(_SPECS, min_size=1, max_size=4))
def test_bracketed_specs_are_split_as_they_were_joined(specs: list[Spec]) -> None:
    joined = "+".join(f"({spec})" for spec in specs)
    assert [parse(part) for part in split(joined, "+")] == specs


@given(st.lists(st.text(max_size=120), min_size=2, max_size=6, unique=True))
def test_slugs_are_safe_and_apart(texts: list[str]) -> None:
    slugs = [slug(text) for text in texts]
    assert len(set(slugs)) == len(texts)
    for name in slugs:
        assert re.fullmatch(r"[A-Za-z0-9._=-]{1,100}", name)
        assert name not in (".", "..")


def test_a_readable_name_stays_as_it_is() -> None:
    assert slug("resnet18-mcdo-smooth") == "resnet18-mcdo-smooth"
