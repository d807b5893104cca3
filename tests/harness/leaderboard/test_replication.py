"""`bench leaderboard replicate`: what records say to claims, worked out by hand beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from leaderboard_records import around, claimed, fields, parsed
from stressbench import registry
from stressbench.contracts import Metric
from stressbench.errors import UserError
from stressbench.leaderboard.answers import Answer, Number, answers, share_interval
from stressbench.leaderboard.claims import Claims
from stressbench.leaderboard.paths import paths
from stressbench.leaderboard.ranking import Entry, Group
from stressbench.leaderboard.replication import render
from stressbench.record import Record

ERROR = Metric("mean_error", "fraction", "lower")
COMPARISON = {
    "question": "Is b better than a?",
    "source": "somebody, table 1",
    "suite": "corruption",
    "metrics": ["mean_error"],
    "expect": "lower",
    "pairs": [{"first": {"model": "a"}, "second": {"model": "b"}, "paper": {"mean_error": "20 → 10 %"}}],
}
EXTREME = {
    "question": "Is the strongest fog the worst?",
    "source": "somebody, figure 2",
    "suite": "corruption",
    "models": ["a"],
    "metric": "error",
    "expect": "higher",
    "where": {"corruption": "fog"},
    "field": "severity",
    "inside": [5, 5],
    "paper": "the strongest",
}


def claims(kind: str = "comparisons", **changes: Any) -> Claims:
    claim = {**(COMPARISON if kind == "comparisons" else EXTREME), **changes}
    return Claims.model_validate({"dataset": "squares", "about": "About it.", kind: [claim]})


def pair(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"first": {"model": "a", **first}, "second": {"model": "b", **second}}]


def group(*records: Mapping[str, Any]) -> Group:
    """Results that compare, as they would come from a leaderboard's folder."""
    read = [Record.model_validate(one) for one in records]
    entries = [Entry(paths(one)[0], one, None) for one in read]
    return Group(registry.suite("corruption"), "squares", entries)


def answer(wanted: Claims, *known: Group) -> Answer:
    ((_, (only,)),) = answers(wanted, known)
    return only


# --- two models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expect", "margin", "second", "verdict"),
    [
        ("lower", None, 0.10, "agrees"),  # −0.10 ± 0.05
        ("higher", None, 0.10, "disagrees"),
        ("lower", None, 0.30, "disagrees"),
        ("higher", None, 0.30, "agrees"),
        ("lower", None, 0.16, "undecided"),  # −0.04 ± 0.05
        ("higher", None, 0.16, "undecided"),
        ("no-worse", 0.06, 0.20, "agrees"),  # 0 ± 0.05
        ("no-worse", 0.04, 0.20, "undecided"),
        ("no-worse", 0.04, 0.30, "disagrees"),  # +0.10 ± 0.05
        ("no-worse", 0.20, 0.30, "agrees"),
    ],
)
def test_the_interval_decides(expect: str, margin: float | None, second: float, verdict: str) -> None:
    """Half-widths of 0.03 and 0.04 make one of 0.05 where the images that matter to one do not matter to the other."""
    known = group(around("a", 0.2, 0.03), around("b", second, 0.04))
    found = answer(claims(expect=expect, margin=margin), known)
    assert found.difference == pytest.approx(second - 0.2)
    assert found.interval == pytest.approx((second - 0.2 - 0.05, second - 0.2 + 0.05))
    assert found.verdict == verdict
    edge = "0" if margin is None else f"+{100 * margin:.2f} pp"
    assert found.reason == (f"the interval holds {edge}" if verdict == "undecided" else "")


