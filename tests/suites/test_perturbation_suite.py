"""The perturbation suite's numbers against plain loops, SciPy's ranks and cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from stressbench import randomness
from stressbench.contracts import Batch, Classification, Condition, Dataset, InMemory, Metrics
from stressbench.errors import UserError
from stressbench.sampling import Unjudged
from stressbench_suites.perturbation.engine import PERTURBATIONS, perturb
from stressbench_suites.perturbation.suite import PerturbationSuite

TRANSLATE: Condition = {"perturbation": "translate"}
NOISE: Condition = {"perturbation": "shot_noise"}
ALL = [{"perturbation": perturbation} for perturbation in PERTURBATIONS]
NAMES = ("consistency", "cec", "cec_paper", "flip_probability", "top5_distance", "relative_confidence", "error")
# Those that compare frames.
STEPS = ("consistency", "cec", "cec_paper", "flip_probability", "top5_distance")


def batch(labels: list[int]) -> Batch:
    n = len(labels)
    return Batch(
        images=torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)).mul(255).floor().div(255),
        targets=torch.tensor(labels),
        indices=torch.arange(n),
        keys=randomness.image_keys(randomness.derive(0), torch.arange(n)),
    )


def observed(log_probs: torch.Tensor, labels: list[int], condition: Condition = TRANSLATE) -> dict[str, np.ndarray]:
    """The columns of log-probabilities (S, N, T, C)."""
    columns = PerturbationSuite().observe(condition, batch(labels), log_probs)
    assert {len(column) for column in columns.values()} == {len(labels)}
    return {name: column.numpy() for name, column in columns.items()}


def of_probabilities(p: list[list[float]], label: int, condition: Condition = TRANSLATE) -> dict[str, float]:
    """The columns of one sequence with these probabilities (T, C)."""
    columns = observed(torch.tensor(p, dtype=torch.float64).log().float()[None, None], [label], condition)
    return {name: float(column[0]) for name, column in columns.items()}


def scored(columns: dict[str, np.ndarray]) -> Metrics:
    return PerturbationSuite().score([TRANSLATE], [pd.DataFrame(columns)])[0]


def random_log_probs(seed: int, draws: int, n: int, frames: int, classes: int, scale: float = 3.0) -> torch.Tensor:
    """Half-way between smooth sequences and noise; multiples of 1/4 before the softmax, so that ties are common."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(1, n, 1, classes, generator=generator)
    logits = (scale * (base + 0.5 * torch.randn(draws, n, frames, classes, generator=generator))).mul(4).round() / 4
    return logits.log_softmax(-1)


# --- hand-worked sequences ------------------------------------------------------------------------------------


