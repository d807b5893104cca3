"""Models on the Hugging Face hub, from a hub on this machine, and what a stranger may not do with them."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save
from torch import nn

from model_family import dataset
from stressbench import registry, weights
from stressbench.cli import main
from stressbench.contracts import Dataset
from stressbench.errors import UserError
from stressbench.execution import models

CLASSES = 5
PREPROCESSING = {
    "input_size": [3, 48, 48], "interpolation": "bilinear", "crop_pct": 0.9, "crop_mode": "center",
    "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3],
}  # fmt: skip
CONFIGURATION: dict[str, Any] = {
    "architecture": "test_resnet",
    "num_classes": CLASSES,
    "num_features": 512,
    "global_pool": "avg",
    "model_args": {"drop_rate": 0.1},
    "pretrained_cfg": {**PREPROCESSING, "tag": "mine", "custom_load": False, "pool_size": [7, 7], "classifier": "fc"},
}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset(32, CLASSES)


def network(seed: int = 0, classes: int = CLASSES) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model("test_resnet", num_classes=classes).eval()


def safetensors(module: nn.Module) -> bytes:
    return save(dict(module.state_dict()))


def repository(configuration: object = CONFIGURATION, **files: bytes) -> dict[str, bytes]:
    return {"config.json": json.dumps(configuration).encode(), "model.safetensors": safetensors(network()), **files}


def no_training(spec: str, seed: int, build: Callable[[], nn.Module]) -> None:
    raise AssertionError(f"{spec} was to be trained")


def changed(**fields: object) -> dict[str, Any]:
    return {**CONFIGURATION, **fields}


def refusal(spec: str, data: Dataset) -> str:
    with pytest.raises(UserError) as error:
        registry.model(spec, data)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_network_is_the_one_in_the_repository(hub: Any, data: Dataset) -> None:
    commit = hub.push("some/net", repository())
    ready = models.ready(registry.resolve("hub:some/net"), data, (), no_training)
    assert ready.checksum == weights.checksum(network())
    assert ready.weights_source == f"timm {timm.__version__}, some/net at {commit}"
    assert ready.sources == (ready.weights_source,)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    resized = nn.functional.interpolate(images, size=(53, 53), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(PREPROCESSING[name]).view(3, 1, 1) for name in ("mean", "std"))
    # A crop of 48 from 53 begins at 2.5, which torchvision and timm round to the even 2.
    expected = network()((resized[:, :, 2:50, 2:50] - mean) / std)
    torch.testing.assert_close(ready.module.eval()(images), expected, rtol=1e-4, atol=1e-4)


def test_a_revision_is_a_branch_or_a_commit(hub: Any, data: Dataset) -> None:
    first = hub.push("some/net", repository())
    second = hub.push("some/net", repository() | {"model.safetensors": safetensors(network(1))})
    hub.push("some/net", repository() | {"model.safetensors": safetensors(network(2))}, branch="trial")
    for revision, seed in ((f",revision={first}", 0), (f",revision={second}", 1), ("", 1), (",revision=trial", 2)):
        module = registry.model(f"hub:some/net{revision}", data)
        assert weights.checksum(module) == weights.checksum(network(seed))
    assert "no revision 'elsewhere'" in refusal("hub:some/net,revision=elsewhere", data)


def test_what_was_fetched_serves_without_the_hub(hub: Any, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.push("some/net", repository())
    hub.push("other/net", repository())
    expected = weights.checksum(registry.model("hub:some/net", data))
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert weights.checksum(registry.model("hub:some/net", data)) == expected
    assert len(hub.requests) == asked
    text = refusal("hub:other/net", data)
    assert text.startswith("config.json of other/net is not in the local cache and the hub cannot be reached (")


def test_a_hub_that_is_not_there_is_one_line(
    hub: Any, data: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.close()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between five trials
    text = refusal("hub:some/net", data)
    assert text.startswith("config.json of some/net is not in the local cache and the hub cannot be reached (")
    assert "HF_ENDPOINT" in text
    assert capsys.readouterr().err == ""


class RunsCode:
    """What a malicious file does when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.target,)