def test_no_worse_is_the_other_way_round_where_higher_is_better() -> None:
    better = Metric("accuracy", "fraction", "higher")
    sides = [Number("a", None, value=0.9, interval=(0.87, 0.93)), Number("b", None, value=0.87, interval=(0.83, 0.91))]
    verdicts = [Answer(better, "", [(sides[0], sides[1])], "higher", m, "").verdict for m in (0.0, 0.07, 0.09)]
    assert verdicts == ["undecided", "undecided", "agrees"]  # −0.03 ± 0.05
    assert Answer(better, "", [(sides[0], sides[1])], "higher", 0.07, "").reason.endswith("holds -7.00 pp")
    assert Answer(better, "", [(sides[1], sides[0])], "lower", 0.07, "").reason.endswith("holds +7.00 pp")


def test_what_rises_and_falls_together_is_told_apart_sooner() -> None:
    a, b = around("a", 0.2, 0.03, pattern=0), around("b", 0.16, 0.04, pattern=0)
    assert answer(claims(), group(a, b)).interval == pytest.approx((-0.05, -0.03))  # 0.04 − 0.03
    assert answer(claims(), group(a, b)).verdict == "agrees"
    differences = np.subtract(*(made["jackknife"]["mean_error"]["1"] for made in (b, a)))
    # Jackknife pseudo-values, whose mean's standard error is that of the estimate (Tukey, 1958).
    pseudo = 20 * -0.04 - 19 * differences
    half = scipy.stats.t.ppf(0.975, 19) * scipy.stats.sem(pseudo)
    assert half == pytest.approx(0.01)


def test_an_end_that_is_cut_off_makes_no_interval_narrower() -> None:
    """0.01 ± 0.03 is written (0, 0.04)."""
    known = group(around("a", 0.01, 0.03), around("b", 0.05, 0.04))
    assert known.entries[0].interval(ERROR) == (0.0, 0.04)
    assert answer(claims(), known).interval == pytest.approx((0.04 - 0.05, 0.04 + 0.05))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.sampled_from([0.0, 0.1]))
def test_the_question_asked_from_the_other_side_has_the_same_answer(numbers: list[float], margin: float) -> None:
    one, half, two, other = numbers
    half, other = max(half, 1e-6), max(other, 1e-6)  # where nothing varies there is no interval
    first = Number("a", None, value=one, interval=(one - half, one + half))
    second = Number("b", None, value=two, interval=(two - other, two + other))
    lower = Answer(ERROR, "", [(first, second)], "lower", margin, "")
    higher = Answer(ERROR, "", [(second, first)], "higher", margin, "")
    assert lower.verdict == higher.verdict
    certain = abs(two - one - margin) > hypot(half, other) + 1e-9
    if certain:
        assert lower.verdict == ("agrees" if two - one < margin else "disagrees")


def test_a_row_has_both_numbers_the_difference_and_the_papers() -> None:
    (line,) = claimed(render(claims(), [group(around("a", 0.2, 0.03), around("b", 0.1, 0.04))]))
    assert line == {
        "metric": "mean\\_error",
        "first → second": "[a](records/squares/corruption/a.json) → [b](records/squares/corruption/b.json)",
        "ours": "20.0 % → 10.0 %",
        "expected": "< 0",
        "difference": "-10.00 pp [-15.00, -5.00]",
        "interval over": "1,000 images, one training",
        "paper": "20 → 10 %",
        "verdict": "agrees",
    }


def test_each_pair_and_metric_is_a_row() -> None:
    pairs = [*pair({}, {}), *pair({"model": "b"}, {"model": "a", "metric": "clean_nll"})]
    with pytest.raises(UserError, match=r"takes mean_error \(fraction\) from clean_nll \(nats\): metrics of unlike"):
        answer(claims(pairs=pairs), group(around("a")))
    wanted = claims(metrics=["mean_nll", "clean_nll"], pairs=pairs)
    rows = claimed(render(wanted, [group(around("a"), around("b"))]))
    assert [row["metric"].replace("\\", "") for row in rows] == [
        "mean_nll", "clean_nll", "mean_nll → clean_nll", "clean_nll"
    ]  # fmt: skip
    nll = {name: around("a")["metrics"][name] for name in ("mean_nll", "clean_nll")}
    assert rows[2]["ours"] == f"{nll['mean_nll']:.3f} → {nll['clean_nll']:.3f}"


