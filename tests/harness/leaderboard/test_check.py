"""`bench leaderboard check`: each thing that can be wrong with a record is found and named by its field."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import ROOT
from leaderboard_records import around, changed, fields, put, write
from stressbench import registry
from stressbench.cli import main
from stressbench.contracts import Metric
from stressbench.leaderboard import check
from stressbench.leaderboard.records import readable
from stressbench.leaderboard.words import printable
from stressbench.record import Record
from stressbench.results.scoring import summary

PLACE = Path("records", "squares", "corruption", "tiny.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "leaderboard"


Lines = Callable[..., list[str]]


@pytest.fixture
def lines(root: Path, capsys: pytest.CaptureFixture[str]) -> Lines:
    """What `check` says of files (by default the one at `PLACE`) without their names; empty where all is right."""

    def run(*files: Path) -> list[str]:
        given = files or (root / PLACE,)
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["leaderboard", "check", "--root", str(root), *map(str, given)])
        shown = capsys.readouterr()
        found = shown.out.splitlines()
        if done.value.code == 0:
            assert found == [f"{len(given)} record{'s' * (len(given) != 1)} passed"]
            return []
        assert done.value.code == 2
        (summary,) = shown.err.splitlines()
        assert "finding" in summary
        return [line.partition(": ")[2] for line in found]

    return run


def test_a_faultless_record_is_right(root: Path, lines: Lines) -> None:
    write(root / PLACE)
    curved = write(root / PLACE.with_name("curved.json"), "curved", curve={1: 0.3, 5: 0.2})
    assert lines() == []
    assert lines(root / PLACE, curved) == []


def test_the_projects_own_records_are_right() -> None:
    board = readable(ROOT / "leaderboard")
    assert board
    for path in board:
        assert check.file(ROOT / "leaderboard" / path, ROOT / "leaderboard", board) == []


@pytest.mark.parametrize(
    ("where", "value", "line"),
    [
        # aggregates, and what they are made from
        (("metrics", "mean_error"), 0.1, "metrics.mean_error: is 0.1, its conditions give 0.2"),
        (("metrics", "mCE"), 0.5, "metrics.mCE: is 0.5, its conditions give None"),
        (("metrics", "mean_error"), None, "metrics.mean_error: is None, its conditions give 0.2"),
        (("metrics", "mean_luck"), 0.5, "metrics: has 'mean_luck', which is not a metric of the suite"),
        (("conditions", 7, "metrics", "luck"), 0.5, "conditions.7.metrics: has 'luck', which is not a metric"),
        (("findings",), [{"check": "x", "message": "y"}], "findings: are not what its conditions give: none"),
        # ranges
        (("conditions", 3, "metrics", "error"), 1.5, "conditions.3.metrics.error: is 1.5: it is between 0 and 1"),
        (("conditions", 3, "metrics", "error"), -0.1, "conditions.3.metrics.error: is -0.1: it is between 0 and 1"),
        (("conditions", 3, "metrics", "nll"), -0.5, "conditions.3.metrics.nll: is -0.5: it is between 0 and inf"),
        (("conditions", 3, "metrics", "signed_ece"), -2, "conditions.3.metrics.signed_ece: is -2.0: it is between -1"),
        (("metrics", "clean_error"), 20.0, "metrics.clean_error: is 20.0: it is between 0 and 1"),
        (("timing", "seconds"), -1, "timing: is negative"),
        # counts and conditions
        (("conditions", 5, "n"), 999, "conditions.5.n: is 999, and the dataset has 1000 images"),
        (("conditions", 5, "condition", "severity"), 9, "conditions.5: is of {'corruption': 'gaussian_noise', 'sev"),
        (("conditions", 5, "condition"), {"corruption": "fog", "severity": 3}, "is there twice: fog, severity 3"),
        (("draws",), 2, "draws: is 2, and a deterministic model has one draw"),
        # suite, data, weights
        (("suite", "version"), "0", "suite: is version 0 of corruption and version 1."),
        (("suite", "name"), "corupted", "suite: there is no suite called"),
        (("suite", "options"), {"corruption": "fog"}, "suite: suite 'corruption' of stressbench"),
        (("dataset", "split"), "train", "dataset.split: is 'train': these results are on the test split"),
        (("dataset", "name"), "CIFAR-10", "dataset.name: is 'CIFAR-10', which looks like cifar10"),
        (("dataset", "stress_verified"), True, "dataset.stress_verified: is for official files"),
        (("model", "weights_checksum"), "none", "model.weights_checksum: is 'none': String should match pattern"),
        (("precision",), "float8", "precision: is 'float8': it is one of float32, bfloat16"),
        (("created",), "2026-01-02T03:04:05", "created: has no time zone"),
        (("created",), "2999-01-02T03:04:05+00:00", "which is still to come"),
        (("model", "spec"), "tiny,width=4,depth=1", "model.spec: is 'tiny,width=4,depth=1', which is written 'tiny"),
        (("model", "spec"), "tiny,(", "model.spec: unbalanced brackets in 'tiny,('"),
        # the schema
        (("luck",), 1, "luck: is 1: Extra inputs are not permitted"),
        (("draws",), 0, "draws: is 0: Input should be greater than or equal to 1"),
        (("conditions",), [], "conditions: List should have at least 1 item"),
        (("schema_version",), 99, "has schema version 99, newer than this stressbench reads"),
    ],
)  # fmt: skip
def test_one_changed_field_is_found(where: tuple[str, ...], value: Any, line: str, root: Path, lines: Lines) -> None:
    put(changed(fields(), where, value), root / PLACE)
    assert any(line in found for found in lines()), lines()


def test_a_missing_condition_is_named(root: Path, lines: Lines) -> None:
    record = fields()
    (gone,) = (row for row in record["conditions"] if row["condition"] == {"corruption": "fog", "severity": 3})
    record["conditions"].remove(gone)
    put(record, root / PLACE)
    assert lines() == ["conditions: fog, severity 3 is missing: the leaderboard takes whole runs"]


def test_a_renamed_metric_is_found_in_every_row(root: Path, lines: Lines) -> None:
    record = fields()
    for row in record["conditions"][:2]:
        row["metrics"]["err"] = row["metrics"].pop("error")
    put(record, root / PLACE)
    assert lines() == [
        line
        for i in (0, 1)
        for line in (
            f"conditions.{i}.metrics.error: is missing",
            f"conditions.{i}.metrics: has 'err', which is not a metric of the suite",
        )
    ]


def test_all_findings_are_listed_and_long_lists_are_cut(root: Path, lines: Lines) -> None:
    record = fields()
    record["metrics"]["mean_error"], record["metrics"]["clean_nll"] = 0.1, 0.1
    put(record, root / PLACE)
    assert [line.split(":")[0] for line in lines()] == ["metrics.mean_error", "metrics.clean_nll"]
    for row in record["conditions"]:
        row["n"] = 5
    put(record, root / PLACE)
    found = lines()
    assert len(found) == 21
    assert found[-1] == "and 56 more"


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "a|b", "`x`", "[x](javascript:alert(1))", "*a*", "a\n# b", "tіny",
     "https://evil.example", "www.evil.example", "../../escape", "a/../b", "/etc/passwd", "&lt;b&gt;", "@somebody",
     "a b"],
)  # fmt: skip
@pytest.mark.parametrize(
    "where", [("model", "spec"), ("dataset", "name"), ("suite", "name"), ("model", "distribution"), ("device",)]
)
def test_markup_links_and_paths_in_names_are_refused(
    name: str, where: tuple[str, ...], root: Path, lines: Lines
) -> None:
    put(changed(fields(), where, name), root / PLACE)
    found = [line for line in lines() if line.startswith(".".join(where))]
    assert found
    assert "it may hold" in found[0]
    assert all(line.isprintable() and line.isascii() for line in found)


@pytest.mark.parametrize("where", [("model", "weights_source"), ("environment", "device")])
@pytest.mark.parametrize("text", ["<b>", "see https://evil.example", "a|b", "`x`", "a\nb"])
def test_markup_in_free_text_is_refused(where: tuple[str, ...], text: str, root: Path, lines: Lines) -> None:
    put(changed(fields(), where, text), root / PLACE)
    assert any(line.startswith(".".join(where)) for line in lines())


@pytest.mark.parametrize("where", ["spec", "device_name", "settings", "versions"])
def test_markup_in_what_a_training_says_is_refused(where: str, root: Path, lines: Lines) -> None:
    training: dict[str, Any] = {
        "spec": "tiny", "seed": 0, "dataset": "digits", "split": "train", "fingerprint": "sha256:" + "c" * 64,
        "validation": 0, "recipe": "fast,epochs=2", "epochs": 2, "settings": {"flip": "True"}, "precision": "float32",
        "measured_on": "test", "metrics": {"accuracy": 0.75}, "seconds": 1.5, "device": "cpu",
        "device_name": "Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", "versions": {"torch": "2.9.0"},
    }  # fmt: skip
    write(root / PLACE, model={"training": [training]})
    assert lines() == []
    text = "<b>" if isinstance(training[where], str) else {next(iter(training[where])): "<b>"}
    write(root / PLACE, model={"training": [training | {where: text}]})
    assert [line for line in lines() if line.startswith("model.training.0.")]


@pytest.mark.parametrize(
    "text", ["Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", "file net é.safetensors; trained here, seed 0 …"]
)
def test_ordinary_free_text_is_not(text: str, root: Path, lines: Lines) -> None:
    write(root / PLACE, model={"weights_source": text})
    assert lines() == []


@given(st.text(max_size=40))
@example("::add-mask::x")
@example("\x1b[31m\n")
def test_no_line_carries_control_codes_or_a_command_of_a_ci_service(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert not line.startswith("::")


# --- images ---------------------------------------------------------------------------------------------------


def test_a_swapped_fingerprint_is_found_beside_the_other_records(root: Path, lines: Lines) -> None:
    write(root / PLACE.with_name("other.json"), "other")
    write(root / PLACE, dataset={"fingerprint": "sha256:" + "c" * 64})
    (line,) = lines()
    assert line.startswith(
        f"dataset.fingerprint: is sha256:{'c' * 64}, and other on the first 1000 images of squares has"
    )
    write(root / PLACE, dataset={"fingerprint": "sha256:" + "c" * 64, "n": 500})
    assert lines() == []  # fewer images are other images


def test_the_embedded_images_are_known_without_other_records(root: Path, lines: Lines) -> None:
    from stressbench.datasets.fingerprint import fingerprint

    digits = registry.dataset("digits", "test")
    place = root / "records" / "digits" / "corruption" / "tiny.json"
    write(place, dataset={"name": "digits", "n": 20, "fingerprint": fingerprint(digits, 20)})
    assert lines(place) == []
    write(place, dataset={"name": "digits", "n": 20, "fingerprint": fingerprint(digits, 21)})
    assert lines(place) == ["dataset.fingerprint: is not that of the first 20 test images of digits"]
    train = fingerprint(registry.dataset("digits", "train"), 20)
    write(place, dataset={"name": "digits", "n": 20, "fingerprint": train})
    assert lines(place) == ["dataset.fingerprint: is not that of the first 20 test images of digits"]
    write(place, dataset={"name": "digits", "n": 1000})
    assert lines(place) == ["dataset.n: is 1000, and digits has 200 test images"]


# --- what the record is normalised by -------------------------------------------------------------------------


def baseline(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    rows = json.loads(json.dumps(record["conditions"]))
    return {"model": record["model"]["spec"], "source": "record on the same data", "conditions": rows, **changes}


def with_baseline(given: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    """A record whose aggregates follow from this baseline."""
    record = fields(**changes)
    record["suite"]["baseline"] = given
    whole = Record.model_validate({**record, "conditions": record["conditions"]})
    conditions = [row.condition for row in whole.conditions]
    again = summary(
        registry.suite("corruption"), conditions, [r.metrics for r in whole.conditions], whole.suite.baseline
    )
    return {**record, "metrics": again}


def test_a_baseline_is_the_suites_own_or_a_record_of_the_leaderboard(root: Path, lines: Lines) -> None:
    theirs = fields("other", 0.4)
    put(with_baseline(baseline(theirs)), root / PLACE)
    assert lines() == [
        "suite.baseline: is neither the one of the corruption suite nor a record of this leaderboard: "
        "add the record of 'other' first"
    ]
    put(theirs, root / PLACE.with_name("other.json"))
    assert lines() == []
    made_up = baseline(theirs)
    made_up["conditions"][9]["metrics"]["error"] = 0.9
    put(with_baseline(made_up), root / PLACE)
    assert lines()[0].startswith("suite.baseline: is neither")


def test_the_baseline_itself_is_in_the_table_that_it_normalises(root: Path, lines: Lines) -> None:
    own = fields("tiny", 0.4)
    record = with_baseline(baseline(own), error=0.4)
    assert record["metrics"]["mCE"] == pytest.approx(1)
    put(record, root / PLACE)
    assert lines() == []


def pin(root: Path, name: str, n: int, fingerprint: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "datasets.toml").write_text(f'[{name}]\n{n} = "{fingerprint}"\n')


CIFAR100 = {"name": "cifar100", "published": "cifar100", "classes": 100, "image_size": [32, 32]}


def test_a_published_baseline_is_compared_number_by_number(root: Path, lines: Lines) -> None:
    place = root / "records" / "cifar100" / "corruption" / "tiny.json"
    info = Record.model_validate(fields(dataset=CIFAR100)).dataset
    pin(root, "cifar100", info.n, info.fingerprint)
    published = registry.suite("corruption").baseline(info)
    assert published is not None
    right = published.model_dump(mode="json")
    put(with_baseline(right, dataset=CIFAR100), place)
    assert lines(place) == []
    put(with_baseline(changed(right, ("conditions", 4, "metrics", "error"), 0.99), dataset=CIFAR100), place)
    assert lines(place)[0].startswith("suite.baseline: is neither")
    put(with_baseline(None, dataset=CIFAR100), place)
    assert lines(place) == ["suite.baseline: is missing: the corruption suite has one for cifar100"]


def test_a_published_baseline_is_refused_on_data_that_only_have_the_name(root: Path, lines: Lines) -> None:
    published = registry.suite("corruption").baseline(Record.model_validate(fields(dataset=CIFAR100)).dataset)
    assert published is not None
    place = root / "records" / "cifar100" / "corruption" / "tiny.json"
    pin(root, "cifar100", 1000, "sha256:" + "a" * 64)
    put(with_baseline(published.model_dump(mode="json"), dataset={"name": "cifar100"}), place)
    assert lines(place)[0].startswith("suite.baseline: is neither")


# --- curves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "line"),
    [
        (("curves", "mean_error", "1"), 0.1, "curves.mean_error.1: is 0.1, its conditions give 0.3"),
        (("curves", "mean_error", "5"), 0.1, "curves.mean_error: ends in 0.1, and the metric is 0.2"),
        (("curves", "mean_error"), {"5": 0.2}, "over other numbers of draws"),
        (("conditions", 2, "curves", "error", "1"), 1.5, "conditions.2.curves.error.1: is 1.5: it is between 0 and 1"),
        (("conditions", 2, "curves"), {}, "conditions.2.curves.error: is missing"),
        (("curves", "luck"), {"1": 1, "5": 1}, "curves: has 'luck'"),
        (("draws",), 7, "curves: end at '5' draws, and the record has 7"),
    ],
)
def test_curves_follow_from_the_conditions(
    where: tuple[str | int, ...], value: Any, line: str, root: Path, lines: Lines
) -> None:
    put(changed(fields(curve={1: 0.3, 5: 0.2}), where, value), root / PLACE)
    assert any(line in found for found in lines()), lines()


# --- intervals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "value", "line"),
    [
        ((), None, None),
        (
            ("intervals", "mean_error", "5"),
            [0.19, 0.21],
            "intervals.mean_error.5: is (0.19, 0.21), its jackknife gives",
        ),
        (("intervals", "mean_error", "5"), None, "intervals.mean_error.5: is None, its jackknife gives"),
        (("intervals", "mCE", "5"), [0.1, 0.4], "intervals.mCE.5: is (0.1, 0.4), its jackknife gives None"),
        (("intervals", "mean_error", "2"), [0.1, 0.4], "intervals.mean_error: are of 2 draws"),
        (("jackknife", "mean_error"), {"1": None}, "jackknife.mean_error: are not of 5 draws"),
        (("jackknife", "mean_error", "1"), [0.3] * 19, "jackknife.mean_error.1: has 19 numbers, not 20"),
        (("jackknife", "mCE", "1"), [0.3] * 20, "jackknife.mCE.1: has 20 numbers, not 0"),
        (("jackknife", "mean_error", "1"), [0.3] * 19 + [1.5], "jackknife.mean_error.1: is 1.5: it is between 0 and 1"),
        (("intervals", "luck"), {}, "intervals: of 'luck': it is not a metric of the suite"),
        (("intervals",), {}, "intervals: of 'mean_error': it is missing"),
    ],
)
def test_intervals_follow_from_the_jackknife(
    where: tuple[str, ...], value: Any, line: str | None, root: Path, lines: Lines
) -> None:
    record = around(error=0.2, curve={1: 0.3, 5: 0.2})
    put(changed(record, where, value) if where else record, root / PLACE)
    assert (lines() == []) if line is None else any(line in found for found in lines()), lines()


# --- files ----------------------------------------------------------------------------------------------------


def test_a_record_in_another_place_is_sent_to_its_own(root: Path, lines: Lines) -> None:
    elsewhere = root / "records" / "squares" / "corruption" / "best-model.json"
    write(elsewhere)
    assert lines(elsewhere) == [f"belongs in {root / PLACE}"]
    outside = write(root.parent / "tiny.json")
    for path in (outside, root / "records" / ".." / ".." / "tiny.json", root / "tiny.json"):
        assert lines(path) == [f"is not in {root / 'records'}: `bench leaderboard add` puts a record in its place"]


def test_one_result_has_one_file(root: Path, lines: Lines) -> None:
    from stressbench.leaderboard.paths import paths

    path = write(root / PLACE)
    twin = root / paths(Record.model_validate(fields()))[1]
    twin.write_text(path.read_text())
    assert lines(twin) == [f"is the same result as {PLACE}: one file a result"]


def test_links_and_other_things_than_files_are_not_opened(root: Path, lines: Lines) -> None:
    real = write(root.parent / "tiny.json")
    (root / PLACE).parent.mkdir(parents=True)
    (root / PLACE).symlink_to(real)
    assert lines() == ["is not a regular file"]
    (root / PLACE).unlink()
    (root / PLACE).mkdir()
    assert lines() == ["is not a regular file"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b" " * (100 * 2**20), "has more than 16 MB"),
        (b"[" * 1_000_000, "is not a record"),
        (b'{"a":' * 100_000, "is not a record"),
        (b'{"schema_version": 2, "schema_version": 2}', "it has a key twice"),
        (b'{"schema_version": 2, "draws": NaN}', "it holds NaN"),
        (b'{"schema_version": 2, "draws": -Infinity}', "it holds -Infinity"),
        (b'{"schema_version": ' + b"9" * 5000 + b"}", "is not a record"),
        (b"\xff\xfe", "is not a record"),
        (b"", "is not a record"),
        (b"[]", "is not a record"),
        (b'{"schema_version": 2}', "Field required"),
    ],
)
def test_hostile_files_are_refused_quickly(content: bytes, words: str, root: Path, lines: Lines) -> None:
    (root / PLACE).parent.mkdir(parents=True)
    (root / PLACE).write_bytes(content)
    started = time.monotonic()
    found = lines()
    assert time.monotonic() - started < 5
    assert any(words in line for line in found), found


def test_a_number_that_overflows_is_refused(root: Path, lines: Lines) -> None:
    (root / PLACE).parent.mkdir(parents=True)
    text = json.dumps(changed(fields(), ("metrics", "mean_error"), 0.25)).replace("0.25", "1e999", 1)
    (root / PLACE).write_text(text)
    assert any(line.startswith("metrics.mean_error: ") for line in lines())


def test_twenty_thousand_rows_are_refused_quickly(root: Path, lines: Lines) -> None:
    record = fields()
    record["conditions"] = [record["conditions"][i % 76] for i in range(20_000)]
    put(record, root / PLACE)
    started = time.monotonic()
    assert len(lines()) == 21
    assert time.monotonic() - started < 20


def test_a_suite_that_cannot_sum_up_strangers_numbers_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, root: Path, lines: Lines
) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("division by zero")

    write(root / PLACE)
    monkeypatch.setattr(type(registry.suite("corruption")), "aggregate", broken)
    assert lines() == ["conditions: cannot be summed up: ZeroDivisionError: division by zero"]


def test_check_wants_files_or_a_commit(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["a.json", "--base", "main"]):
        with pytest.raises(SystemExit) as done:
            main(["leaderboard", "check", *words])
        assert done.value.code == 2
        assert "pass record files, or --base with a commit" in capsys.readouterr().err


def test_bounds_are_those_of_the_unit_unless_the_metric_says_otherwise() -> None:
    suite = registry.suite("corruption")
    named = {metric.name: metric.range for metric in (*suite.metrics, *suite.row_metrics)}
    assert named["mCE"] == (0, float("inf"))  # a ratio of errors
    assert named["error"] == (0, 1)
    assert named["nll"] == (0, float("inf"))
    assert named["brier"] == (0, 2)
    assert Metric("any", "number", None).range == (-float("inf"), float("inf"))