def test_a_repository_that_would_have_to_be_unpickled_is_refused(hub: Any, data: Dataset, tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save(RunsCode(tmp_path / "ran"), stream)
    hub.push("old/net", {"config.json": repository()["config.json"], "pytorch_model.bin": stream.getvalue()})
    text = refusal("hub:old/net", data)
    for words in ("pytorch_model.bin alone", "unpickled", "ask its author for model.safetensors"):
        assert words in text
    hub.push("empty/net", {"config.json": repository()["config.json"]})
    assert refusal("hub:empty/net", data).startswith("empty/net has no model.safetensors")
    # Nor is a pickle read that goes by the name of the other.
    hub.push("sly/net", repository() | {"model.safetensors": stream.getvalue()})
    assert "model.safetensors is not a whole file" in refusal("hub:sly/net", data)
    assert not (tmp_path / "ran").exists()
    assert not [asked for asked in hub.requests if asked.startswith("GET") and asked.endswith(".bin")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", ["is not JSON"]),
        (b"[" * 100_000, ["is not JSON", "RecursionError"]),
        (b" " * 2**21, ["2 MB"]),
        (b"[]", ["the whole"]),
        (b'{"model_type": "bert"}', ["not a timm configuration", "architecture"]),
        (changed(architecture="hf-hub:evil/net"), ["no model 'hf-hub:evil/net'"]),
        (changed(architecture="local-dir:/etc"), ["no model 'local-dir:/etc'"]),
        (changed(architecture="test_resnte"), ["did you mean 'test_resnet'"]),
        (changed(num_classes=0), ["num_classes", "greater than or equal to 1"]),
        (changed(num_classes=7), ["hub:some/net has weights for 7 classes and some has 5"]),
        (changed(model_args={"checkpoint_path": "/home/me/old.pth"}), ["sets 'checkpoint_path'", "refused"]),
        (changed(model_args={"pretrained": True}), ["sets 'pretrained'", "refused"]),
        (changed(model_args={"pretrained_cfg": {"url": "http://x/y.pth"}}), ["sets 'pretrained_cfg'"]),
        (changed(model_args={"pretrained_cfg_overlay": "x"}), ["sets 'pretrained_cfg_overlay'"]),
        (changed(model_args={"pretrained_strict": False}), ["sets 'pretrained_strict'"]),
        (changed(model_args={"drop_rate": {"a": 1}}), ["'drop_rate'", "not a number, word or list"]),
        (changed(model_args={"layers": [[[[1]]]]}), ["'layers'"]),
        (changed(model_args={"no_such": 1}), ["failed while it was built", "no_such"]),
        (changed(pretrained_cfg={}), ["pretrained_cfg.input_size"]),
        (changed(pretrained_cfg={**PREPROCESSING, "std": [0.2, 0, 0.2]}), ["pretrained_cfg.std.1"]),
        (changed(pretrained_cfg={**PREPROCESSING, "input_size": [1, 8, 8]}), ["pretrained_cfg.input_size.0"]),
        (changed(pretrained_cfg={**PREPROCESSING, "input_size": [3, 10**6, 8]}), ["pretrained_cfg.input_size.1"]),
        (changed(pretrained_cfg={**PREPROCESSING, "interpolation": "lanczos"}), ["pretrained_cfg.interpolation"]),
        (changed(pretrained_cfg={**PREPROCESSING, "crop_mode": "border"}), ["pretrained_cfg.crop_mode"]),
    ],
)
def test_configurations_that_ask_for_more_are_refused(
    hub: Any, data: Dataset, content: bytes | dict[str, Any], words: list[str]
) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    hub.push("some/net", repository() | {"config.json": raw})
    text = refusal("hub:some/net", data)
    for word in words:
        assert word in text, text


def test_what_a_configuration_says_of_other_files_is_not_read(hub: Any, data: Dataset) -> None:
    sources = {"url": f"{hub.url}/a.pth", "file": "/etc/passwd", "hf_hub_id": "evil/net", "custom_load": True}
    hub.push("some/net", repository(changed(pretrained_cfg={**PREPROCESSING, **sources})))
    module = registry.model("hub:some/net", data)
    assert weights.checksum(module) == weights.checksum(network())
    assert {asked.split("/resolve/")[0].split(" ")[1] for asked in hub.requests} == {"/some/net"}


def test_weights_of_another_network_are_refused(hub: Any, data: Dataset) -> None:
    hub.push("some/net", repository() | {"model.safetensors": safetensors(network(classes=7))})
    assert "of another number of classes" in refusal("hub:some/net", data)
    hub.push("half/net", repository() | {"model.safetensors": repository()["model.safetensors"][:-9]})
    assert "not a whole safetensors file" in refusal("hub:half/net", data)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("hub:no/such", "there is no repository no/such on the hub"),
        ("hub:a/b/c", "'a/b/c' is not a repository name: write OWNER/REPO"),
        ("hub", "write hub:OWNER/REPO"),
    ],
)
def test_names_of_nothing_are_refused(hub: Any, data: Dataset, spec: str, words: str) -> None:
    assert words in refusal(spec, data)


def test_another_commit_does_not_resume_a_run(hub: Any, tmp_path: Path) -> None:
    """The same weights under another preprocessing give other numbers."""

    def run() -> list[Path]:
        with pytest.raises(SystemExit) as done:
            main(["run", "--model", "infer-transform:hub:some/net", "--limit", "4", "--corruptions", "fog",
                  "--severities", "1", "--out", str(tmp_path / "runs")])  # fmt: skip
        assert done.value.code == 0
        return sorted((tmp_path / "runs").iterdir())

    files = {**repository(changed(num_classes=10)), "model.safetensors": safetensors(network(classes=10))}
    first = hub.push("some/net", files)
    assert len(run()) == len(run()) == 1
    record = json.loads((run()[0] / "record.json").read_text())
    assert record["model"]["weights_source"] == f"timm {timm.__version__}, some/net at {first}"
    assert record["environment"]["packages"]["timm"] == timm.__version__
    other = changed(num_classes=10, pretrained_cfg={**PREPROCESSING, "crop_pct": 0.5})
    hub.push("some/net", files | {"config.json": json.dumps(other).encode()})
    assert len(run()) == 2