def test_a_metric_without_a_better_way_cannot_be_no_worse() -> None:
    wanted = claims(
        suite="frequency", metrics=["noise_worst_frequency"], expect="no-worse", margin=0.1, pairs=pair({}, {})
    )
    with pytest.raises(UserError, match="asks whether noise_worst_frequency is no worse: neither way of it is better"):
        list(answers(wanted, []))


CURVE = {1: 0.4, 2: 0.3, 5: 0.2}


@pytest.mark.parametrize(
    ("first", "value", "at"),
    [
        ({}, 0.2, "at 5 draws"),
        ({"draws": 5}, 0.2, "at 5 draws"),
        ({"draws": 2}, 0.3, "at 2 draws"),
        ({"draws": 1}, 0.4, "at 1 draw"),
        ({"draws": 50, "or_most": True}, 0.2, "at 5 draws (50 asked)"),
        ({"draws": 2, "or_most": True}, 0.3, "at 2 draws"),
    ],
)
def test_numbers_are_of_the_draws_that_are_asked_for(first: Mapping[str, Any], value: float, at: str) -> None:
    found = answer(claims(pairs=pair(first, {"draws": 50})), group(around("a", curve=CURVE), around("b")))
    assert (found.first.value, found.first.at) == (pytest.approx(value), at)
    assert np.mean(found.first.without or ()) == pytest.approx(value)
    # A deterministic model's number is that of any number of draws.
    assert (found.second.value, found.second.at) == (pytest.approx(0.2), "")


def test_of_several_results_the_one_of_the_most_draws_and_then_the_first_is_taken() -> None:
    few, many = around("a", curve=CURVE), around("a", curve={2: 0.28, 50: 0.15})
    again = around("a", curve={2: 0.9, 50: 0.9}, seed=1)
    known = group(few, many, again, around("b"))
    paths = [Path("a-00000000.json"), Path("a.json"), Path("a-11111111.json"), Path("b.json")]
    entries = [Entry(path, entry.record, None) for path, entry in zip(paths, known.entries, strict=True)]
    known = Group(known.suite, known.dataset, entries)
    for asked, value in (({}, 0.15), ({"draws": 2}, 0.28), ({"draws": 5}, 0.2)):
        assert answer(claims(pairs=pair(asked, {})), known).first.value == pytest.approx(value)


# --- several trainings ------------------------------------------------------------------------------------------


def trained(spec: str, *values: float, first: int = 0, members: int = 1) -> list[dict[str, Any]]:
    """Records of a model's trainings from number `first` on, of so many members, each with a value of mean_error."""

    def one(number: int, value: float) -> dict[str, Any]:
        seeds = range(number * members, (number + 1) * members)
        model = {"weights_checksum": f"sha256:{number:064}", "training": [training(seed) for seed in seeds]}
        return around(spec, value, model=model)

    return [one(number, value) for number, value in enumerate(values, first)]


def training(seed: int) -> dict[str, Any]:
    """How a member of a model was trained."""
    versions = {"stressbench": "0.2.0", "torch": "2.9.0"}
    return {
        "spec": "a", "seed": seed, "dataset": "squares", "split": "train", "fingerprint": "sha256:" + "a" * 64,
        "validation": 0, "recipe": "short", "epochs": 16, "settings": {}, "precision": "float32",
        "measured_on": "test", "metrics": {}, "seconds": 1.0, "device": "cpu", "device_name": "x", "versions": versions,
    }  # fmt: skip


