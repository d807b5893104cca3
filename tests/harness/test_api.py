"""The Python API: a network in a notebook, without a plugin, a file or a command line."""

from __future__ import annotations

import functools
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import stressbench
from harness.notebook import LIMIT, run
from stressbench import (
    Batch,
    Condition,
    Metric,
    Part,
    Predictor,
    Record,
    Stressed,
    StressSuite,
    UserError,
    contracts,
    randomness,
    registry,
)
from stressbench.cli import main
from stressbench.cli.run import run as run_command
from stressbench.metrics import log_mean_probability
from stressbench_plugins.ensemble import Ensemble
from stressbench_suites.corruption.engine import corrupt
from tiny_models import Dropped, Tiny, Untrained


class Net(nn.Module):
    """A network of somebody's own, with weights of a seed."""

    def __init__(self, seed: int = 0, classes: int = 10) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.head = nn.Linear(8 * 16, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.adaptive_avg_pool2d(self.body(images - 0.5).relu(), 4)
        logits: Tensor = 20 * self.head(maps.flatten(1))
        return logits


class Dusk(StressSuite):
    name = "dusk-of-a-notebook"
    version = "1"
    metrics = (Metric("mean_error", "fraction", "lower"),)
    row_metrics = (Metric("error", "fraction", "lower"),)

    def __init__(self, factors: tuple[float, ...] = (0.5, 0.25)) -> None:
        self.factors = factors

    def conditions(self) -> list[Condition]:
        return [{"factor": factor} for factor in self.factors]

    def stress(self, condition: Condition, batch: Batch, model: Predictor) -> Stressed:
        return Stressed(batch.images * float(condition["factor"]))

    def observe(self, condition: Condition, batch: Batch, predictions: Tensor) -> dict[str, Tensor]:
        return {"error": log_mean_probability(predictions).argmax(-1) != batch.targets}


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, stressbench; assert 'run' in dir(stressbench); print(sorted({'torch', 'pandas', 'numpy', 'click', "
        "'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_others_are_not() -> None:
    for name in stressbench.__all__:
        assert getattr(stressbench, name) is not None
    assert set(contracts.__all__) - {"TASKS", "traits"} <= set(stressbench.__all__)
    assert stressbench.errors.UserError is stressbench.UserError
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        _ = stressbench.runn


def test_a_network_gets_a_record_of_what_it_computes() -> None:
    net = Net().train()
    record = run(net)
    data = registry.dataset("digits", "test")
    images = data.images.read(0, LIMIT).float() / 255
    wrong = {}
    with torch.no_grad():
        for condition in ({"corruption": "none", "severity": 0}, {"corruption": "fog", "severity": 3}):
            keys = randomness.image_keys(randomness.derive(0, condition), torch.arange(LIMIT))
            seen = images if condition["severity"] == 0 else corrupt(images, "fog", 3, keys)
            wrong[condition["corruption"]] = float((net(seen).argmax(1) != data.labels[:LIMIT]).double().mean())
    frame = record.to_frame()
    assert dict(zip(frame["corruption"], frame["error"], strict=True)) == pytest.approx(wrong)
    assert list(frame.columns[:3]) == ["corruption", "severity", "n"]
    assert record.metrics["clean_error"] == pytest.approx(wrong["none"])
    assert (record.model.spec, record.model.distribution) == ("Net", __name__.partition(".")[0])
    assert record.model.weights_source == "as given in Python"


def test_a_prompt_shows_the_metrics_of_a_record() -> None:
    record = run(Net())
    assert repr(record).startswith("Record(model='Net', suite='corruption', dataset='digits', n=30, draws=1, metrics={")
    assert len(repr(record)) < 400
    assert f"'clean_error': {record.metrics['clean_error']:.4g}" in repr(record)


def test_networks_are_an_ensemble() -> None:
    nets = [Net(seed) for seed in range(2)]
    record = run(Ensemble([Part("net", seed, net) for seed, net in enumerate(nets)]), draws=2)
    assert (record.model.spec, record.draws, record.model.weights_source) == ("Ensemble", 2, "as given in Python")
    images = registry.dataset("digits", "test").images.read(0, LIMIT).float() / 255
    with torch.no_grad():
        mean = torch.stack([net(images).softmax(1) for net in nets]).mean(0)
    labels = registry.dataset("digits", "test").labels[:LIMIT]
    nll = -mean.gather(1, labels[:, None]).log().mean()
    assert record.metrics["clean_nll"] == pytest.approx(float(nll), rel=1e-5)


def test_the_network_stays_as_it_was() -> None:
    net = Net().train()
    net.body.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run(net)
    assert net.training
    assert not net.body.training
    assert not net._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.body.weight.is_contiguous()


def test_it_is_recorded_by_name_and_weights_and_never_by_address() -> None:
    one, two = run(Net(0)), run(Net(0))
    assert one.model == two.model
    assert one.metrics == two.metrics
    assert run(Net(1)).model.weights_checksum != one.model.weights_checksum
    assert run(Net(), name="my-net").model.spec == "my-net"
    assert "0x" not in one.to_json()


def test_another_forward_of_the_same_weights_is_not_taken_for_the_first(tmp_path: Path) -> None:
    class Reversed(Net):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).flip(1)

    first = run(Net(), name="net", out=tmp_path)
    second = run(Reversed(), name="net", out=tmp_path)
    assert first.model.weights_checksum == second.model.weights_checksum
    assert first.metrics != second.metrics


def test_a_callable_of_a_dataset_is_built_for_it() -> None:
    record = run(functools.partial(Tiny, width=4))
    assert record.model.spec == "Tiny"
    assert record.metrics == run("tiny,width=4").metrics
    with pytest.raises(UserError, match="Untrained is untrained: give files with weights="):
        run(Untrained)


def test_files_of_weights_fit_a_callable_and_a_network(tmp_path: Path) -> None:
    trained = Untrained(registry.dataset("digits", "test"))
    with torch.no_grad():
        for weight in trained.parameters():
            weight.mul_(3)
    save_file(trained.state_dict(), tmp_path / "net.safetensors")
    expected = run(trained).metrics
    for model in (Untrained, Untrained(registry.dataset("digits", "test"))):
        record = run(model, weights=tmp_path / "net.safetensors")
        assert record.metrics == expected
        assert record.model.weights_source == "file net.safetensors"


def test_an_own_network_that_calls_itself_untrained_has_its_own_weights() -> None:
    net = Untrained(registry.dataset("digits", "test"))
    assert run(net).model.weights_source == "as given in Python"


def test_a_stochastic_network_has_draws() -> None:
    net = Dropped(registry.dataset("digits", "test"))
    assert run(net).draws == 3
    assert sorted(run(net, sizes=(1, 2)).curves["clean_nll"]) == ["1", "2"]


def test_a_name_has_the_record_of_the_command_line(tmp_path: Path) -> None:
    words = ["--model", "tiny", "--limit", str(LIMIT), "--corruptions", "fog", "--severities", "3"]
    with pytest.raises(SystemExit):
        main(["run", *words, "--out", str(tmp_path)])
    (folder,) = (file.parent for file in tmp_path.glob("*/record.json"))
    theirs = stressbench.load(folder)
    ours = run("tiny", out=tmp_path)
    assert ours == theirs
    assert ours.folder == folder
    assert run("tiny").metrics == theirs.metrics
    assert run(lambda dataset: Tiny(dataset), name="lambda").metrics == theirs.metrics


def test_the_words_are_those_of_the_command_line() -> None:
    words = {option.name for option in run_command.params}
    ours = set(inspect.signature(stressbench.run).parameters)
    spread = {
        "executor",
        "workers",
        "address",
        "shard",
        "timeout",
    }  # over processes, which rebuild a model from its name
    printed = {"as_json", "dry_run", "quiet", "verbose"}
    assert words - ours == {"suites", "models", "names", "named", "fresh", "suite_options"} | printed | spread
    assert ours - words == {"suite", "model", "name", "progress", "options"}


def test_a_record_is_a_baseline_of_another(tmp_path: Path) -> None:
    base = run(Net(0))
    record = run(Net(1), baseline=base)
    assert record.suite.baseline is not None
    assert record.suite.baseline.model == "Net"
    own = run(Net(0), baseline=base)
    assert own.metrics == run(Net(0), baseline=base.folder).metrics
    base.save(tmp_path / "base.json")
    with pytest.raises(UserError, match="pass the file's path"):
        run(Net(1), baseline=stressbench.load(tmp_path / "base.json"))


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda kind, name: asked.append((kind, name)) or find(kind, name))
    run("tiny")
    assert [name for kind, name in asked if kind == "models"] == ["tiny"]


def test_records_are_saved_loaded_and_compared_by_pairs(tmp_path: Path) -> None:
    one, two = run(Net(0)), run(Net(1))
    path = tmp_path / "net.json"
    one.save(path)
    alone = stressbench.load(path)
    assert alone.metrics == one.metrics
    assert alone.folder is None
    assert stressbench.load(str(one.folder)).folder == one.folder
    found = stressbench.compare(one, two)
    assert found.loc["clean_nll", "difference"] == pytest.approx(two.metrics["clean_nll"] - one.metrics["clean_nll"])  # type: ignore[operator]
    pd.testing.assert_frame_equal(found, stressbench.compare(path, two))
    assert found.loc["mCE", "verdict"] == "unknown"
    # The test is paired: the same as Student's of the differences without each group, adjusted for three metrics.
    from scipy import stats

    def left_out(record: Record) -> np.ndarray[Any, Any]:
        return np.array(record.jackknife["clean_nll"]["1"])

    between = left_out(two) - left_out(one)
    error = np.sqrt((len(between) - 1) * between.var())
    p = 2 * stats.t.sf(abs(found.loc["clean_nll", "difference"]) / error, len(between) - 1)
    low, high = found.loc["clean_nll", "low"], found.loc["clean_nll", "high"]
    assert found.loc["clean_nll", "p"] >= p
    assert low < found.loc["clean_nll", "difference"] < high
    equal = stressbench.compare(one, one)
    assert set(equal["verdict"]) <= {"equal", "unknown"}


def test_a_table_agrees_with_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = run(Net(0)), run(Net(1))
    with pytest.raises(SystemExit):
        main(["compare", str(one.folder), str(two.folder), "--json"])
    theirs = json.loads(capsys.readouterr().out)["pairs"][0]["metrics"]
    ours = stressbench.compare(one, two)
    for name, fields in theirs.items():
        assert ours.loc[name, "p"] == pytest.approx(fields["p_holm"])
        assert (ours.loc[name, "low"], ours.loc[name, "high"]) == pytest.approx(
            (fields["difference_low"], fields["difference_high"])
        )
        assert ours.loc[name, "verdict"] == fields["verdict"]


def test_a_suite_of_a_notebook_is_run_and_compared(tmp_path: Path) -> None:
    one, two = (run(Net(seed), suite=Dusk((0.5, 0.1)), out=tmp_path) for seed in (0, 1))
    assert one.suite.name == Dusk.name
    assert one.suite.options == {"factors": "0.5,0.1"}
    assert list(one.to_frame()["factor"]) == [0.5, 0.1]
    found = stressbench.compare(one, two)
    assert found.loc["mean_error", "second"] == two.metrics["mean_error"]
    with pytest.raises(UserError, match="list of suite options"):
        stressbench.compare(one, run(Net(), suite=Dusk((0.5, 0.2))))


def test_a_suite_that_hides_an_option_is_refused() -> None:
    class Hidden(Dusk):
        def __init__(self, gain: float = 1.0) -> None:
            super().__init__()
            self.squared = gain**2

    with pytest.raises(UserError, match="does not tell its option 'gain'"):
        run(Net(), suite=Hidden(2.0))


@pytest.mark.parametrize(
    ("model", "words", "line"),
    [
        (42, {}, "the model is a int"),
        (Net(), {"name": "two words"}, "'two words' cannot name a model"),
        (Net(), {"name": "tiny"}, "a plugin offers a model called 'tiny'"),
        (lambda dataset: Net(), {}, "'<lambda>' cannot name a model"),
        ("tiny", {"name": "mine"}, "leave name= out"),
        (Net(), {"corruption": "fog"}, "no option 'corruption'.*did you mean 'corruptions'"),
        (Net(), {"corruptions": "fogg"}, "did you mean 'fog'"),
        (Net(classes=7), {}, r"model 'Net' of tests unknown returned shape \(30, 7\)"),
        (Net(), {"limit": 0}, "invalid limit=0"),
        (Net(), {"dataset": [1, 2]}, "the dataset is a list"),
        (Net(), {"suite": 3}, "the suite is a int"),
    ],
)
def test_mistakes_get_one_line(model: Any, words: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as error:
        run(model, **words)
    assert "\n" not in str(error.value)
