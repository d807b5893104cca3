"""The Python API: a network in a notebook, without a plugin, a file or a command line."""

from __future__ import annotations

import functools
import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.datasets import FakeData
from torchvision.transforms import ToTensor

import stressbench
from stressbench import (
    Batch,
    Condition,
    Dataset,
    InMemory,
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
from stressbench.datasets.fingerprint import fingerprint
from stressbench.metrics import log_mean_probability
from stressbench_plugins.ensemble import Ensemble
from stressbench_suites.corruption.engine import corrupt
from tiny_models import Dropped, Tiny, Untrained

LIMIT = 30


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


def run(model: Any, **words: Any) -> Record:
    asked: dict[str, Any] = {"suite": "corruption", "dataset": "digits", "limit": LIMIT, "progress": False}
    if "suite" not in words:
        asked |= {"corruptions": "fog", "severities": 3}
    return stressbench.run(model, **(asked | words))


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


# --- images ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def engine(pixels: Tensor, name: str, severity: int, seed: int, positions: Tensor) -> Tensor:
    condition: Condition = {"corruption": name, "severity": severity}
    keys = randomness.image_keys(randomness.derive(seed, condition), positions)
    return corrupt(pixels.float() / 255, name, severity, keys)


@pytest.mark.parametrize("name", ["gaussian_noise", "fog"])
def test_corrupt_is_the_engine_for_every_kind_of_array(name: str, pixels: Tensor) -> None:
    expected = engine(pixels, name, 4, 7, torch.arange(3))
    bytes_ = expected.mul(255).round().to(torch.uint8)
    before = pixels.clone()
    assert torch.equal(stressbench.corrupt(pixels, name, 4, 7), bytes_)
    assert torch.equal(stressbench.corrupt(pixels.float() / 255, name, 4, 7), expected)
    last = stressbench.corrupt(pixels.movedim(1, -1).numpy(), name, severity=4, seed=7)
    assert isinstance(last, np.ndarray)
    assert last.dtype == np.uint8
    assert np.array_equal(last, bytes_.movedim(1, -1).numpy())
    double = stressbench.corrupt((pixels.double() / 255).numpy(), name, 4, 7)
    assert double.dtype == np.float64
    assert double == pytest.approx(expected.numpy())
    single = stressbench.corrupt(pixels[2], name, 4, 7, positions=[2])
    assert torch.equal(single, bytes_[2])
    assert torch.equal(pixels, before)


@pytest.mark.parametrize(
    ("images", "words", "line"),
    [
        (np.zeros((2, 32, 32), np.uint8), {}, "no axis of 3 channels"),
        (np.zeros((32, 32), np.uint8), {}, "have shape"),
        (np.zeros((2, 1, 32, 32), np.uint8), {}, "repeat a single grey channel"),
        (np.zeros((2, 3, 8, 3), np.uint8), {}, "ambiguous"),
        (np.zeros((0, 8, 8, 3), np.uint8), {}, "holds no pixels"),
        (np.zeros((2, 8, 8, 3), np.int64), {}, "images are torch.int64"),
        (np.full((2, 8, 8, 3), 255.0), {}, "divide them by 255"),
        (np.full((2, 8, 8, 3), -1.0), {}, "undo the normalisation"),
        (np.full((2, 8, 8, 3), np.nan), {}, "NaN"),
        ([[1]], {}, "images are a list"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"corruption": "fogg"}, "did you mean 'fog'"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"corruption": "fog,snow"}, "name one corruption"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"severity": 6}, "severity"),
        (np.zeros((2, 32, 32, 3), np.uint8), {"positions": [1]}, "pass one for each"),
    ],
)
def test_images_that_are_none_get_one_line(images: Any, words: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        stressbench.corrupt(images, **({"corruption": "fog"} | words))


# --- datasets -------------------------------------------------------------------------------------------------


def test_own_arrays_are_the_dataset_that_they_are_of() -> None:
    data = registry.dataset("digits", "test")
    images, labels = data.images.read(0, LIMIT), data.labels[:LIMIT]
    forms: list[tuple[Any, Any]] = [
        (images, labels),
        (images.movedim(1, -1).numpy(), labels.tolist()),
        ((images.float() / 255).numpy(), labels.numpy().astype(np.int32)),
    ]
    for pixels, targets in forms:
        own = stressbench.arrays(pixels, targets, classes=10)
        assert fingerprint(own, LIMIT) == fingerprint(data, LIMIT)
    record = run(Net(), dataset=own)
    assert record.dataset.name == "arrays"
    assert record.metrics == run(Net()).metrics
    with pytest.raises(UserError, match="untrained has no weights for arrays: give files with weights="):
        run("untrained", dataset=own)


class Pairs:
    """As torchvision's datasets are: pairs by position, and the names of the classes."""

    classes = ("no", "yes", "perhaps")

    def __init__(self, images: list[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.images[index], index % 2


def test_pairs_and_tables_of_images_are_datasets() -> None:
    import datasets
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 12, 3), dtype=np.uint8)
    pictures = [Image.fromarray(image) for image in pixels]
    expected = fingerprint(stressbench.arrays(pixels, [0, 1, 0, 1]), 4)
    pairs = stressbench.from_dataset(Pairs(list(pictures)))
    assert pairs.name == "pairs"
    assert pairs.classes == 3
    assert pairs.image_size == (16, 12)
    tensors = [torch.from_numpy(image).movedim(-1, 0).float() / 255 for image in pixels]
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"]), "id": datasets.Value("int64")}
    )
    table = datasets.Dataset.from_dict({"img": pictures, "label": [0, 1, 0, 1], "id": [5, 6, 7, 8]}, features=features)
    rows = stressbench.from_dataset(table, name="mine")
    assert rows.name == "mine"
    assert rows.classes == 2
    for found in (pairs, rows, stressbench.from_dataset(Pairs(list(tensors)))):
        assert fingerprint(found, 4) == expected
    with pytest.raises(UserError, match="no column 'labels': did you mean 'label'"):
        stressbench.from_dataset(table, label="labels")
    two = table.add_column("coarse", [0, 0, 1, 1]).cast_column("coarse", datasets.ClassLabel(names=["a", "b"]))
    with pytest.raises(UserError, match="label, coarse could each be the label: name it with label="):
        stressbench.from_dataset(two)
    assert stressbench.from_dataset(two, label="coarse").labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(UserError, match="no column is known to be the label"):
        stressbench.from_dataset(table.remove_columns("label"))
    fake = FakeData(5, (3, 16, 12), 4, transform=ToTensor())
    found = stressbench.from_dataset(fake, classes=4)
    assert (found.name, found.image_size, found.labels.tolist()) == (
        "fakedata",
        (16, 12),
        [fake[n][1] for n in range(5)],
    )
    assert torch.equal(found.images.read(4, 5)[0], (fake[4][0] * 255).round().to(torch.uint8))
    part = torch.utils.data.Subset(Pairs(list(pictures)), [1, 0])  # type: ignore[arg-type]
    assert stressbench.from_dataset(part).classes == 3
    with pytest.raises(UserError, match="pass one of them, such as dataset\\['test'\\]"):
        stressbench.from_dataset(datasets.DatasetDict({"test": table}))
    grey = stressbench.from_dataset(Pairs([Image.fromarray(pixels[0, :, :, 0])]))
    assert torch.equal(grey.images.read(0, 1)[0, 2], torch.from_numpy(pixels[0, :, :, 0]))