def test_the_interval_of_several_trainings_is_over_images_and_trainings() -> None:
    known = group(*trained("a", 0.20, 0.22, 0.21), *trained("b", 0.10, 0.16, 0.13))
    found = answer(claims(), known)
    differences = [-0.10, -0.06, -0.08]
    assert found.values == pytest.approx((0.21, 0.13))
    assert found.differences == pytest.approx(differences)
    # Both jackknives move by 0.03 in t units, in different patterns, and alike for all trainings.
    images = (hypot(0.03, 0.03) / scipy.stats.t.ppf(0.975, 19)) ** 2
    between = np.var(differences, ddof=1) / 3
    freedom = (images + between) ** 2 / (images**2 / 19 + between**2 / 2)
    half = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(images + between)
    assert found.interval == pytest.approx((-0.08 - half, -0.08 + half))
    (line,) = claimed(render(claims(), [known]))
    assert line["by training"] == "0: -10.00 pp, 1: -6.00 pp, 2: -8.00 pp"
    assert line["interval over"] == "1,000 images, 3 trainings"
    assert line["ours"] == "21.0 % → 13.0 %"
    assert line["first → second"].count("](") == 6


def test_a_side_may_be_what_a_change_of_the_model_brings() -> None:
    wanted = claims(pairs=pair({"minus": "c"}, {"minus": "d"}))
    records = [*trained("a", 0.20, 0.22), *trained("c", 0.15, 0.20), *trained("b", 0.40, 0.43), *trained("d", 0.1, 0.2)]
    found = answer(wanted, group(*records))
    assert found.values == pytest.approx((0.035, 0.265))
    assert found.differences == pytest.approx([0.25, 0.21])
    assert "a − c" in claimed(render(wanted, [group(*records)]))[0]["first → second"]
    # The jackknives of a and d, b and c cancel or not by their patterns; that of all four is what the interval is from.
    without = [np.array(one["jackknife"]["mean_error"]["1"]) for one in records]
    means = [(without[i] + without[i + 1]) / 2 for i in (0, 2, 4, 6)]
    images = np.var(means[2] - means[3] - means[0] + means[1]) * 19
    between = np.var([0.25, 0.21], ddof=1) / 2
    assert found.interval is not None
    half = found.interval[1] - 0.23
    freedom = (images + between) ** 2 / (images**2 / 19 + between**2)
    assert half == pytest.approx(scipy.stats.t.ppf(0.975, freedom) * np.sqrt(images + between))
    found = answer(wanted, group(*records[:4]))
    assert found.reason == "no record of b; no record of d to compare with a − c"


def test_only_trainings_that_both_models_have_are_pairs() -> None:
    known = group(*trained("a", 0.2, 0.3), *trained("b", 0.1, 0.5, first=1))
    assert answer(claims(), known).differences == pytest.approx([0.1 - 0.3])
    # An ensemble's training 0 has the seeds 0, 1, 2; training 1 has 3, 4, 5.
    known = group(*trained("a", 0.2, 0.3), *trained("b", 0.1, 0.15, members=3))
    assert answer(claims(), known).differences == pytest.approx([-0.1, -0.15])
    # Weights that came from elsewhere are of no numbered training: one of each model, over images alone.
    known = group(*trained("a", 0.2, 0.3), around("b", 0.1))
    found = answer(claims(), known)
    assert found.differences == pytest.approx([-0.1])
    assert found.interval == pytest.approx((-0.1 - hypot(0.03, 0.03), -0.1 + hypot(0.03, 0.03)))


def test_a_training_without_the_number_leaves_the_claim_untested() -> None:
    known = group(*trained("a", 0.2, 0.3), trained("b", 0.1)[0], fields("b", 0.1, model=trained("b", 0, 0)[1]["model"]))
    found = answer(claims(), known)
    assert (found.verdict, found.reason) == ("not tested", "no interval in the record of b")
    assert found.difference == pytest.approx(-0.15)


