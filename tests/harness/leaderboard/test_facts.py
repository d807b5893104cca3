"""Records that contradict what the harness knows of models and images are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from leaderboard_records import changed, fields, put
from stressbench import record as records
from stressbench import registry
from stressbench.errors import UserError
from stressbench.leaderboard import check, facts, words
from stressbench.record import Record

PARAMETERS = 11_173_962  # of resnet18 for ten classes, as the committed records have it


def ours(spec: str = "resnet18", inside: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
    name = spec.partition(",")[0].partition(":")[0]
    plugins = [{"name": one, "distribution": "stressbench", "version": "0.1.0"} for one in (name, *inside)]
    model = {"distribution": "stressbench", "version": "0.1.0", "plugins": plugins, "parameters": PARAMETERS}
    dataset = {"classes": 10, "image_size": [32, 32], **changes.pop("dataset", {})}
    return fields(spec, model={**model, **changes.pop("model", {})}, dataset=dataset, **changes)


def faults(record: dict[str, Any], known: facts.Known | None = None, others: Sequence[Record] = ()) -> list[str]:
    return [str(fault) for fault in check.faults(Record.model_validate(record), others, known or {})]


def test_our_models_as_they_are() -> None:
    dropout = {"stochastic": True}
    assert faults(ours()) == []
    assert faults(ours("resnet18-mcdo", draws=5, model=dropout)) == []
    two = {**dropout, "parameters": 2 * PARAMETERS}
    assert faults(ours("ensemble:resnet18,size=2", ["resnet18"], draws=2, model=two)) == []


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (ours("resnet18-mcdo"), "model.stochastic: is false: resnet18-mcdo is stochastic"),
        (ours(model={"stochastic": True}, draws=9), "model.stochastic: is true: resnet18 is deterministic"),
        (ours(model={"parameters": 5}), "model.parameters: is 5, and resnet18 has 11173962"),
        (ours("resnet18,luck=3"), "model.spec: model 'resnet18' of stressbench"),
        (ours("resnet19"), "model.spec: there is no model called 'stressbench/resnet19'"),
        (
            ours("ensemble:resnet18,size=2", ["vgg11"], draws=2, model={"stochastic": True}),
            "model.plugins: are ['ensemble', 'vgg11'], and ensemble:resnet18,size=2 is made of ensemble, resnet18",
        ),
        (
            ours(
                "ensemble:resnet18,size=2", ["resnet18"], draws=3,
                model={"stochastic": True, "parameters": 2 * PARAMETERS},
            ),
            "draws: is 3, and ensemble:resnet18,size=2 has 2",
        ),
        (changed(ours(), ("model", "plugins", 0, "name"), "vgg11"), "model.plugins.0.name: is 'vgg11', and the model"),
        (changed(ours(), ("model", "version"), "9"), "model.plugins.0: is of stressbench 0.1.0, the model of"),
        (fields(created="0001-01-01T00:00:00Z"), "created: is 0001-01-01T00:00:00+00:00: there were no records before"),
        (
            fields(dataset={"stress": "official"}, suite={"name": "frequency"}),
            "dataset.stress: is official: the frequency suite has no official files",
        ),
        (
            fields(dataset={"name": "digits", "n": 20, "stress": "official"}),
            "dataset.stress: is official: there are no official files for digits",
        ),
    ],
)  # fmt: skip
def test_what_the_harness_knows_better(record: dict[str, Any], line: str) -> None:
    if record["suite"]["name"] == "frequency":
        record["suite"]["version"] = registry.suite("frequency").version
    assert any(one.startswith(line) for one in faults(record)), faults(record)


@pytest.mark.parametrize("spec", ["file:evil.py", "ensemble:(file:evil.py),size=2", "infer-dropout:(timm:resnet18)"])
def test_code_of_files_and_hubs_is_not_run(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("open('ran', 'w')\ndef net(dataset): ...\n")
    faults(ours(spec))
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("draws",), 10**4000),
        (("model", "parameters"), 10**30),
        (("curves", "mean_error"), {str(size): 0.2 for size in range(1, 100)}),
        (("curves", "mean_error"), {"1" + "0" * 400: 0.2}),
        (("environment", "packages"), {f"package{i}": "1" for i in range(1000)}),
        (("environment", "packages"), {"torch": "1" * 10_000}),
        (("suite", "options"), {f"option{i}": "1" for i in range(1000)}),
        (("findings",), [{"check": "x", "message": "y"}] * 1000),
    ],
)
def test_sizes_have_caps(where: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    path = put(changed(fields(curve={1: 0.3, 5: 0.2}), where, value), tmp_path / "record.json")
    with pytest.raises(
        UserError, match=r"is not a record: (draws|model\.parameters|curves|environment|suite|findings)"
    ):
        records.load(path)


# --- images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cifarl0", "cifarIO", "CIFAR-10", "cifar1O", "d1gits", "dig-its", "cifar_100"])
def test_names_that_look_like_known_ones(name: str) -> None:
    meant = facts.alike(name)
    assert meant in ("cifar10", "cifar100", "digits")
    assert f"dataset.name: is {name!r}, which looks like {meant} and is not" in faults(fields(dataset={"name": name}))


@pytest.mark.parametrize("name", ["cifar10", "cifar10-jpeg75", "squares", "cifar20"])
def test_names_that_do_not(name: str) -> None:
    assert facts.alike(name) is None


def test_a_published_set_needs_a_known_fingerprint_and_another_record_locks_nobody_out() -> None:
    cifar = {"name": "cifar10", "classes": 10, "image_size": [32, 32], "n": 1000}
    honest, made_up = ("sha256:" + letter * 64 for letter in "cd")
    record = fields(dataset={**cifar, "fingerprint": honest})
    first = Record.model_validate(fields("first", dataset={**cifar, "fingerprint": made_up}))
    (line,) = faults(record)
    assert line.startswith("dataset.fingerprint: of the first 1000 images of cifar10 is not known yet")
    known = {"cifar10": {1000: honest}}
    assert faults(record, known, [first]) == []
    (line,) = faults(first.model_dump(mode="json"), known)
    assert line == f"dataset.fingerprint: is not that of the first 1000 images of cifar10, {honest}"


def test_the_first_images_of_another_split_are_others() -> None:
    """As a landscape's, of training images, beside a corruption record's of as many test images."""
    other = Record.model_validate(fields("other"))
    train = fields(dataset={"split": "train", "fingerprint": "sha256:" + "c" * 64})
    assert not any("other images" in line for line in faults(train, others=[other]))
    assert any("other images" in line for line in faults(changed(train, ("dataset", "split"), "test"), others=[other]))
    confirmed = {"squares": {1000: "sha256:" + "a" * 64}, "squares-train": {1000: "sha256:" + "d" * 64}}
    assert any("of squares-train, sha256:ddd" in line for line in faults(train, confirmed))


@pytest.mark.parametrize("name", ["noise", "blobs"])
def test_embedded_sources_are_known(name: str) -> None:
    right = facts._fingerprint(name, "test", 10)
    info = {**fields()["dataset"], "name": name, "n": 10}
    for fingerprint, count in ((right, 0), ("sha256:" + "e" * 64, 1)):
        data = records.DatasetInfo.model_validate({**info, "fingerprint": fingerprint})
        assert len([*facts.images(name, data, "sources.0", {})]) == count


# --- the baseline ---------------------------------------------------------------------------------------------


def test_a_baseline_of_the_same_submission_is_flagged() -> None:
    theirs = fields("other", 0.4)
    record = fields()
    record["suite"]["baseline"] = {"model": "other", "source": "record", "conditions": theirs["conditions"]}
    other = Record.model_validate(theirs)
    lines = [str(fault) for fault in check.faults(Record.model_validate(record), [other], {}, [other])]
    assert any(line.startswith("suite.baseline: is 'other', whose record is of the same submission") for line in lines)
    lines = [str(fault) for fault in check.faults(Record.model_validate(record), [other], {})]
    assert not any(line.startswith("suite.baseline") for line in lines)


@pytest.mark.parametrize("suite", registry.names("suites"))
def test_the_protocols_of_our_suites_may_stand_on_the_board(suite: str) -> None:
    record = Record.model_validate(ours())
    protocol = registry.suite(suite).protocol(record.dataset)
    told = record.model_copy(update={"suite": record.suite.model_copy(update={"protocol": protocol})})
    assert list(words.strange(told)) == []
