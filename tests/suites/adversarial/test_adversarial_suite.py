"""The adversarial suite's options and numbers, against scikit-learn, hand-worked cases and its own tables."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchattacks
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn

from attack_cases import Linear, batch, keyed, run
from conftest import Bench
from stressbench import randomness
from stressbench.contracts import Batch, Condition, Metrics
from stressbench.errors import UserError
from stressbench.sampling import Unjudged
from stressbench_suites.adversarial import audit
from stressbench_suites.adversarial.numbers import budgets, number
from stressbench_suites.adversarial.suite import AdversarialSuite

CLEAN = {"attack": "none", "norm": "linf", "eps": 0}


# --- options --------------------------------------------------------------------------------------------------


def test_the_conditions_are_the_clean_images_and_each_attack_at_each_budget() -> None:
    tried = AdversarialSuite(audit=False).conditions()
    expected = [{"attack": a, "norm": "linf", "eps": k / 255} for a in ("fgsm", "pgd") for k in (1, 2, 4, 8)]
    assert tried == [CLEAN, *expected]
    tried = AdversarialSuite(attack=("pgd", "pgd"), eps=("0.5", "8/255", "0.50"), norm="l2", audit=False).conditions()
    assert tried == [CLEAN, *({"attack": "pgd", "norm": "l2", "eps": e} for e in (8 / 255, 0.5))]
    assert [c["eps"] for c in AdversarialSuite(norm="l2", audit=False).conditions()[1:4]] == [0.25, 0.5, 1.0]


def test_the_audit_has_conditions_of_its_own_at_the_largest_budget() -> None:
    tried = AdversarialSuite(attack=("fgsm",), eps=("0.1", "0.2"), norm="l2").conditions()
    own = [c for c in tried if str(c["attack"]).startswith("audit-")]
    assert [tuple(c.values()) for c in own] == [
        ("audit-noise", "l2", 0.2),
        ("audit-once", "l2", 0.2),
        ("audit-several", "l2", 0.2),
        ("audit-large", "linf", 0.5),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attack": ("fgms",)}, "no attack 'fgms': did you mean 'fgsm'"),
        ({"attack": ()}, "no attack is named"),
        ({"attack": ("(pgd,steps=5)",)}, "does not fit pgd: it follows --eps"),
        ({"attack": ("torchattacks",)}, "write torchattacks:CLASS"),
        ({"attack": ("autoattack:CW",)}, "write torchattacks:CLASS"),
        ({"eps": ("0",)}, "invalid eps=0: expected"),
        ({"eps": ("-1/255",)}, "invalid eps="),
        ({"eps": ("8",)}, "write 8/255 if that is meant"),
        ({"eps": ("8/0",)}, "eps=8/0 is not a number"),
        ({"eps": ("nan",)}, "is not a number"),
        ({"eps": ("1/2/3",)}, "is not a number"),
        ({"eps": ("wide",)}, "is not a number"),
        ({"steps": 0}, "steps=0 makes no attack"),
        ({"restarts": 0}, "restarts=0"),
        ({"eot_draws": 0}, "eot_draws=0"),
        ({"step_size": "0"}, "moves nothing"),
        ({"restarts": 2, "random_start": False}, "are the same"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        AdversarialSuite(**options)  # type: ignore[arg-type]


@given(st.integers(1, 255), st.integers(1, 999))
def test_a_fraction_is_what_it_says(top: int, bottom: int) -> None:
    assert number(f"{top}/{bottom}", "eps") == top / bottom
    assert number(str(top / bottom), "eps") == top / bottom


@given(st.text(max_size=12))
def test_any_text_is_a_finite_number_or_a_user_error(text: str) -> None:
    with contextlib.suppress(UserError):
        assert math.isfinite(number(text, "eps"))


def test_an_l2_budget_may_be_large() -> None:
    assert budgets(("3.0", "0.5"), "l2") == [0.5, 3.0]


# --- numbers --------------------------------------------------------------------------------------------------


def test_the_rows_are_what_scikit_learn_gives() -> None:
    model = Linear(classes=3, scale=0.3)
    b = batch(60, model, wrong=9)
    suite = AdversarialSuite(eps=("4/255",), steps=5, audit=False)
    conditions, tables, rows = run(suite, model, b)
    for condition, table, row in zip(conditions, tables, rows, strict=True):
        images = suite.stress(condition, keyed(b, condition), Unjudged(model)).images
        p = model(images).double().softmax(dim=1).detach().numpy()
        labels, guess = b.targets.numpy(), p.argmax(axis=1)
        assert row["accuracy"] == pytest.approx(accuracy_score(labels, guess))
        assert row["nll"] == pytest.approx(log_loss(labels, p, labels=range(3)), rel=1e-5)
        frame = pd.DataFrame({"conf": p.max(axis=1), "hit": guess == labels})
        bins = frame.groupby(pd.cut(frame["conf"], np.arange(11) / 10), observed=True)
        gaps = (bins["conf"].mean() - bins["hit"].mean()) * bins.size() / 60
        assert row["ece"] == pytest.approx(gaps.abs().sum(), abs=1e-5)
        # The first nine were wrong before, so they do not count as the attack's.
        assert row["asr"] == (None if condition == CLEAN else pytest.approx((guess != labels)[9:].mean()))
        assert float(table.get("linf", pd.Series([0.0])).max()) <= 4 / 255 + 1e-6
    assert rows[0]["accuracy"] == pytest.approx(51 / 60)
    assert 0 < rows[2]["asr"] < 1  # type: ignore[operator]


def test_asr_by_hand() -> None:
    """Right before: images 0, 2, 3. Wrong after: 0 of these, and 1, which was wrong before."""
    suite = AdversarialSuite(eps=("0.1",), audit=False)
    same = {"confidence": 0.7, "nll": 0.5, "chance": 0.25}
    before = pd.DataFrame({"index": [0, 1, 2, 3], "correct": [True, False, True, True], **same})
    after = pd.DataFrame({"index": [0, 1, 2, 3], "correct": [False, False, True, True], "attacked": True, **same})
    tried = [CLEAN, {"attack": "pgd", "norm": "linf", "eps": 0.1}]
    clean, attacked = suite.score(tried, [before, after])
    assert (clean["accuracy"], clean["asr"]) == (0.75, None)
    assert (attacked["accuracy"], attacked["asr"]) == (0.5, pytest.approx(1 / 3))
    clean, attacked = suite.score(tried, [before.assign(correct=False), after])
    assert attacked["asr"] is None


def test_robust_accuracy_by_hand() -> None:
    """Five images; each attack leaves others right, and one without a budget moved its images by .05 to .35."""
    suite = AdversarialSuite(attack=("fgsm", "pgd"), eps=("0.1", "0.2"), audit=False)
    attacked = {
        ("none", 0): [1, 1, 1, 1, 0],
        ("fgsm", 0.1): [1, 1, 1, 0, 0],
        ("pgd", 0.1): [0, 1, 1, 1, 0],
        ("fgsm", 0.2): [1, 1, 1, 1, 0],
        ("pgd", 0.2): [0, 0, 1, 1, 0],
        ("audit-once", 0.2): [0, 0, 0, 0, 0],
        ("torchattacks:CW", None): [1, 0, 0, 0, 0],
    }
    tried: list[Condition] = [
        {"attack": name, "norm": "linf", "eps": eps} if eps is not None else {"attack": name, "norm": "l2"}
        for name, eps in attacked
    ]
    same = {"confidence": 0.7, "nll": 0.5, "chance": 0.25, "attacked": True, "linf": [0.05, 0.05, 0.15, 0.35, 0.2]}
    tables = [
        pd.DataFrame({"index": range(5), "correct": [bool(one) for one in right], **same})
        for right in attacked.values()
    ]
    rows = suite.score(tried, tables)
    # At .1 the attack without a budget takes image 1, at .2 image 2 too, and image 3 is out of its reach.
    assert [row["robust_accuracy"] for row in rows] == [None, 0.2, 0.2, 0.2, 0.2, None, None]
    assert suite.aggregate(tried, rows)["robust_accuracy"] == 0.2
    rows = suite.score(tried[:-1], tables[:-1])
    assert [row["robust_accuracy"] for row in rows] == [None, 0.4, 0.4, 0.4, 0.4, None]
    assert suite.metrics[0].name == "robust_accuracy"


def test_robust_accuracy_joins_what_each_attack_fools() -> None:
    model = Linear(classes=4, scale=0.3)
    b = batch(40, model, wrong=4)
    attacks = ("fgsm", "pgd", "torchattacks:Square,n_queries=30")
    suite = AdversarialSuite(attack=attacks, eps=("2/255", "4/255"), steps=3, audit=False)
    conditions, _, rows = run(suite, model, b)
    for eps in (2 / 255, 4 / 255):
        right = torch.ones(40, dtype=torch.bool)
        of_eps = [(c, row) for c, row in zip(conditions, rows, strict=True) if c.get("eps") == eps]
        for condition, _ in of_eps:
            images = suite.stress(condition, keyed(b, condition), Unjudged(model)).images
            right &= model(images).argmax(dim=1) == b.targets
        assert {row["robust_accuracy"] for _, row in of_eps} == {int(right.sum()) / 40}
    findings = {finding.check: finding.message for finding in suite.findings(conditions, rows)}
    assert "over fgsm and pgd and torchattacks:Square,n_queries=30 alone" in findings["upper-bound"]


def test_with_autoattack_robust_accuracy_needs_no_warning() -> None:
    tried: list[Condition] = [{"attack": name, "norm": "linf", "eps": 0.1} for name in ("pgd", "pyautoattack")]
    rows: list[Metrics] = [{"robust_accuracy": 0.3}] * 2
    assert [f.check for f in AdversarialSuite().findings(tried, rows)] == ["not-audited"]


def test_the_record_has_the_largest_budget_and_null_for_what_was_not_made() -> None:
    suite = AdversarialSuite()
    tried = [
        CLEAN,
        *({"attack": "pgd", "norm": "linf", "eps": e} for e in (8 / 255, 1 / 255)),
        {"attack": "audit-once", "norm": "linf", "eps": 0.5},
        {"attack": "torchattacks:CW", "norm": "l2"},
    ]
    rows = [{"accuracy": k / 10, "robust_accuracy": k / 30, "asr": None if k == 9 else k / 20} for k in (9, 2, 5, 1, 3)]
    assert suite.aggregate(tried, rows) == {
        "robust_accuracy": 2 / 30,
        "pgd_accuracy": 0.2,
        "fgsm_accuracy": None,
        "pgd_asr": 0.1,
        "fgsm_asr": None,
        "clean_accuracy": 0.9,
    }


def test_verdicts_alone_are_the_same_and_the_loss_is_unknown() -> None:
    model = Linear(classes=3, scale=0.3)
    b = batch(60, model, wrong=9)
    options = {"eps": ("2/255", "4/255"), "steps": 5, "audit": False}
    _, _, full = run(AdversarialSuite(**options), model, b)  # type: ignore[arg-type]
    conditions, _, stopped = run(AdversarialSuite(**options, verdicts_only=True), model, b)  # type: ignore[arg-type]
    for condition, one, other in zip(conditions, full, stopped, strict=True):
        assert one["accuracy"] == other["accuracy"]
        assert one["asr"] == other["asr"]
        assert (other["nll"] is None) == (other["ece"] is None) == (condition != CLEAN)


def test_the_accuracy_is_that_of_torchattacks() -> None:
    """Of the images that were right before; the others never count as right."""
    model = Linear(classes=4, scale=0.3)
    b = batch(80, model, wrong=10)
    suite = AdversarialSuite(eps=("3/255",), steps=8, step_size="1/255", random_start=False, audit=False)
    _, _, rows = run(suite, model, b)
    attacks = (torchattacks.FGSM(model, eps=3 / 255), torchattacks.PGD(model, 3 / 255, 1 / 255, 8, random_start=False))
    for row, attack in zip(rows[1:], attacks, strict=True):
        right = model(attack(b.images, b.targets)).argmax(dim=1) == b.targets
        assert row["accuracy"] == pytest.approx(float(right[10:].sum()) / 80)
        assert row["asr"] == pytest.approx(float((~right[10:]).float().mean()))


# --- batches and draws ----------------------------------------------------------------------------------------


def parts(b: Batch, *sizes: int) -> list[Batch]:
    split = zip(*(t.split(sizes) for t in (b.images, b.targets, b.indices, b.keys)), strict=True)
    return [Batch(*fields) for fields in split]


@pytest.mark.parametrize("stochastic", [False, True])
def test_what_an_attack_finds_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch, stochastic: bool) -> None:
    """Nor do the columns, also where a batch has no image that the audit attacks."""
    monkeypatch.setattr(audit, "IMAGES", 4)

    class Dropping(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(randomness.dropout(images, 0.3) if stochastic else images)

    model = Dropping(scale=0.1)
    model.stochastic = stochastic
    suite = AdversarialSuite(eps=("8/255",), steps=4, restarts=2, eot_draws=3)
    for condition in suite.conditions():
        b = keyed(batch(9, Linear(scale=0.1)), condition)
        whole = suite.stress(condition, b, Unjudged(model))
        split = [suite.stress(condition, part, Unjudged(model)) for part in parts(b, 2, 3, 4)]
        torch.testing.assert_close(torch.cat([s.images for s in split]), whole.images, rtol=0, atol=1e-6)
        assert all(s.columns.keys() == whole.columns.keys() for s in split)
        for name, column in whole.columns.items():
            joined = torch.cat([s.columns[name] for s in split])
            torch.testing.assert_close(joined, column, rtol=0, atol=1e-6, equal_nan=True)


def test_the_judges_draws_are_not_the_attacks_and_the_generators_are_left_alone() -> None:
    class Remembering(Linear):
        stochastic = True

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[float] = []

        def forward(self, images: Tensor) -> Tensor:
            noise = randomness.normal_like(images)
            self.seen += noise.flatten(1)[:, 0].tolist()
            return super().forward(images + noise + torch.randn_like(images))

    model = Remembering()
    condition = {"attack": "pgd", "norm": "linf", "eps": 8 / 255}
    b = keyed(batch(4, model), condition)
    model.seen.clear()
    before = torch.get_rng_state()
    AdversarialSuite(steps=3, eot_draws=5).stress(condition, b, Unjudged(model))
    assert torch.equal(torch.get_rng_state(), before)
    attack = set(model.seen)
    assert len(attack) == (1 + 3 + 1) * 5 * 4
    model.seen.clear()
    with torch.random.fork_rng(devices=[]):
        for index in range(30):
            with randomness.draw(b.keys, index):
                model(b.images)
    assert not attack & set(model.seen)


def test_verdicts_alone_of_a_stochastic_model_are_refused() -> None:
    model: nn.Module = Linear()
    model.stochastic = True  # type: ignore[assignment]
    suite = AdversarialSuite(verdicts_only=True)
    with pytest.raises(UserError, match="verdicts_only is for deterministic models"):
        suite.stress({"attack": "pgd", "norm": "linf", "eps": 0.1}, batch(2, model), Unjudged(model))


# --- the command ----------------------------------------------------------------------------------------------


def test_a_run_from_the_command_line(bench: Bench, tmp_path: Path) -> None:
    suite = "adversarial,eps=2/255+8/255,steps=3,attack=pgd+(torchattacks:CW,steps=3)"
    done = bench("run", "--suite", suite, "--model", "tiny", "--limit", 12, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    attacks = [row["condition"]["attack"] for row in record["conditions"]]
    assert attacks[:4] == ["none", "pgd", "pgd", "torchattacks:CW,steps=3"]
    assert record["conditions"][2]["condition"] == {"attack": "pgd", "norm": "linf", "eps": 8 / 255}
    assert record["metrics"]["pgd_accuracy"] == record["conditions"][2]["metrics"]["accuracy"]
    assert record["metrics"]["fgsm_accuracy"] is None
    assert [finding["check"] for finding in record["findings"]] == ["upper-bound"]
    assert record["metrics"]["robust_accuracy"] == record["conditions"][2]["metrics"]["robust_accuracy"]
    assert "1" in record["intervals"]["robust_accuracy"]
    shown = bench("show", next(tmp_path.iterdir()))
    assert "pgd, linf, 8/255" in shown.stdout