def test_the_extreme_of_several_trainings_is_the_mean_of_theirs() -> None:
    models = [one["model"] for one in trained("a", 0, 0)]
    errors = ((0.2, 0.2, 0.25, 0.3, 0.4), (0.2, 0.2, 0.25, 0.3, 0.6))
    known = group(*(foggy(each, model=model) for each, model in zip(errors, models, strict=True)))
    found = answer(claims("extremes"), known)
    assert found.values == pytest.approx((0.3, 0.5))
    assert found.differences == pytest.approx([0.1, 0.3])


def test_the_report_opens_with_a_row_for_each_question() -> None:
    pairs = [*pair({}, {}), *pair({"model": "b"}, {"model": "a"})]
    page = render(claims(pairs=pairs), [group(around("a", 0.2, 0.03), around("b", 0.1, 0.04))])
    header, _, row = parsed(page)[0]
    assert page.index("| claim") < page.index("Made from")
    assert dict(zip(header, row, strict=True)) == {
        "claim": "Is b better than a? (mean\\_error)",
        "paper": "–",
        "ours": "20.0 % → 10.0 %",
        "difference": "-10.00 pp [-15.00, -5.00]",
        "interval over": "1,000 images, one training",
        "verdict": "**agrees**",
        "all its tests": "1 agrees, 1 disagrees",
    }


# --- what is not tested ---------------------------------------------------------------------------------------


def test_what_is_not_tested_says_why() -> None:
    a, b = around("a"), around("b")
    stranger = around("a", model={"distribution": "elsewhere"})
    asked = claims(pairs=pair({"draws": 50}, {}))
    cases = [
        ([], claims(), "no record of a; no record of b"),
        ([group(around("c"))], claims(), "no record of a; no record of b"),
        ([group(a)], claims(), "no record of b to compare with a"),
        ([group(a), group(b)], claims(), "no record of b to compare with a"),
        ([group(around("a", curve=CURVE), b)], asked, "the record of a has no mean_error at 50 draws (most is 5)"),
        ([group(a, b)], claims(metrics=["mCE"], pairs=pair({}, {})),
         "the record of a has no mCE; the record of b has no mCE"),
        ([group(fields("a"), b)], claims(), "no interval in the record of a"),
        ([group(fields("a"), fields("b"))], claims(), "no interval in the record of a and b"),
        ([group(a, stranger, b)], claims(), "several distributions have records of a to compare with b"),
    ]  # fmt: skip
    for known, wanted, reason in cases:
        found = answer(wanted, *known)
        assert (found.verdict, found.reason) == ("not tested", reason)


def test_what_is_known_is_shown_though_it_is_not_tested() -> None:
    rows = claimed(render(claims(), [group(fields("a"), around("b", 0.1))]))
    assert (rows[0]["ours"], rows[0]["difference"]) == ("20.0 % → 10.0 %", "-10.00 pp")
    rows = claimed(render(claims(), [group(around("b", 0.1))]))
    assert (rows[0]["ours"], rows[0]["difference"]) == ("– → 10.0 %", "–")


def test_both_sides_are_of_one_group_that_of_the_most_images_that_has_both() -> None:
    large = [around(name, error, dataset={"n": 2000}) for name, error in (("a", 0.5), ("b", 0.4))]
    small = [around(name, error, dataset={"n": 100}) for name, error in (("a", 0.3), ("b", 0.1))]
    assert answer(claims(), group(*large), group(*small)).difference == pytest.approx(-0.1)
    assert answer(claims(), group(large[0]), group(*small)).difference == pytest.approx(-0.2)
    wanted = claims(pairs=pair({"draws": 2}, {}))
    curve = around("a", curve=CURVE, dataset={"n": 100})
    no_curve = around("a", curve={5: 0.2}, dataset={"n": 2000})
    assert answer(wanted, group(no_curve, large[1]), group(curve, small[1])).first.value == pytest.approx(0.3)


