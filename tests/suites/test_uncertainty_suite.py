"""The uncertainty suite's numbers against scikit-learn, SciPy and cases worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import entropy, pearsonr
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from torch import Tensor, nn

from batches import batch
from stressbench import randomness, registry
from stressbench.cli import main
from stressbench.contracts import Classification, Dataset, Metrics, Part, Wrapper
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench.execution.predict import Predictor
from stressbench.record import Precision
from stressbench.sampling import Unjudged
from stressbench_plugins.ensemble import Ensemble
from stressbench_plugins.training_free import TRANSFORMS, InferTransform, infer_dropout, infer_transform
from stressbench_suites.corruption.engine import corrupt
from stressbench_suites.uncertainty.suite import CORRUPTIONS, SEVERITIES, UncertaintySuite
from tiny_models import Dropped, Tiny

CLEAN = {"corruption": "none", "severity": 0}
CELLS = [{"corruption": c, "severity": s} for c in CORRUPTIONS for s in SEVERITIES]
FOG = {"corruption": "fog", "severity": 3}
NAMES = [metric.name for metric in UncertaintySuite.row_metrics]
MOVED = ("accuracy_moved", "nll_moved")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits("test")


def log_probs_of(draws: int, n: int = 200, classes: int = 10, seed: int = 0) -> Tensor:
    """Draws that share a part and differ in the rest."""
    generator = torch.Generator().manual_seed(seed)
    shared = 2 * torch.randn(n, classes, generator=generator)
    return (shared + torch.randn(draws, n, classes, generator=generator)).log_softmax(-1)


def row_of(columns: dict[str, Tensor]) -> Metrics:
    table = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
    (row,) = UncertaintySuite().score([CLEAN], [table])
    return row


def predictor(module: nn.Module, draws: int = 1, precision: Precision = "float32", chunk: int = 100) -> Predictor:
    return Predictor(module, registry.find("models", "tiny"), Classification(10), [draws], True, precision, chunk)


def predict(module: nn.Module, images: Tensor, keys: Tensor, draws: int) -> Tensor:
    return predictor(module, draws).predict(images, keys)


def test_clean_images_and_a_fixed_set_of_corruptions() -> None:
    assert UncertaintySuite().conditions() == [CLEAN, *CELLS]
    assert len(CELLS) == 12
    narrowed = UncertaintySuite(corruptions=("fog",), severities=(5,)).conditions()
    assert narrowed == [CLEAN, {"corruption": "fog", "severity": 5}]
    with pytest.raises(UserError, match="did you mean 'fog'"):
        UncertaintySuite(corruptions=("fogg",))
    with pytest.raises(UserError, match="severity 7"):
        UncertaintySuite(severities=(7,))


def test_it_shows_the_engines_images_and_no_columns_for_a_model_that_wraps_nothing(dataset: Dataset) -> None:
    b = batch()
    for model in (Tiny(dataset), Dropped(dataset), Ensemble([Part("tiny", s, Tiny(dataset)) for s in range(2)])):
        stressed = UncertaintySuite().stress(FOG, b, Unjudged(model))
        assert torch.equal(stressed.images, corrupt(b.images, "fog", 3, b.keys))
        assert stressed.columns == {}
    assert UncertaintySuite().stress(CLEAN, b, Unjudged(Tiny(dataset))).images is b.images


def test_a_row_has_the_numbers_that_scikit_learn_and_scipy_give() -> None:
    b, log_probs = batch(n=200), log_probs_of(5)
    row = row_of(UncertaintySuite().observe(CLEAN, b, log_probs))
    draws = log_probs.double().softmax(-1).numpy()  # float32 sums to 1 but for rounding
    p, labels = draws.mean(0), b.targets.numpy()
    loss, right = -np.log(p[np.arange(200), labels]), p.argmax(1) == labels
    uncertainties = {
        "entropy": entropy(p, axis=1),
        "variance": draws.var(0).mean(1),
        "mutual_information": entropy(p, axis=1) - entropy(draws, axis=2).mean(0),
        "one_minus_confidence": 1 - p.max(1),
    }
    for name, uncertainty in uncertainties.items():
        assert row[f"corr_{name}_loss"] == pytest.approx(pearsonr(uncertainty, loss).statistic, abs=1e-5)
    assert row["accuracy"] == pytest.approx(accuracy_score(labels, p.argmax(1)))
    assert row["nll"] == pytest.approx(log_loss(labels, p, labels=range(10)), rel=1e-5)
    assert row["auroc_error"] == pytest.approx(roc_auc_score(~right, 1 - p.max(1)), abs=1e-9)
    ordered = 1 - right[np.argsort(-p.max(1))]
    assert row["aurc"] == pytest.approx((ordered.cumsum() / np.arange(1, 201)).mean(), abs=1e-9)
    assert row["accuracy_moved"] is row["nll_moved"] is None
    assert list(row) == NAMES


def test_a_model_that_knows_its_errors_scores_better_than_one_that_does_not() -> None:
    b = batch(n=200)
    wrong = torch.arange(200) < 60
    answers = torch.where(wrong, (b.targets + 1) % 10, b.targets)
    rows = []
    for unsure in (wrong, ~wrong):
        sharpness = torch.where(unsure, 1.0, 4.0) + 0.1 * torch.rand(200, generator=torch.Generator().manual_seed(0))
        logits = sharpness[:, None] * nn.functional.one_hot(answers, 10)
        rows.append(row_of(UncertaintySuite().observe(CLEAN, b, logits.log_softmax(-1)[None])))
    good, bad = rows
    assert good["auroc_error"] == 1
    assert bad["auroc_error"] == 0
    assert good["aurc"] == pytest.approx(sum((k - 140) / k for k in range(141, 201)) / 200)
    assert bad["aurc"] > 0.3 > good["aurc"]
    for name in ("corr_entropy_loss", "corr_one_minus_confidence_loss"):
        assert good[name] > 0.5 > 0 > bad[name]


def test_one_draw_has_neither_variance_nor_mutual_information() -> None:
    columns = UncertaintySuite().observe(CLEAN, batch(n=200), log_probs_of(1))
    assert columns["variance"].isnan().all()
    row = row_of(columns)
    unknown = {name for name, value in row.items() if value is None}
    assert unknown == {"corr_variance_loss", "corr_mutual_information_loss", *MOVED}


@pytest.mark.parametrize(("right", "area"), [(True, 0), (False, 1)])
def test_all_right_and_all_wrong_have_no_ranking_of_errors(right: bool, area: float) -> None:
    b = batch(n=20)
    answers = b.targets if right else (b.targets + 1) % 10
    logits = torch.rand(3, 20, 1) * 5 * nn.functional.one_hot(answers, 10)
    row = row_of(UncertaintySuite().observe(CLEAN, b, logits.log_softmax(-1)))
    assert row["auroc_error"] is None
    assert row["aurc"] == area
    assert row["corr_entropy_loss"] is not None


def test_one_image_has_a_row() -> None:
    row = row_of(UncertaintySuite().observe(CLEAN, batch(n=1), log_probs_of(3, n=1)))
    assert row["aurc"] in (0, 1)
    assert [row[name] for name in NAMES if name.startswith(("corr", "auroc"))] == [None] * 5


# --- tolerability ---------------------------------------------------------------------------------------------


def test_how_far_a_wrapper_moves_from_the_model_that_it_wraps(dataset: Dataset) -> None:
    suite, b = UncertaintySuite(), batch(n=100)
    model = infer_dropout(dataset, "tiny", rate=0.4, location="features").eval()
    stressed = suite.stress(FOG, b, Unjudged(model))
    log_probs = predict(model, stressed.images, b.keys, 4)
    row = row_of({**suite.examine(FOG, b, stressed.images, predictor(model)), **suite.observe(FOG, b, log_probs)})
    with torch.no_grad():
        plain = Tiny(dataset)(stressed.images).double().softmax(-1).numpy()
    ours, labels = log_probs.double().exp().mean(0).numpy(), b.targets.numpy()
    moved = accuracy_score(labels, ours.argmax(1)) - accuracy_score(labels, plain.argmax(1))
    assert row["accuracy_moved"] == pytest.approx(moved, abs=1e-9)
    nlls = [-np.log(p[np.arange(100), labels]).mean() for p in (ours, plain)]
    assert row["nll_moved"] == pytest.approx(nlls[0] - nlls[1], rel=1e-4)
    assert row["nll_moved"] != 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_wrapper_that_disturbs_nothing_moves_nothing(dataset: Dataset, precision: Precision) -> None:
    suite, b = UncertaintySuite(), batch(n=50)
    model = predictor(infer_dropout(dataset, "tiny", rate=0.0, location="features"), 3, precision)
    row = row_of(
        {**suite.examine(CLEAN, b, b.images, model), **suite.observe(CLEAN, b, model.predict(b.images, b.keys))}
    )
    assert row["accuracy_moved"] == 0
    assert row["nll_moved"] == pytest.approx(0, abs=1e-6)


def test_the_unwrapped_model_is_given_as_many_images_at_once_as_the_wrapper(dataset: Dataset) -> None:
    sizes: set[int] = set()

    class Counted(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            sizes.add(len(images))
            return super().forward(images)

    b = batch(n=10)
    model = InferTransform(Counted(dataset), "tiny", TRANSFORMS["flip"])
    columns = UncertaintySuite().examine(CLEAN, b, b.images, predictor(model, 2, chunk=4))
    assert sizes == {4, 2}
    whole = UncertaintySuite().examine(CLEAN, b, b.images, predictor(model, 2))
    torch.testing.assert_close(columns["unwrapped_nll"], whole["unwrapped_nll"])


def test_an_unwrapped_stochastic_model_makes_its_own_draws_independent_of_the_judges(dataset: Dataset) -> None:
    b = batch(n=30)
    model = infer_transform(dataset, "dropped").eval()
    torch.manual_seed(4)
    columns = UncertaintySuite().examine(CLEAN, b, b.images, predictor(model))
    drawn = torch.rand(2)
    own = randomness.split(b.keys, 1)[:, 0]

    def nll(keys: Tensor, draws: int) -> Tensor:
        p = predict(Dropped(dataset), b.images, keys, draws).double().exp().mean(0)
        return -p.gather(1, b.targets[:, None])[:, 0].log()

    torch.testing.assert_close(columns["unwrapped_nll"].double(), nll(own, 3), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(columns["unwrapped_nll"].double(), nll(b.keys, 3), atol=1e-2)
    torch.manual_seed(4)
    assert torch.equal(drawn, torch.rand(2))


def test_wrapped_members_are_compared_with_the_plain_ensemble(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [Tiny(dataset), Tiny(dataset)]
    nn.init.constant_(members[1].features.bias, 0.5)
    pair = Ensemble([Part("tiny", seed, member) for seed, member in enumerate(members)])
    monkeypatch.setattr(registry, "model", lambda text, data: pair)
    model = infer_dropout(dataset, "pair", location="features").eval()
    assert isinstance(model, Wrapper)
    assert isinstance(model.unwrapped, Ensemble)
    assert list(model.unwrapped.members) == members
    assert not isinstance(pair, Wrapper)
    b = batch(n=20)
    with torch.no_grad():
        p = torch.stack([member(b.images).double().softmax(-1) for member in members]).mean(0)
    nll = -p.gather(1, b.targets[:, None])[:, 0].log()
    columns = UncertaintySuite().examine(CLEAN, b, b.images, predictor(model))
    torch.testing.assert_close(columns["unwrapped_nll"].double(), nll, rtol=1e-4, atol=1e-4)
    assert columns["unwrapped_correct"].tolist() == (p.argmax(1) == b.targets).tolist()


# --- the record -----------------------------------------------------------------------------------------------


def rows_of(seed: int) -> list[Metrics]:
    generator = np.random.default_rng(seed)
    return [dict(zip(NAMES, map(float, values), strict=True)) for values in generator.uniform(size=(13, len(NAMES)))]


def test_means_are_over_the_twelve_stressed_conditions() -> None:
    rows = rows_of(0)
    record = UncertaintySuite().aggregate([CLEAN, *CELLS], rows)
    frame = pd.DataFrame(rows)
    assert list(record) == [metric.name for metric in UncertaintySuite.metrics]
    assert next(iter(record)) == "mean_aurc"
    for name in NAMES[2:]:
        assert record[f"mean_{name}"] == pytest.approx(frame[name][1:].mean())
        assert record[f"clean_{name}"] == frame[name][0]
    shuffled = UncertaintySuite().aggregate([*CELLS, CLEAN], [*rows[1:], rows[0]])
    assert shuffled == record


@pytest.mark.parametrize("left_out", [1, 7, 12])
def test_a_missing_condition_or_number_is_never_a_partial_mean(left_out: int) -> None:
    conditions, rows = [CLEAN, *CELLS], rows_of(1)
    rows[left_out]["auroc_error"] = None
    record = UncertaintySuite().aggregate(conditions, rows)
    assert {name for name, value in record.items() if value is None} == {"mean_auroc_error"}
    del conditions[left_out], rows[left_out]
    record = UncertaintySuite().aggregate(conditions, rows)
    assert {name for name, value in record.items() if value is not None} == {f"clean_{name}" for name in NAMES[2:]}


def test_other_corruptions_do_not_enter_the_means() -> None:
    plain = UncertaintySuite().aggregate([CLEAN, *CELLS], rows_of(2))
    more = [{"corruption": "snow", "severity": 3}, {"corruption": "fog", "severity": 2}]
    again = UncertaintySuite().aggregate([CLEAN, *CELLS, *more], [*rows_of(2), *rows_of(3)[:2]])
    assert again == plain


@pytest.mark.parametrize("model", ["infer-dropout:tiny,location=features", "tiny"])
def test_a_run_from_the_command_line(model: str, tmp_path: Path) -> None:
    words = ["run", "--suite", "uncertainty", "--model", model, "--limit", "30", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 0
    (path,) = tmp_path.glob("*/record.json")
    record: dict[str, Any] = json.loads(path.read_text())
    assert [row["condition"] for row in record["conditions"]] == [CLEAN, *CELLS]
    unknown = {name for name, value in record["metrics"].items() if value is None}
    if model == "tiny":
        lacking = ("corr_variance_loss", "corr_mutual_information_loss", *MOVED)
        assert unknown == {f"{where}_{name}" for where in ("clean", "mean") for name in lacking}
    else:
        assert unknown == set()