@pytest.mark.parametrize(
    ("images", "labels", "words", "line"),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), [0], {}, r"labels have shape \(1,\) for 2 images"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0.0, 1.0], {}, "labels are torch.float64"),
        (np.zeros((2, 8, 8, 3), np.uint8), [0, -1], {}, "a label is -1"),
        (np.zeros((2, 8, 8, 3), np.uint8), ["cat", "dog"], {}, "labels are not numbers"),
        (
            np.zeros((2, 8, 8, 3), np.uint8),
            [0, 5],
            {"classes": 5},
            "to 5, and classes=5 allows 0 to 4",
        ),
        (
            np.zeros((2, 8, 8, 3), np.uint8),
            [1, 2],
            {},
            "from 1 to 2, .*subtract 1 if .* or pass classes=3",
        ),
        (np.zeros((0, 8, 8, 3), np.uint8), [], {}, "holds no pixels"),
        (np.zeros((2, 3, 8, 3), np.uint8), [0, 1], {}, "ambiguous"),
        (np.zeros((8, 8, 3), np.uint8), [0], {}, r"have shape \(8, 8, 3\)"),
        (np.full((2, 8, 8, 3), np.nan), [0, 1], {}, "NaN"),
        (np.full((2, 8, 8, 3), 255.0), [0, 1], {}, "divide them by 255"),
        (np.zeros((2, 8, 8, 3), np.int64), [0, 1], {}, "images are torch.int64"),
    ],
)
def test_arrays_that_do_not_fit_get_one_line(images: Any, labels: Any, words: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        stressbench.arrays(images, labels, **words)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (Pairs([]), "empty"),
        (iter([1]), "no length or no items"),
        ([1, 2], "item 0 is not an image with a label"),
        (Pairs([torch.rand(3, 8, 8), torch.rand(3, 9, 8)]), "item 1 has 9×8 pixels .* bring all images to one size"),
        (Pairs([torch.rand(3, 8, 8) - 1]), "item 0: .*undo the normalisation"),
    ],
)
def test_a_sequence_that_is_no_dataset_gets_one_line(given: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        stressbench.from_dataset(given)


class Mask(nn.Module):
    """Three classes by the brightest channel."""

    def forward(self, images: Tensor) -> Tensor:
        return 5 * images


def test_own_masks_are_a_segmentation() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    masks = pixels.argmax(-1)
    task = stressbench.Segmentation(classes=3)
    record = run(Mask(), dataset=stressbench.arrays(pixels, masks, name="mine", task=task))
    logits = 5 * pixels.astype(np.float64) / 255
    nll = np.log(np.exp(logits).sum(-1)) - logits.max(-1)
    assert record.dataset.task == "segmentation"
    assert record.to_frame().loc[0, "nll"] == pytest.approx(nll.mean(), rel=1e-5)
    with pytest.raises(UserError, match="the dataset mine has a mask with class 2; of 2 classes"):
        stressbench.arrays(pixels, masks, name="mine", task=stressbench.Segmentation(classes=2))
    with pytest.raises(UserError, match="leave classes= out"):
        stressbench.arrays(pixels, masks, task=task, classes=3)


def test_a_dataset_made_by_hand_is_checked() -> None:
    data = stressbench.arrays(np.zeros((2, 8, 8, 3), np.uint8), [0, 1])
    wrong = replace(data, targets=InMemory(torch.tensor([0, 2])))
    with pytest.raises(UserError, match="the dataset arrays has labels from 0 to 2; of 2 classes"):
        run(Net(), dataset=wrong)


def test_a_dataset_is_a_dataset() -> None:
    assert isinstance(stressbench.arrays(np.zeros((1, 8, 8, 3), np.uint8), [0]), Dataset)