def test_another_suite_and_another_dataset_do_not_answer() -> None:
    known = group(around("a"), around("b"))
    assert answer(claims(), Group(known.suite, "squares-altered", known.entries)).first.entry is None
    named = [around(name, suite={"distribution": "elsewhere"}) for name in ("a", "b")]
    assert answer(claims(), group(*named)).first.entry is None


def test_a_claim_may_name_its_own_dataset_and_task() -> None:
    known = group(around("a"), around("b", 0.1))
    streets = Group(known.suite, "streets", group(around("a", 0.4), around("b", 0.5)).entries)
    wanted = claims(dataset="streets")
    assert (answer(wanted, known, streets).difference, answer(claims(), known, streets).difference) == pytest.approx(
        (0.1, -0.1)
    )
    page = render(wanted, [known, streets])
    assert "The dataset is squares (no record of it is used yet)." in page
    assert "The paper's numbers: somebody, table 1. Ours: streets." in page
    pixels = {"suite": "corruption", "metrics": ["mean_miou"], "pairs": pair({}, {})}
    assert answer(claims(task="segmentation", **pixels)).verdict == "not tested"
    with pytest.raises(UserError, match="mean_miou"):
        answer(claims(**pixels))


def test_a_doubtful_record_is_pointed_out() -> None:
    doubtful = around("b", 0.1, findings=[{"check": "masking", "message": "x"}] * 2)
    (line,) = claimed(render(claims(), [group(around("a"), doubtful)]))
    assert line["verdict"] == "agrees; audit: masking"


# --- conditions -----------------------------------------------------------------------------------------------


def foggy(errors: Sequence[float | None], **changes: Any) -> dict[str, Any]:
    """A record of 1,000 images with these errors under fog of severity 1 … 5 and 0.9 under all else."""
    made = around("a", **changes)
    for row in made["conditions"]:
        fog = row["condition"]["corruption"] == "fog"
        row["metrics"]["error"] = errors[row["condition"]["severity"] - 1] if fog else 0.9
    return made


@pytest.mark.parametrize(
    ("errors", "changes", "worst", "verdict"),
    [
        ((0.2, 0.2, 0.25, 0.3, 0.4), {}, (0.3, 0.4), "agrees"),
        ((0.2, 0.2, 0.5, 0.3, 0.4), {}, (0.5, 0.4), "disagrees"),
        ((0.2, 0.2, 0.25, 0.39, 0.4), {}, (0.39, 0.4), "undecided"),
        ((0.2, 0.2, 0.5, 0.3, 0.4), {"against": [1, 2]}, (0.2, 0.4), "agrees"),
        ((0.2, 0.2, 0.5, 0.3, 0.4), {"inside": [3, 5]}, (0.2, 0.5), "agrees"),
        ((0.2, 0.2, 0.5, 0.3, 0.4), {"inside": [1, 2], "expect": "lower"}, (0.3, 0.2), "agrees"),
        ((0.2, 0.2, 0.5, 0.3, 0.4), {"inside": [1, 3], "against": [3, 5], "expect": "lower"}, (0.3, 0.2), "agrees"),
    ],
)
def test_the_worst_inside_is_held_against_the_worst_of_the_others(
    errors: Sequence[float], changes: Mapping[str, Any], worst: tuple[float, float], verdict: str
) -> None:
    found = answer(claims("extremes", **changes), group(foggy(errors)))
    assert (found.first.value, found.second.value) == worst
    assert found.verdict == verdict
    halves = []
    for value in worst:
        ends = binomtest(round(1000 * value), 1000).proportion_ci(0.95, method="wilson")
        halves.append(max(value - ends.low, ends.high - value))
    half = hypot(*halves)
    assert found.interval == pytest.approx((worst[1] - worst[0] - half, worst[1] - worst[0] + half))


