"""The corruption suite's numbers against pandas, NumPy and cases worked by hand."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from stressbench import randomness, registry
from stressbench.contracts import Batch, Metrics
from stressbench.errors import UserError
from stressbench.record import Baseline, DatasetInfo, Row
from stressbench.results.scoring import summary
from stressbench.sampling import Unjudged
from stressbench_suites.corruption.engine import CORRUPTIONS, EXTRA_CORRUPTIONS, corrupt
from stressbench_suites.corruption.suite import CorruptionSuite

CLEAN = {"corruption": "none", "severity": 0}
CELLS = [{"corruption": c, "severity": s} for c in CORRUPTIONS for s in range(1, 6)]


def data(name: str = "cifar100", **fields: object) -> DatasetInfo:
    facts = {
        "name": name,
        "split": "test",
        "n": 10,
        "fingerprint": "sha256:" + "0" * 64,
        "altered": False,
        "stress": "generated",
        "stress_verified": None,
    }
    return DatasetInfo(**{**facts, **fields})  # type: ignore[arg-type]


def batch(n: int = 6, classes: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.rand(n, 3, 32, 32, generator=generator),
        targets=torch.randint(classes, (n,), generator=generator),
        indices=torch.arange(n),
        keys=randomness.image_keys(randomness.derive(0), torch.arange(n)),
    )


def rows_of(seed: int) -> list[Metrics]:
    """Made-up errors, NLLs and ECEs for the clean images and all 75 cells."""
    generator = np.random.default_rng(seed)
    return [
        {"error": float(e), "nll": float(n), "ece": float(c)}
        for e, n, c in zip(*generator.uniform(0.1, 0.9, (3, 76)), strict=True)
    ]


def baseline_of(rows: list[Metrics]) -> Baseline:
    cells = [Row(condition=c, n=10, metrics=r) for c, r in zip([CLEAN, *CELLS], rows, strict=True)]
    return Baseline(model="other", source="test", conditions=cells)


def test_seventy_six_conditions_the_clean_images_first() -> None:
    conditions = CorruptionSuite().conditions()
    assert conditions == [CLEAN, *CELLS]
    assert len(CORRUPTIONS) == 15
    assert len(EXTRA_CORRUPTIONS) == 4


def test_narrowing_keeps_the_order_and_the_clean_images() -> None:
    suite = CorruptionSuite(corruptions=("fog", "gaussian_noise", "saturate", "fog"), severities=(5, 1))
    assert [tuple(c.values()) for c in suite.conditions()] == [
        ("none", 0),
        *((c, s) for c in ("gaussian_noise", "fog", "saturate") for s in (1, 5)),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"corruptions": ("fogg",)}, "no corruption 'fogg': did you mean 'fog'"),
        ({"corruptions": ()}, "name at least one"),
        ({"severities": (0,)}, "severity 0 does not exist"),
        ({"severities": (6,)}, "severity 6 does not exist"),
        ({"severities": ()}, "name at least one"),
        ({"baseline": Path("nowhere.json")}, "does not exist"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        CorruptionSuite(**options)  # type: ignore[arg-type]


def test_it_presents_the_engines_images_and_the_clean_ones_as_they_are() -> None:
    suite, b = CorruptionSuite(), batch()
    model = torch.nn.Identity()
    assert suite.stress(CLEAN, b, Unjudged(model)).images is b.images
    fog = suite.stress({"corruption": "fog", "severity": 3}, b, Unjudged(model)).images
    torch.testing.assert_close(fog, corrupt(b.images, "fog", 3, b.keys), rtol=0, atol=0)


def test_observed_columns_give_the_metrics_that_scikit_learn_gives() -> None:
    suite, b = CorruptionSuite(), batch(n=200)
    log_probs = torch.randn(3, 200, 4, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    columns = suite.observe(CLEAN, b, log_probs)
    assert {len(column) for column in columns.values()} == {200}
    row = suite.score([CLEAN], [pd.DataFrame({name: column.numpy() for name, column in columns.items()})])[0]
    p, labels = log_probs.double().softmax(-1).mean(0).numpy(), b.targets.numpy()
    assert row["error"] == pytest.approx(1 - accuracy_score(labels, p.argmax(1)))
    assert row["nll"] == pytest.approx(log_loss(labels, p, labels=range(4)), rel=1e-6)
    assert row["brier"] == pytest.approx(brier_score_loss(labels, p, labels=range(4), scale_by_half=False), rel=1e-5)
    bins = pd.cut(p.max(1), np.arange(11) / 10)
    table = pd.DataFrame({"conf": p.max(1), "hit": p.argmax(1) == labels}).groupby(bins, observed=True)
    gaps = (table["conf"].mean() - table["hit"].mean()) * table.size() / 200
    assert row["ece"] == pytest.approx(gaps.abs().sum(), abs=1e-6)
    assert row["signed_ece"] == pytest.approx(gaps.sum(), abs=1e-6)


def test_ties_go_to_the_first_class() -> None:
    columns = CorruptionSuite().observe(CLEAN, batch(n=3), torch.zeros(1, 3, 4).log_softmax(-1))
    assert columns["prediction"].tolist() == [0, 0, 0]


def test_one_image_has_a_row() -> None:
    suite, b = CorruptionSuite(), batch(n=1, classes=1)
    columns = suite.observe(CLEAN, b, torch.zeros(2, 1, 1))
    row = suite.score([CLEAN], [pd.DataFrame({k: v.numpy() for k, v in columns.items()})])[0]
    assert row == {"error": 0, "nll": 0, "ece": 0, "signed_ece": 0, "brier": 0}


@given(st.integers(0, 10_000))
def test_the_aggregates_are_those_that_pandas_gives(seed: int) -> None:
    rows, others = rows_of(seed), rows_of(seed + 1)
    ours = summary(CorruptionSuite(), [CLEAN, *CELLS], rows, baseline_of(others))
    f, g = (pd.DataFrame(r[1:]).assign(corruption=[c["corruption"] for c in CELLS]) for r in (rows, others))
    for name, column in (("mCE", "error"), ("mCNLL", "nll"), ("mCECE", "ece")):
        ratio = f.groupby("corruption")[column].sum() / g.groupby("corruption")[column].sum()
        assert ours[name] == pytest.approx(ratio.mean())
        assert ours[f"mean_{column}"] == pytest.approx(f[column].mean())
        assert ours[f"clean_{column}"] == rows[0][column]
    relative = [(r.groupby("corruption")["error"].sum() - 5 * c["error"]) for r, c in ((f, rows[0]), (g, others[0]))]
    assert ours["relative_mCE"] == pytest.approx((relative[0] / relative[1]).mean())


def test_a_model_is_at_one_by_its_own_numbers() -> None:
    ours = summary(CorruptionSuite(), [CLEAN, *CELLS], rows_of(3), baseline_of(rows_of(3)))
    for name in ("mCE", "mCNLL", "mCECE", "relative_mCE"):
        assert ours[name] == pytest.approx(1)


@pytest.mark.parametrize("left_out", [1, 40, 75])
def test_a_missing_cell_is_never_a_partial_mean(left_out: int) -> None:
    conditions, rows = [CLEAN, *CELLS], rows_of(0)
    baseline = baseline_of(rows_of(1))
    del conditions[left_out], rows[left_out]
    ours = summary(CorruptionSuite(), conditions, rows, baseline)
    assert {name for name, value in ours.items() if value is not None} == {"clean_error", "clean_nll", "clean_ece"}


def test_extra_corruptions_do_not_enter_the_means() -> None:
    baseline = baseline_of(rows_of(1))
    plain = summary(CorruptionSuite(), [CLEAN, *CELLS], rows_of(0), baseline)
    extra = [{"corruption": "spatter", "severity": s} for s in range(1, 6)]
    more = [*rows_of(0), *({"error": 1.0, "nll": 9.0, "ece": 1.0} for _ in extra)]
    assert summary(CorruptionSuite(), [CLEAN, *CELLS, *extra], more, baseline) == plain


def test_without_a_baseline_the_normalised_metrics_are_unknown() -> None:
    ours = summary(CorruptionSuite(), [CLEAN, *CELLS], rows_of(0), None)
    assert {name for name, value in ours.items() if value is None} == {"mCE", "mCNLL", "mCECE", "relative_mCE"}


def test_a_baseline_without_errors_normalises_nothing() -> None:
    perfect: list[Metrics] = [{"error": 0.0, "nll": 0.0, "ece": 0.0} for _ in range(76)]
    ours = summary(CorruptionSuite(), [CLEAN, *CELLS], rows_of(0), baseline_of(perfect))
    assert ours["mCE"] is ours["mCNLL"] is ours["mCECE"] is ours["relative_mCE"] is None


# The published test sets, as a record describes all their images.
PUBLISHED: dict[str, dict[str, object]] = {
    "cifar10": {"published": "cifar10", "n": 10_000, "classes": 10, "image_size": (32, 32)},
    "cifar100": {"published": "cifar100", "n": 10_000, "classes": 100, "image_size": (32, 32)},
    "imagenet": {"published": "imagenet", "n": 50_000, "classes": 1000, "image_size": (224, 224)},
}


def table(file: str) -> dict[tuple[str, int], Metrics]:
    with (resources.files("stressbench_suites.corruption") / "baselines" / f"{file}.csv").open() as lines:
        return {
            (line["corruption"], int(line["severity"])): {
                k: float(line[k]) for k in ("error", "nll", "ece") if k in line
            }
            for line in csv.DictReader(lines)
        }


@pytest.mark.parametrize(("dataset", "file"), [("cifar10", "alexnet_cifar10c"), ("cifar100", "alexnet_cifar100c")])
def test_alexnets_published_numbers_normalise_its_datasets(dataset: str, file: str) -> None:
    baseline = CorruptionSuite().baseline(data(dataset, **PUBLISHED[dataset]))
    assert baseline == CorruptionSuite().baseline(data("by another name", **{**PUBLISHED[dataset], "n": 10}))
    # AlexNet itself is at 100 %; its clean error is not in the table, so relative mCE stays unknown.
    numbers = table(file)
    rows: list[Metrics] = [{"error": 0.4, "nll": 2.0, "ece": 0.1}]
    rows += [dict(numbers[str(c["corruption"]), int(c["severity"])]) for c in CELLS]
    ours = summary(CorruptionSuite(), [CLEAN, *CELLS], rows, baseline)
    assert ours["mCE"] == ours["mCNLL"] == ours["mCECE"] == pytest.approx(1)
    assert ours["relative_mCE"] is None


@pytest.mark.parametrize("suite", ["corruption", "uncertainty"])
def test_the_record_says_which_constants_made_the_images(suite: str) -> None:
    protocol = registry.suite(suite).protocol
    assert protocol(data("any", image_size=(32, 32))) == "constants of CIFAR-C"
    assert (protocol(data("any", image_size=(224, 224))) or "").startswith("constants of ImageNet-C")
    assert protocol(data("any", image_size=(224, 224), stress="official")) is None
    assert protocol(data("any")) is None


# AlexNet's mean errors over the five severities as AugMix's code has them, in the order of the corruptions.
IMAGENET_C = [
    0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816, 0.826572, 0.819324, 0.564592,
    0.853204, 0.646056, 0.717840, 0.606500,
]  # fmt: skip


def test_imagenets_errors_are_normalised_by_the_literature_and_nll_and_ece_by_the_only_table() -> None:
    baseline = CorruptionSuite().baseline(data("imagenet", **PUBLISHED["imagenet"]))
    assert baseline is not None
    assert "Hendrycks and Dietterich (2019)" in baseline.source
    assert "NLL and ECE" in baseline.source
    # A model whose error under a corruption is AlexNet's mean at all severities is at 100 %.
    numbers = table("alexnet_imagenetc")
    rows: list[Metrics] = [{"error": 0.4348, "nll": 2.0, "ece": 0.1}]
    for c in CELLS:
        error = IMAGENET_C[CORRUPTIONS.index(str(c["corruption"]))]
        rows.append({**numbers[str(c["corruption"]), int(c["severity"])], "error": error})
    ours = summary(CorruptionSuite(), [CLEAN, *CELLS], rows, baseline)
    for name in ("mCE", "relative_mCE", "mCNLL", "mCECE"):
        assert ours[name] == pytest.approx(1, rel=1e-9)
    assert ours["mean_error"] == pytest.approx(0.789, abs=5e-4)  # the paper's mean


@pytest.mark.parametrize("dataset", PUBLISHED)
@pytest.mark.parametrize(
    "other",
    [
        {"published": None},
        {"altered": True},
        {"split": "train"},
        {"n": 50_001},
        {"classes": 20},
        {"image_size": (64, 64)},
        {"classes": None, "image_size": None},
    ],
)
def test_other_data_have_no_published_baseline(dataset: str, other: dict[str, object]) -> None:
    assert CorruptionSuite().baseline(data(dataset, **{**PUBLISHED[dataset], **other})) is None


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet"])
def test_a_name_alone_has_no_published_baseline(name: str) -> None:
    assert CorruptionSuite().baseline(data(name)) is None


def test_the_signed_calibration_error_has_no_direction() -> None:
    """Its ideal is 0: lower would put −0.9 before 0, and higher would put 0.9 there."""
    assert {metric.name: metric.better for metric in CorruptionSuite.row_metrics}["signed_ece"] is None
