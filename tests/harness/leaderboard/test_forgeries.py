"""Records of real runs in which one thing is forged, with all that follows from it: each is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from leaderboard_records import without_intervals
from stressbench import metrics
from stressbench.leaderboard import check, facts, relations
from stressbench.leaderboard.records import readable
from stressbench.leaderboard.words import strange
from stressbench.record import Record
from stressbench.results.resampling import metric_interval
from stressbench.results.scoring import summary

BOARD = ROOT / "leaderboard"
FILES = {
    "corruption": "records/cifar10-jpeg75/corruption/resnet20.json",
    "draws": "records/cifar10-jpeg75/corruption/resnet20-mcdo-smooth.json",
    "uncertainty": "records/cifar10-jpeg75/uncertainty/resnet20-mcdo.json",
    "adversarial": "records/cifar10-jpeg75/adversarial/resnet20.json",
    "ood": "../docs/records/posthoc/ood-resnet20.json",
    "conformal": "../docs/records/posthoc/conformal-resnet20.json",
}

Fields = dict[str, Any]
Edit = Callable[[Fields], object]


@pytest.fixture(scope="module")
def known() -> facts.Known:
    return facts.known(BOARD)


@pytest.fixture(scope="module")
def baselines() -> list[Record]:
    return [record for record in readable(BOARD).values() if record.model.spec == "alexnet"]


def honest(name: str) -> Fields:
    fields: Fields = json.loads((BOARD / FILES[name]).read_text())
    return fields


def lines(fields: Fields, baselines: list[Record], known: facts.Known) -> list[str]:
    try:
        record = Record.model_validate(fields)
    except ValueError as error:
        return [str(error)]
    return [str(fault) for fault in check.faults(record, baselines, known)]


@pytest.mark.parametrize(
    ("name", "lost", "message"),
    [
        ("ood", "noise", "sources: lack 'noise', which conditions.1 is of"),
        (
            "conformal",
            "cifar10-jpeg75",
            "sources: lack the threshold split of cifar10-jpeg75, which the suite learns from",
        ),
    ],
)
def test_every_dataset_that_was_used_is_listed(
    name: str, lost: str, message: str, baselines: list[Record], known: facts.Known
) -> None:
    fields = honest(name)
    assert not lines(fields, baselines, known)
    fields["sources"] = [one for one in fields["sources"] if one["name"] != lost]
    assert message in lines(fields, baselines, known)


def summed(fields: Fields) -> Fields:
    """The same with aggregates and findings of its conditions, and without what they give of groups of images."""
    record = Record.model_validate(fields)
    suite, conditions = check.standard(record), [row.condition for row in record.conditions]
    at = {"": [row.metrics for row in record.conditions]} | {
        size: [{name: curve[size] for name, curve in row.curves.items()} for row in record.conditions]
        for size in next(iter(record.curves.values()), {})
    }
    again = {size: summary(suite, conditions, rows, record.suite.baseline) for size, rows in at.items()}
    fields["metrics"] = again.pop("")
    fields["curves"] = {
        name: {size: values[name] for size, values in again.items()} for name in (fields["metrics"] if again else ())
    }
    fields["findings"] = [one.model_dump() for one in suite.findings(conditions, at[""])]
    return without_intervals(fields)


@pytest.mark.parametrize("name", FILES)
def test_the_honest_ones_pass_also_without_intervals(name: str, baselines: list[Record], known: facts.Known) -> None:
    assert lines(honest(name), baselines, known) == []
    assert lines(summed(honest(name)), baselines, known) == []


# --- numbers --------------------------------------------------------------------------------------------------


def numbers(index: int, **values: float | None) -> Edit:
    """Other numbers of a condition, also at the last number of draws."""

    def edit(fields: Fields) -> None:
        row = fields["conditions"][index]
        row["metrics"] |= values
        for name, curve in row["curves"].items():
            curve[str(fields["draws"])] = row["metrics"][name]

    return edit


def copied(fields: Fields) -> None:
    for row in fields["conditions"][1:]:
        row["metrics"] = dict(fields["conditions"][0]["metrics"])


def without(name: str) -> Edit:
    def edit(fields: Fields) -> None:
        for row in fields["conditions"]:
            row["metrics"][name] = None

    return edit


def at_one_draw(name: str) -> Edit:
    def edit(fields: Fields) -> None:
        for row in fields["conditions"]:
            row["curves"][name]["1"] = 0.3

    return edit


def fewer_attackable(fields: Fields) -> None:
    fields["conditions"][3]["metrics"] |= {"attackable": 300.0, "asr": 0.5, "accuracy": 0.3}


def best_case(fields: Fields) -> None:
    for row in fields["conditions"]:
        if row["metrics"]["robust_accuracy"] is not None:
            row["metrics"]["robust_accuracy"] = row["metrics"]["accuracy"]


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        ("corruption", numbers(7, error=0.2004), "no count gives that"),
        ("corruption", numbers(7, ece=0.001, signed_ece=-0.2), "below the size of signed_ece"),
        ("corruption", numbers(7, brier=0.001), "brier is 0.001"),
        ("corruption", numbers(7, nll=0.01), "nll is 0.01"),
        ("corruption", numbers(7, ece=0.9), "or less"),
        ("corruption", numbers(7, ece=None), "ece is missing"),
        ("corruption", numbers(7, error=None), "error is missing"),
        ("corruption", without("error"), "error is missing"),
        ("corruption", without("brier"), "brier is missing"),
        ("corruption", without("signed_ece"), "signed_ece is missing"),
        ("corruption", copied, "to the last bit that of"),
        ("uncertainty", at_one_draw("corr_variance_loss"), "at one draw, which does not vary"),
        ("uncertainty", at_one_draw("corr_mutual_information_loss"), "at one draw, which does not vary"),
        ("uncertainty", numbers(3, aurc=0.9), "aurc is 0.9"),
        ("uncertainty", numbers(3, auroc_error=0.999), "aurc is"),
        ("uncertainty", numbers(3, accuracy=1.0, aurc=0.0, nll=0.01), "none of the images are wrong"),
        ("uncertainty", numbers(3, accuracy_moved=0.9), "accuracy_moved is 0.9"),
        ("uncertainty", numbers(3, accuracy_moved=0.0123), "no count gives that"),
        ("uncertainty", numbers(3, nll_moved=9.0), "nll_moved is 9.0"),
        ("adversarial", numbers(3, asr=0.5), "asr"),
        ("adversarial", numbers(3, asr=None), "asr: is missing"),
        ("adversarial", numbers(0, asr=0.5), "nothing attacked"),
        ("adversarial", numbers(3, attackable=400.5), "it is a number of"),
        ("adversarial", numbers(3, images=0.0), "0 images"),
        ("adversarial", numbers(3, ece=1.0), "ece is 1.0"),
        ("adversarial", fewer_attackable, "attackable: is 300"),
        ("adversarial", best_case, "at the same ε"),
    ],
)
def test_numbers(name: str, edit: Edit, words: str, baselines: list[Record], known: facts.Known) -> None:
    fields = honest(name)
    edit(fields)
    found = lines(summed(fields), baselines, known)
    assert any(words in line for line in found), found


def test_the_areas_of_an_order_are_between_the_least_and_the_greatest() -> None:
    import torch

    generator = np.random.default_rng(0)
    for n, wrong in ((10, 1), (10, 9), (40, 7), (40, 20)):
        for _ in range(50):
            right = np.ones(n)
            right[generator.choice(n, wrong, replace=False)] = 0
            confidence = generator.integers(0, 8, n) / 8  # with ties
            sure, correct = torch.from_numpy(confidence), torch.from_numpy(right)
            aurc, auroc = metrics.aurc(sure, correct), metrics.auroc(1 - sure, 1 - correct)
            assert auroc is not None
            low, high = relations._areas(wrong, n, auroc)
            assert low - 1e-6 <= aurc <= high + 1e-6
    # Two wrong images of four: one block at the end, and one at each end.
    assert relations._areas(2, 4, 1.0) == pytest.approx(((1 / 3 + 2 / 4) / 4,) * 2)
    low, high = relations._areas(2, 4, 0.5)
    assert (low, high) == pytest.approx(((1 / 2 + 2 / 3 + 2 / 4) / 4, (1 + 1 / 2 + 1 / 3 + 2 / 4) / 4))


# --- values without each group of images ----------------------------------------------------------------------


def jackknife(name: str, edit: Callable[[np.ndarray, float], np.ndarray]) -> Edit:
    """Other values without each group, and the interval that they give."""

    def forge(fields: Fields) -> None:
        record, size = Record.model_validate(fields), str(fields["draws"])
        (metric,) = (one for one in check.standard(record).metrics if one.name == name)
        value = fields["metrics"][name]
        values = edit(np.array(fields["jackknife"][name][size]), value)
        fields["jackknife"][name][size] = values.tolist()
        ends = metric_interval(metric, value, values, record.rows)
        fields["intervals"][name][size] = None if ends is None else list(ends)

    return forge


def no_jackknife(name: str) -> Edit:
    def forge(fields: Fields) -> None:
        fields["jackknife"][name][str(fields["draws"])] = None
        fields["intervals"][name][str(fields["draws"])] = None

    return forge


def no_jackknife_of_rows(fields: Fields) -> None:
    for row in fields["conditions"]:
        row["jackknife"] = {}


SHIFTED = ["mean_error", "clean_error", "mCE", "mean_nll", "mean_ece"]


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        *(("corruption", jackknife(one, lambda values, _: values - 0.01)) for one in SHIFTED),
        *(("corruption", jackknife(one, lambda values, value: value + (values - value) / 10)) for one in SHIFTED),
        *(("corruption", jackknife(one, lambda values, _: np.roll(values, 3))) for one in SHIFTED),
        *(("corruption", no_jackknife(one)) for one in SHIFTED),
        ("corruption", no_jackknife_of_rows),
        ("corruption", lambda fields: fields.update(intervals={}, jackknife={})),
        ("uncertainty", jackknife("mean_aurc", lambda values, value: 0 * values + value)),
        ("uncertainty", jackknife("mean_auroc_error", lambda values, value: 0 * values + value)),
        ("uncertainty", no_jackknife("mean_aurc")),
        ("adversarial", jackknife("clean_accuracy", lambda values, _: values - 0.01)),
        ("adversarial", jackknife("clean_accuracy", lambda values, value: value + (values - value) / 10)),
        ("adversarial", jackknife("fgsm_accuracy", lambda values, value: value + (values - value) / 10)),
        ("adversarial", jackknife("fgsm_asr", lambda values, value: 0 * values + value)),
    ],
)
def test_values_without_groups(name: str, edit: Edit, baselines: list[Record], known: facts.Known) -> None:
    fields = honest(name)
    edit(fields)
    found = lines(fields, baselines, known)
    assert any("jackknife" in line or "intervals" in line for line in found), found


# --- words, models, dates -------------------------------------------------------------------------------------


def put(value: object, *where: str | int) -> Edit:
    def edit(fields: Fields) -> None:
        inner: Any = fields
        for step in where[:-1]:
            inner = inner[step]
        inner[where[-1]] = value

    return edit


def of_another(spec: str, *plugins: tuple[str, str]) -> Edit:
    """A model of these plugins, by name and distribution."""

    def edit(fields: Fields) -> None:
        own = fields["model"]["version"]
        listed = [{"name": n, "distribution": d, "version": own if d == "stressbench" else "1"} for n, d in plugins]
        fields["model"] |= {"spec": spec, "training": [], "plugins": listed}
        fields["model"] |= {key: listed[0][key] for key in ("distribution", "version")}

    return edit


OURS, MAGIC = "stressbench", ("magic", "magic-nets")
NO_SOURCE = {"name": "x", "split": "test", "n": 5, "fingerprint": "sha256:" + "1" * 64, "altered": False,
             "stress": "generated", "stress_verified": None}  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (put("0001-01-01T00:00:00Z", "created"), "created"),
        (put("2025-02-01T00:00:00Z", "created"), "created"),
        (put("2026-11-27T02:55:05+14:00", "created"), "created"),
        (put(1764200000, "created"), "created"),
        (put("1764200000", "created"), "created"),
        (put(-1, "seed"), "seed"),
        (put(2**31, "seed"), "seed"),
        (put(True, "draws"), "draws"),
        (put("1", "draws"), "draws"),
        (put(10**4000, "draws"), "draws"),
        (put(True, "conditions", 3, "metrics", "error"), "metrics"),
        (put(True, "conditions", 1, "condition", "severity"), "severity"),
        (put(1.0, "conditions", 1, "condition", "severity"), "conditions.1"),
        (lambda fields: fields["conditions"].reverse(), "conditions"),
        (put("banana", "device"), "device"),
        (put("2.7.18", "environment", "python"), "environment.python"),
        (put("9.9.9", "environment", "stressbench"), "environment.stressbench"),
        (put("0.0.1", "suite", "distribution_version"), "suite.distribution_version"),
        (put("banana", "environment", "commit"), "environment.commit"),
        (put({}, "environment", "packages"), "environment.packages"),
        (put({"torch": "banana"}, "environment", "packages"), "environment.packages.torch"),
        (lambda fields: fields.update(without_intervals(fields), created="2026-11-28T00:00:00Z"), "intervals"),
        (put("<b>", "environment", "executor"), "environment.executor"),
        (put("an independent laboratory", "environment", "executor"), "environment.executor"),
        (put("Ray, 0 workers", "environment", "executor"), "environment.executor"),
        (put("meta", "device"), "device"),
        (put("xla", "model", "training", 0, "device"), "model.training.0.device"),
        (put("a\u202eb", "environment", "executor"), "environment.executor"),
        (put(0, "timing", "seconds"), "timing"),
        (put(1e12, "timing", "images_per_second"), "timing"),
        (put(1e300, "timing", "seconds"), "timing"),
        (put("/home/me/nets/best.safetensors", "model", "weights_source"), "model.weights_source"),
        (put("file C:/nets/best.safetensors", "model", "weights_source"), "model.weights_source"),
        (put("javascript:alert(1)", "model", "weights_source"), "model.weights_source"),
        (put(" ", "model", "weights_source"), "model.weights_source"),
        (put("evil.example/best.safetensors", "model", "weights_source"), "model.weights_source"),
        (put("weights of nets.co.uk", "model", "weights_source"), "model.weights_source"),
        (put("file Evil.COM", "model", "weights_source"), "model.weights_source"),
        (put("the best at evil.com", "model", "name"), "model.name"),
        (put("AMD EPYC (rent it at cloud.example)", "environment", "device"), "environment.device"),
        (put("trained here, seed 0, recipe short, 1 epoch", "model", "weights_source"), "model.weights_source"),
        (put("trained here, seed 7, recipe short, 16 epochs", "model", "weights_source"), "model.weights_source"),
        (put("a\u200bb", "model", "weights_source"), "model.weights_source"),
        (put("sha256:" + "A" * 64, "model", "weights_checksum"), "weights_checksum"),
        (put("аlexnet", "model", "name"), "model.name"),  # the first letter is Cyrillic
        (put("alexnet", "model", "name"), "model.name"),
        (put("=cmd()", "model", "name"), "model.name"),
        (put("a" + "\u0301" * 79, "model", "name"), "model.name"),
        (put(11, "dataset", "classes"), "dataset.classes"),
        (put(None, "dataset", "classes"), "dataset.classes"),
        (put([64, 64], "dataset", "image_size"), "dataset.image_size"),
        (put([-1, 0], "dataset", "image_size"), "image_size"),
        (put("cifar1O-jpeg75", "dataset", "name"), "dataset.name"),
        (put("the paper's own", "suite", "protocol"), "suite.protocol"),
        (put([{"nll": "1 2 3"}], "sketches"), "sketches.0.nll"),
        (put([{"nll": "1 2 3 4 5 6 7 nan"}], "sketches"), "sketches.0.nll"),
        (put([{"nll": "1 2 3 4 5 6 7 8"}], "sketches"), "sketches"),  # of one condition
        (put([{"<b>": "1 2 3 4 5 6 7 8"}] * 76, "sketches"), "sketches.<b>"),
        (put([{f"x{i}": "1 2 3 4 5 6 7 8" for i in range(65)}] * 76, "sketches"), "sketches.0"),
        (put([NO_SOURCE], "sources"), "sources.0"),
        (put([{"check": "x", "message": "<b>", "source": "run"}], "findings"), "findings.0.message"),
        (put([{"check": "x y", "message": "y", "source": "run"}], "findings"), "findings.0.check"),
        (put([{"check": "verified", "message": "y", "source": "run"}], "findings"), "findings.0.check"),
        (put([{"check": "upper-bound", "message": "y", "source": "run"}], "findings"), "findings.0.check"),
        (put([{"check": "one-label", "message": "y", "source": "run"}] * 2, "findings"), "findings.1"),
        (put([{"check": "verified", "message": "y", "source": "suite"}], "findings"), "findings"),
        (put("train", "model", "training", 0, "measured_on"), "model.training.0.measured_on"),
        (put("validation", "model", "training", 0, "measured_on"), "model.training.0.measured_on"),
        (put(5000, "model", "training", 0, "validation"), "model.training.0.measured_on"),
        (put(10**20, "model", "training", 0, "validation"), "validation"),
        (put("our secret sauce", "model", "training", 0, "recipe"), "model.training.0.recipe"),
        (put("fast,epochs", "model", "training", 0, "recipe"), "model.training.0.recipe"),
        (put("yes", "model", "training", 0, "settings", "sota"), "model.training.0.settings.sota"),
        (put("-1", "model", "training", 0, "settings", "batch_size"), "model.training.0.settings.batch_size"),
        (put("nan", "model", "training", 0, "settings", "learning_rate"), "model.training.0.settings.learning_rate"),
        (put("float32", "model", "training", 0, "settings", "precision"), "model.training.0.precision"),
        (put(0.99, "model", "training", 0, "metrics", "imagenet_accuracy"), "model.training.0.metrics"),
        (put("9.9.9", "model", "training", 0, "versions", "stressbench"), "model.training.0.versions.stressbench"),
        (put(1.5, "model", "training", 0, "metrics", "accuracy"), "model.training.0.metrics.accuracy"),
        (put(-1, "model", "training", 0, "seconds"), "model.training.0.seconds"),
        (put("vgg11", "model", "training", 0, "spec"), "model.training.0.spec"),
        (put("test", "model", "training", 0, "split"), "model.training.0.split"),
        (put(10**9, "model", "training", 0, "epochs"), "epochs"),
        (put("x" * 10**6, "model", "training", 0, "settings", "flip"), "settings"),
        (lambda fields: fields["model"].update(training=fields["model"]["training"] * 2), "model.training"),
        (lambda fields: fields["model"].update(training=fields["model"]["training"] * 5000), "training"),
        (put(10**13, "model", "parameters"), "model.parameters"),
        (of_another("resnet20", ("resnet20", OURS), MAGIC), "model.plugins.1.name"),
        (of_another("resnet20", ("resnet20", "magic-nets")), "model.spec"),
        (of_another("mc-dropout:magic,rate=0.1", ("mc-dropout", OURS), MAGIC), "model.stochastic"),
        (
            of_another("mc-dropout:(timm:resnet18),rate=0.1", ("mc-dropout", OURS), ("timm:resnet18", OURS)),
            "model.stochastic",
        ),
        (of_another("ensemble:magic,size=5", ("ensemble", OURS), MAGIC), "model.stochastic"),
        (of_another("mc-dropout:magic,luck=3", ("mc-dropout", OURS), MAGIC), "model.spec"),
    ],
)  # fmt: skip
def test_everything_else(edit: Edit, field: str, baselines: list[Record], known: facts.Known) -> None:
    fields = honest("corruption")
    edit(fields)
    found = lines(fields, baselines, known)
    assert any(field in line.partition(": ")[0] or line.startswith("1 validation error") for line in found), found


@pytest.mark.parametrize(
    ("text", "is_address"),
    [
        ("file seed0.safetensors", False),
        ("file cifar10_resnet20_public.th; file net.pt", False),
        ("timm 1.0.9, timm/vit_base_patch16_clip_224.openai at 0123abc", False),
        ("IMAGENET1K_V2 of torchvision 0.24.0", False),
        ("Laplace with prior precision 8.216, fitted on 50,000 training images. Nothing else.", False),
        ("see evil.com.", True),
        ("evil-nets.io/x", True),
        ("a.b.example", True),
    ],
)
def test_addresses_of_sites_are_told_from_names_of_files(text: str, is_address: bool) -> None:
    fields = honest("corruption")
    put(text, "model", "weights_source")(fields)
    assert bool([*strange(Record.model_validate(fields))]) == is_address


SKETCHED = "1.8974 1.8974 -1.8974 0 0.63246 -0.63246 3.1623 0"  # of ten images: 6, 6, -6, 0, 2, -2, 10, 0


@pytest.mark.parametrize(
    ("right", "sketches", "field"),
    [
        (10, SKETCHED, None),
        (9, SKETCHED, "sketches.0.correct"),  # an odd number of ±1 has an odd sum
        (8, SKETCHED, "sketches.0.correct"),  # and none of more than their number
        (10, SKETCHED.replace("1.8974", "1.7"), "sketches.0.correct"),
    ],
)
def test_sketches_are_of_as_many_right_images(right: int, sketches: str, field: str | None) -> None:
    fields = without_intervals(honest("corruption"))
    fields["conditions"] = fields["conditions"][:1]
    fields["conditions"][0] |= {"n": 10, "metrics": {**fields["conditions"][0]["metrics"], "error": 1 - right / 10}}
    record = Record.model_validate({**fields, "sketches": [{"correct": sketches}]})
    found = [*relations._sketches(check.standard(record), record)]
    assert [fault.field for fault in found] == ([] if field is None else [field])


def test_another_models_numbers_are_not_taken(baselines: list[Record], known: facts.Known) -> None:
    fields = honest("corruption")
    (theirs,) = (record for record in [Record.model_validate(fields)])
    fields["model"]["weights_checksum"] = "sha256:" + "7" * 64
    found = lines(fields, [*baselines, theirs], known)
    assert any(line.startswith("conditions: are those of") for line in found), found


def test_a_model_of_a_file_has_its_source_beside_the_record(tmp_path: Path) -> None:
    text = "open('ran', 'w')\nfrom torch import nn\nnet = nn.Identity()\n"
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    for name, words in ((f"net.py@{digest}:net", "needs its source"), ("net.py:net", "without the file's digest")):
        fields = honest("corruption")
        of_another(f"file:{name}", (f"file:{name}", "file"))(fields)
        record = Record.model_validate(fields)
        (fault,) = check.source(record, tmp_path / "tiny.json")
        assert words in fault.message
    fields["model"]["plugins"][0]["name"] = f"file:net.py@{digest}:net"
    record, folder = Record.model_validate(fields), tmp_path / "other"
    folder.mkdir()
    (folder / "net.py").write_text(text)
    assert check.source(record, tmp_path / "other.json") == []
    assert not Path("ran").exists()