def test_a_row_names_both_conditions() -> None:
    (line,) = claimed(render(claims("extremes"), [group(foggy((0.2, 0.2, 0.25, 0.3, 0.4)))]))
    link = "[a](records/squares/corruption/a.json)"
    assert line["first → second"] == f"{link} under fog, severity 4 → {link} under fog, severity 5"
    assert (line["ours"], line["expected"], line["paper"]) == ("30.0 % → 40.0 %", "> 0", "the strongest")


@pytest.mark.parametrize(
    ("errors", "changes", "reason"),
    [
        ((0.2, None, 0.2, 0.2, 0.4), {}, "the record of a has not all of the claim's conditions with error"),
        ((0.2,) * 5, {"inside": [6, 7]}, "the record of a has not all of the claim's conditions with error"),
        ((0.2,) * 5, {"field": "corruption"}, "the record of a has not all of the claim's conditions with error"),
        ((0.2,) * 5, {"where": {"corruption": "rain"}}, "the record of a has not all of the claim's conditions"),
        ((0.2,) * 5, {"models": ["b"]}, "no record of b"),
        ((0.2, 0.2, 0.2, 0.2, 0.1234567), {}, "no interval in the record of a"),  # no share of 1,000 images
    ],
)
def test_conditions_that_are_not_there_are_not_tested(
    errors: Sequence[float | None], changes: Mapping[str, Any], reason: str
) -> None:
    found = answer(claims("extremes", **changes), group(foggy(errors)))
    assert found.verdict == "not tested"
    assert found.reason.startswith(reason)


@given(st.integers(1, 20000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_scipys(count: tuple[int, int]) -> None:
    k, n = count
    ends = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert share_interval(k / n, n) == pytest.approx((ends.low, ends.high), abs=1e-12)


@pytest.mark.parametrize("value", [0.1234, -0.01, 1.01, 2.0])
def test_what_is_no_share_of_the_images_has_no_interval(value: float) -> None:
    assert share_interval(value, 100) is None


# --- the page -------------------------------------------------------------------------------------------------


def test_the_page_says_what_it_is_made_from() -> None:
    page = render(claims(), [group(around("a"), around("b", 0.1, model={"weights_source": "trained here, seed 3"}))])
    assert page.startswith("# Replication report\n")
    assert "The dataset is squares (1,000 test images)." in page
    assert "Tests: 1. 1 agrees." in page
    assert "About it." in page
    assert "## Is b better than a?\n\nThe paper's numbers: somebody, table 1." in page
    assert re.search(r"\| b +\| trained here, seed 3 +\| +bbbbbbbb +\| corruption", page)
    empty = render(claims(), [])
    assert "no record of it is used yet" in empty
    assert "## The models" not in empty


HOSTILE = ["<script>alert(1)</script>", "a|b", "[x](javascript:alert(1))", "a\n# b", "`x`", "*a*", "&amp;"]


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_claims_and_records_stays_text(text: str) -> None:
    a = around(text, findings=[{"check": text, "message": "x"}], model={"weights_source": text}, pattern=0)
    wanted = claims(
        question=text, source=text, pairs=[{**pair({"model": "a"}, {})[0], "paper": {"mean_error": text}}]
    ).model_copy(update={"dataset": text, "about": text})
    side = wanted.comparisons[0].pairs[0].first.model_copy(update={"model": text})
    of_pair = wanted.comparisons[0].pairs[0].model_copy(update={"first": side})
    wanted = wanted.model_copy(update={"comparisons": [wanted.comparisons[0].model_copy(update={"pairs": [of_pair]})]})
    known = group(a, around("b", 0.1, pattern=1))
    page = render(wanted, [Group(known.suite, text, known.entries)])
    (row,) = claimed(page)
    assert row["verdict"].startswith("agrees; audit: ")
    assert "<script" not in page
    assert not re.search(r"(?<!\\)\]\(javascript", page)
    assert "\n# b" not in page
    assert "*a*" not in page.replace("\\*a\\*", "")
    assert "`x`" not in page
    assert "&amp;" not in page.replace("&amp;amp;", "")