def test_three_frames_by_hand() -> None:
    p = [[0.6, 0.3, 0.1], [0.3, 0.5, 0.2], [0.2, 0.7, 0.1]]
    row = of_probabilities(p, label=1)
    assert row["consistency"] == 0.5
    assert row["flip_probability"] == 0.5
    first = -(0.3 * math.log(0.6) + 0.5 * math.log(0.3) + 0.2 * math.log(0.1))
    second = -(0.2 * math.log(0.3) + 0.7 * math.log(0.5) + 0.1 * math.log(0.2))
    assert row["cec"] == pytest.approx((first + second) / 2)
    assert row["cec_paper"] == pytest.approx((first + second) / 6)
    assert row["relative_confidence"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert [row[f"relative_confidence_{t}"] for t in range(3)] == pytest.approx([0.5, 1, 1])
    assert row["error"] == pytest.approx(1 / 3)
    assert math.isnan(row["top5_distance"])


def test_noise_is_compared_with_frame_0_but_for_consistency() -> None:
    """Of the predictions 0 1 1 1 three differ from the first, and one from the one before."""
    a, b = [0.9, 0.1], [0.1, 0.9]
    row = of_probabilities([a, b, b, b], 0, NOISE)
    assert row["flip_probability"] == 1
    assert row["consistency"] == pytest.approx(2 / 3)
    row = of_probabilities([a, b, b, b], 0, TRANSLATE)
    assert row["flip_probability"] == pytest.approx(1 / 3)
    assert row["consistency"] == pytest.approx(2 / 3)
    # CEC compares neighbours under noise too.
    steps = [math.log(0.9) * 0.1 + math.log(0.1) * 0.9, *[math.log(0.9) * 0.9 + math.log(0.1) * 0.1] * 2]
    assert of_probabilities([a, b, b, b], 0, NOISE)["cec"] == pytest.approx(-sum(steps) / 3)


def test_top5_distance_by_hand() -> None:
    """Ranks move by one when two neighbours swap, and a class that falls out of the five is at place 5."""
    start = [0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]
    swapped = [start[i] for i in (1, 0, 2, 3, 4, 5, 6)]
    assert of_probabilities([start, swapped], 0)["top5_distance"] == 2
    last_out = [start[i] for i in (0, 1, 2, 3, 5, 4, 6)]
    assert of_probabilities([start, last_out], 0)["top5_distance"] == 1
    below = [start[i] for i in (0, 1, 2, 3, 4, 6, 5)]
    assert of_probabilities([start, below], 0)["top5_distance"] == 0
    # All five out: 5 + 4 + 3 + 2 + 1.
    other = [*[0.01] * 5, *[0.19] * 5]
    assert of_probabilities([[0.19 - 0.001 * i for i in range(5)] + [0.011] * 5, other], 0)["top5_distance"] == 15
    # Under noise the third frame is held against the first: both frames are one swap away from it.
    assert of_probabilities([start, swapped, swapped], 0, NOISE)["top5_distance"] == 2
    assert of_probabilities([start, swapped, swapped], 0, TRANSLATE)["top5_distance"] == 1


def test_ties_go_to_the_lower_class() -> None:
    even = [0.125] * 8
    row = of_probabilities([even, even, even], 3)
    assert (row["consistency"], row["flip_probability"], row["top5_distance"]) == (1, 0, 0)
    assert row["relative_confidence"] == 1
    assert row["error"] == 1
    assert row["cec"] == pytest.approx(math.log(8))
    # With class 7 a little ahead, all others are a place further down: 5 classes by 1, in order.
    ahead = [0.12] * 7 + [0.16]
    assert of_probabilities([even, ahead], 0)["top5_distance"] == 5
    assert of_probabilities([even, ahead], 0)["flip_probability"] == 1


@pytest.mark.parametrize("condition", [TRANSLATE, NOISE])
def test_all_right_and_all_wrong(condition: Condition) -> None:
    log_probs = torch.full((1, 2, 16, 10), -1e3).index_fill(-1, torch.tensor([4]), 1e3).log_softmax(-1)
    columns = observed(log_probs, [4, 5], condition)
    row = scored(columns)
    assert columns["error"].tolist() == [0, 1]
    assert columns["relative_confidence"].tolist() == [1, 0]
    assert (row["consistency"], row["flip_probability"], row["top5_distance"]) == (1, 0, 0)
    assert row["cec"] == pytest.approx(0, abs=1e-6)


def test_a_certain_change_of_mind_has_a_large_finite_cec() -> None:
    logits = torch.zeros(1, 1, 2, 10)
    logits[..., 0, 0] = logits[..., 1, 1] = 500
    row = observed(logits.log_softmax(-1), [0])
    assert row["cec"][0] == pytest.approx(500)
    assert np.isfinite(row["cec"]).all()


def test_one_frame_has_no_steps() -> None:
    columns = observed(random_log_probs(0, 2, 5, 1, 10), [0, 1, 2, 3, 4])
    row = scored(columns)
    assert {name for name, value in row.items() if value is None} == set(STEPS)
    assert 0 < row["relative_confidence"] <= 1  # type: ignore[operator]
    assert 0 <= row["error"] <= 1  # type: ignore[operator]


def test_fewer_than_five_classes_have_no_top5() -> None:
    row = scored(observed(random_log_probs(0, 1, 6, 16, 4), [0, 1, 2, 3, 0, 1]))
    assert [name for name, value in row.items() if value is None] == ["top5_distance"]
    assert scored(observed(random_log_probs(0, 1, 6, 16, 5), [0, 1, 2, 3, 4, 1]))["top5_distance"] is not None


# --- plain loops ----------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 10_000),
    draws=st.integers(1, 3),
    frames=st.integers(2, 6),
    classes=st.integers(5, 12),
    noise=st.booleans(),
)
def test_columns_are_those_of_plain_loops(seed: int, draws: int, frames: int, classes: int, noise: bool) -> None:
    n = 4
    log_probs = random_log_probs(seed, draws, n, frames, classes)
    labels = np.random.default_rng(seed).integers(0, classes, n).tolist()
    columns = observed(log_probs, labels, NOISE if noise else TRANSLATE)
    # Frames of one draw with equal logits tie; those of several draws need not, so ranks come from the same numbers.
    mean = (log_probs.logsumexp(0) - math.log(draws)).clamp(max=0).numpy()
    p = log_probs.double().exp().mean(0).numpy()
    for i in range(n):
        ranks = [rankdata(-frame, method="ordinal").astype(int) - 1 for frame in mean[i]]
        flips, distances, cec, agree = [], [], [], []
        for t in range(1, frames):
            earlier = 0 if noise else t - 1
            winner, before = (int(np.flatnonzero(ranks[k] == 0)[0]) for k in (t, t - 1))
            flips.append(winner != int(np.flatnonzero(ranks[earlier] == 0)[0]))
            agree.append(winner == before)
            distance = 0
            for c in range(classes):
                if ranks[earlier][c] < 5:
                    distance += abs(min(ranks[earlier][c], 5) - min(ranks[t][c], 5))
            distances.append(distance)
            cec.append(-sum(p[i, t, c] * math.log(p[i, t - 1, c]) for c in range(classes)))
        assert columns["flip_probability"][i] == pytest.approx(np.mean(flips))
        assert columns["consistency"][i] == pytest.approx(np.mean(agree))
        assert columns["top5_distance"][i] == pytest.approx(np.mean(distances))
        assert columns["cec"][i] == pytest.approx(np.mean(cec), rel=1e-4)
        assert columns["cec_paper"][i] == pytest.approx(np.mean(cec) / classes, rel=1e-4)
        relative = [p[i, t, labels[i]] / p[i, t].max() for t in range(frames)]
        assert [columns[f"relative_confidence_{t}"][i] for t in range(frames)] == pytest.approx(relative, rel=1e-4)
        assert columns["relative_confidence"][i] == pytest.approx(np.mean(relative), rel=1e-4)
        wrong = [np.flatnonzero(rank == 0)[0] != labels[i] for rank in ranks]
        assert columns["error"][i] == pytest.approx(np.mean(wrong))


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 12), frames=st.integers(2, 8))
def test_bounds_and_the_same_whatever_the_classes_are_called(seed: int, classes: int, frames: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    log_probs = (4 * torch.randn(2, 3, frames, classes, generator=generator)).log_softmax(-1)
    labels = [0, classes - 1, 1]
    columns = observed(log_probs, labels, NOISE if seed % 2 else TRANSLATE)
    for name in ("consistency", "flip_probability", "relative_confidence", "error"):
        assert ((columns[name] >= 0) & (columns[name] <= 1)).all()
    assert (columns["cec"] >= 0).all()
    assert (columns["relative_confidence"][columns["error"] == 0] == 1).all()
    if seed % 2 == 0:
        np.testing.assert_allclose(columns["consistency"], 1 - columns["flip_probability"], atol=1e-6)
    order = torch.randperm(classes, generator=generator)
    renamed = observed(log_probs[..., order], order.argsort()[labels].tolist(), NOISE if seed % 2 else TRANSLATE)
    for name, column in columns.items():
        np.testing.assert_allclose(renamed[name], column, rtol=1e-4, atol=1e-6)


def test_a_row_is_the_mean_over_sequences() -> None:
    labels = [i % 10 for i in range(50)]
    columns = observed(random_log_probs(1, 2, 50, 16, 10), labels)
    assert scored(columns) == {name: pytest.approx(np.float64(columns[name]).mean()) for name in NAMES}


# --- the suite ------------------------------------------------------------------------------------------------


def test_ten_conditions_in_the_published_order() -> None:
    assert PerturbationSuite().conditions() == ALL
    assert [c["perturbation"] for c in PerturbationSuite(("rotate", "shot_noise", "rotate")).conditions()] == [
        "shot_noise",
        "rotate",
    ]


@pytest.mark.parametrize(
    ("perturbations", "words"),
    [(("rotation",), "no perturbation 'rotation': did you mean 'rotate'"), ((), "name at least one")],
)
def test_wrong_options_are_refused(perturbations: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        PerturbationSuite(perturbations)


def test_it_presents_the_engines_frames() -> None:
    b = batch([0, 1, 2])
    stressed = PerturbationSuite().stress({"perturbation": "rotate"}, b, Unjudged(torch.nn.Identity()))
    assert torch.equal(stressed.images, perturb(b.images, "rotate", b.keys))
    assert not stressed.columns


def made_up(seed: int) -> list[Metrics]:
    values = np.random.default_rng(seed).uniform(0, 1, (10, 7)).tolist()
    return [dict(zip(NAMES, row, strict=True)) for row in values]


def test_the_records_metrics_are_means_over_the_ten_types() -> None:
    rows = made_up(0)
    frame = pd.DataFrame(rows)
    assert PerturbationSuite().aggregate(ALL, rows) == {
        "consistency": pytest.approx(frame["consistency"].mean()),
        "mFP": pytest.approx(frame["flip_probability"].mean()),
        "mT5D": pytest.approx(frame["top5_distance"].mean()),
        "cec": pytest.approx(frame["cec"].mean()),
        "cec_paper": pytest.approx(frame["cec_paper"].mean()),
        "relative_confidence": pytest.approx(frame["relative_confidence"].mean()),
        "error": pytest.approx(frame["error"].mean()),
    }
    assert list(PerturbationSuite().aggregate(ALL, rows)) == [m.name for m in PerturbationSuite.metrics]


@pytest.mark.parametrize("left_out", [0, 4, 9])
def test_a_missing_type_is_never_a_partial_mean(left_out: int) -> None:
    conditions, rows = list(ALL), made_up(0)
    del conditions[left_out], rows[left_out]
    assert set(PerturbationSuite().aggregate(conditions, rows).values()) == {None}


def test_an_unknown_number_leaves_its_mean_unknown() -> None:
    rows = made_up(0)
    rows[3]["top5_distance"] = None
    ours = PerturbationSuite().aggregate(ALL, rows)
    assert [name for name, value in ours.items() if value is None] == ["mT5D"]


@pytest.mark.parametrize(("height", "width", "says"), [(32, 32, None), (64, 64, "64×64"), (32, 48, "32×48")])
def test_other_sizes_are_not_supported(height: int, width: int, says: str | None) -> None:
    images = InMemory(torch.zeros(2, 3, height, width, dtype=torch.uint8))
    data = Dataset("mine", "test", Classification(10), images, InMemory(torch.zeros(2).long()), (height, width))
    found = PerturbationSuite().unsupported(data)
    assert (found is None) == (says is None)
    assert says is None or says in str(found)
