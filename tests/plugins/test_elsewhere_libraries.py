"""Networks of timm and torchvision, against the libraries' own networks and own transforms of Pillow's images."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from model_family import dataset
from stressbench import registry, weights
from stressbench.cli import main
from stressbench.contracts import Dataset, Segmentation
from stressbench.errors import UserError
from stressbench.execution import models

IMAGENET = dataset(64, classes=1000)
SMALL = dataset(32)
LEVEL = 1 / 255 / 0.22  # one grey level after division by about the smallest deviation


def no_training(spec: str, seed: int, build: Callable[[], nn.Module]) -> None:
    raise AssertionError(f"{spec} was to be trained")


def pictures(n: int, height: int, width: int) -> np.ndarray:
    """Black and white pixels, where interpolation overshoots, and coloured noise, (n, height, width, 3)."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    noise[:, : height // 2] = 255 * generator.integers(0, 2, (n, height // 2, width, 1), dtype=np.uint8)
    return noise


def floats(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def transformed(transform: Any, pixels: np.ndarray) -> Tensor:
    return torch.stack([transform(Image.fromarray(image)) for image in pixels])


def preprocess(module: nn.Module, images: Tensor) -> Tensor:
    """What the network itself gets."""
    (hook,) = module._forward_pre_hooks.values()
    return hook(module, (images,))


def refusal(spec: str, data: Dataset) -> str:
    with pytest.raises(UserError) as error:
        registry.model(spec, data)
    assert "\n" not in str(error.value)
    return str(error.value)


def timm_transform(name: str, **changed: object) -> Any:
    configuration = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    return timm.data.create_transform(**{**configuration, **changed}, is_training=False)


SHAPES = [(32, 32), (40, 64), (300, 260)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("spec", "transform"),
    [
        ("timm:test_resnet", timm_transform("test_resnet")),
        ("timm:test_vit3", timm_transform("test_vit3")),
        ("timm:mobilenetv3_small_050", timm_transform("mobilenetv3_small_050")),
        ("timm:test_resnet,size=48", timm_transform("test_resnet", input_size=(3, 48, 48), crop_pct=1.0)),
        ("timm:test_vit,size=64", timm_transform("test_vit", input_size=(3, 64, 64), crop_pct=1.0)),
        ("timm:eva02_tiny_patch14_336,size=28", timm_transform(
            "eva02_tiny_patch14_336", input_size=(3, 28, 28), crop_pct=1.0)),  # squashes, where others crop
        ("torchvision:mobilenet_v3_small", torchvision.models.MobileNet_V3_Small_Weights.DEFAULT.transforms()),
        ("torchvision:efficientnet_b0", torchvision.models.EfficientNet_B0_Weights.DEFAULT.transforms()),
        ("torchvision:efficientnet_b1", torchvision.models.EfficientNet_B1_Weights.DEFAULT.transforms()),
    ],
)  # fmt: skip
def test_preprocessing_is_that_of_the_library(spec: str, transform: Any, shape: tuple[int, int]) -> None:
    without = "pretrained=false" if spec.startswith("timm") else "weights=none"
    module = registry.model(f"{spec},{without}", SMALL)
    pixels = pictures(2, *shape)
    ours, theirs = preprocess(module, floats(pixels)), transformed(transform, pixels)
    assert ours.shape == theirs.shape
    # Pillow rounds to whole grey levels after each direction.
    assert (ours - theirs).abs().max() < 2.01 * LEVEL
    assert (ours - theirs).abs().mean() < 0.5 * LEVEL
    # The images' own memory layout and number do not matter, and gradients reach each of them.
    batch = floats(pixels).to(memory_format=torch.channels_last).requires_grad_()
    torch.testing.assert_close(preprocess(module, batch), ours, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(preprocess(module, batch[:1]), ours[:1], rtol=1e-5, atol=1e-5)
    assert torch.autograd.grad(preprocess(module, batch).square().sum(), batch)[0].flatten(1).any(dim=1).all()


def test_an_input_size_of_the_images_own_leaves_them_as_they_are() -> None:
    module = registry.model("timm:test_resnet,pretrained=false,size=32", SMALL)
    images = floats(pictures(2, 32, 32))
    known = timm.get_pretrained_cfg("test_resnet")
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (known.mean, known.std))
    assert torch.equal(preprocess(module, images), (images - mean) / std)


def test_gradients_reach_the_images_through_the_network() -> None:
    images = floats(pictures(2, 32, 32)).requires_grad_()
    for spec in ("timm:test_vit,pretrained=false", "torchvision:squeezenet1_1,weights=none"):
        module = registry.model(spec, SMALL).eval()
        (gradient,) = torch.autograd.grad(module(images).square().sum(), images)
        assert gradient.isfinite().all()
        assert gradient.flatten(1).any(dim=1).all()
        torch.testing.assert_close(module(images[1:]), module(images)[1:], rtol=1e-4, atol=1e-5)


# --- timm -----------------------------------------------------------------------------------------------------


@pytest.fixture
def published(hub: Any) -> tuple[nn.Module, str]:
    """timm's test_resnet with weights that the hub has under its name, and their commit."""
    torch.manual_seed(0)
    module = timm.create_model("test_resnet", num_classes=1000).eval()
    repository = timm.get_pretrained_cfg("test_resnet").hf_hub_id
    return module, hub.push(repository, {"model.safetensors": save(dict(module.state_dict()))})


def test_published_weights_predict_as_with_timm_itself(published: tuple[nn.Module, str]) -> None:
    theirs, commit = published
    ready = models.ready(registry.resolve("timm:test_resnet"), IMAGENET, (), no_training)
    repository = timm.get_pretrained_cfg("test_resnet").hf_hub_id
    assert ready.weights_source == f"timm {timm.__version__}, {repository} at {commit}"
    assert ready.checksum == weights.checksum(theirs)
    pixels = pictures(3, 64, 64)
    expected = theirs(transformed(timm_transform("test_resnet"), pixels)).log_softmax(1)
    ours = ready.module.eval()(floats(pixels)).log_softmax(1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0.02)
    assert (ours - expected).abs().max() < 0.1 * expected.std()
    # Its tag is a name of the same weights.
    tagged = registry.model(f"timm:test_resnet.{timm.get_pretrained_cfg('test_resnet').tag}", IMAGENET)
    assert weights.checksum(tagged) == ready.checksum


def test_weights_for_other_classes_say_what_to_write_instead(hub: Any) -> None:
    text = refusal("timm:test_resnet", SMALL)
    assert "timm:test_resnet has weights for 1000 classes and some has 10" in text
    assert "write timm:test_resnet,pretrained=false and give its weights with --weights FILE" in text
    assert not hub.requests
    assert "weights for no classes" in refusal("timm:vit_small_patch14_dinov2", SMALL)


def test_only_safetensors_are_fetched(hub: Any, tmp_path: Path) -> None:
    known = timm.list_models(pretrained=True)
    name = next(n for n in known if not (c := timm.get_pretrained_cfg(n)).hf_hub_id and c.num_classes == 1000)
    assert f"timm publishes no safetensors of {name}" in refusal(f"timm:{name}", IMAGENET)
    stream = io.BytesIO()
    torch.save(timm.create_model("test_resnet").state_dict(), stream)
    hub.push(timm.get_pretrained_cfg("test_resnet").hf_hub_id, {"pytorch_model.bin": stream.getvalue()})
    assert "pytorch_model.bin alone, which would have to be unpickled" in refusal("timm:test_resnet", IMAGENET)


def test_published_weights_that_are_not_finite_are_refused(hub: Any) -> None:
    state = timm.create_model("test_resnet").state_dict()
    state["fc.bias"][3] = torch.nan
    hub.push(timm.get_pretrained_cfg("test_resnet").hf_hub_id, {"model.safetensors": save(state)})
    assert "weights that are not finite" in refusal("timm:test_resnet", IMAGENET)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_timms_own_weights_fits(name: str, suffix: str, tmp_path: Path) -> None:
    """What somebody fine-tuned with timm and saved as timm names it."""
    theirs = timm.create_model(name, num_classes=10).eval()
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, path)
    else:
        path.write_bytes(save(dict(theirs.state_dict())))
    ready = models.ready(registry.resolve(f"timm:{name},pretrained=false"), SMALL, (path,), no_training)
    pixels = pictures(2, 32, 32)
    expected = theirs(transformed(timm_transform(name), pixels))
    torch.testing.assert_close(ready.module.eval()(floats(pixels)), expected, rtol=0, atol=0.05)
    assert ready.weights_source == f"file {path.name}"
    assert ready.sources == (f"timm {timm.__version__}",)


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refusal("timm:resnet18", SMALL) == "timm:resnet18 needs timm: pip install 'stressbench[timm]'"
    assert refusal("hub:a/b", SMALL) == "hub:a/b needs timm: pip install 'stressbench[hub]'"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("timm:resnte18", "did you mean 'resnet18'"),
        ("timm:hf-hub:evil/net", "no model 'hf-hub:evil/net'"),
        ("timm:local-dir:/tmp", "no model 'local-dir:/tmp'"),
        ("timm:resnet18.a1_in1", "no weights 'a1_in1' of resnet18: did you mean 'a1_in1k'"),
        ("timm:resnet18,pretrained=perhaps", "option 'pretrained'"),
        ("timm:resnet18,pretrained=false,size=0", "invalid size=0"),
        ("timm", "write timm:NAME"),
        ("torchvision:resnte18", "did you mean 'resnet18'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no image classifier 'fasterrcnn_resnet50_fpn'"),
        ("torchvision:r3d_18", "no image classifier"),
        ("torchvision:resnet18,weights=IMAGENET1K_V9", "did you mean 'IMAGENET1K_V1'"),
        ("torchvision:resnet18,weights=none,size=-1", "size=-1"),
        ("torchvision:resnet18", "write torchvision:resnet18,weights=none and give"),
    ],
)
def test_wrong_words_are_refused_in_a_line(spec: str, words: str) -> None:
    assert words in refusal(spec, SMALL)


# --- torchvision ----------------------------------------------------------------------------------------------


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps the file of SqueezeNet's weights, which is not there; and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    path = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    return path


def test_torchvisions_weights_predict_as_with_torchvision_itself(cached: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.squeezenet1_1().eval()
    torch.save(theirs.state_dict(), cached)
    ready = models.ready(registry.resolve("torchvision:squeezenet1_1"), IMAGENET, (), no_training)
    assert ready.weights_source == f"torchvision {torchvision.__version__}, SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert ready.checksum == weights.checksum(theirs)
    pixels = pictures(3, 64, 64)
    transform = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    expected = theirs(transformed(transform, pixels))
    torch.testing.assert_close(ready.module.eval()(floats(pixels)), expected, rtol=0, atol=0.02)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


class RunsCode:
    """What a malicious file does when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.target,)


def test_torchvisions_files_are_never_unpickled(cached: Path, tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save(RunsCode(tmp_path / "ran"), cached, _use_new_zipfile_serialization=zipped)
        assert "would have to be unpickled, so it is refused" in refusal("torchvision:squeezenet1_1", IMAGENET)
        assert not (tmp_path / "ran").exists()


def test_torchvisions_server_that_cannot_be_reached_is_one_line(cached: Path) -> None:
    text = refusal("torchvision:squeezenet1_1", IMAGENET)
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    assert text.startswith(f"SqueezeNet1_1_Weights.IMAGENET1K_V1 cannot be had from {url} (URLError")


STREETS = replace(SMALL, task=Segmentation(5), image_size=(40, 56))


def test_torchvisions_segmentation_networks_give_logits_of_the_images_size() -> None:
    module = registry.model("torchvision:lraspp_mobilenet_v3_large,weights=none", STREETS).eval()
    theirs = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    ).eval()
    theirs.load_state_dict(module.state_dict())  # the names of the weights are torchvision's
    images = torch.rand(2, 3, 40, 56, requires_grad=True)
    preset = torchvision.models.segmentation.LRASPP_MobileNet_V3_Large_Weights.DEFAULT.transforms()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (preset.mean, preset.std))
    logits = module(images)
    assert logits.shape == (2, 5, 40, 56)
    assert torch.equal(logits, theirs((images - mean) / std)["out"])
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert bool(gradient.flatten(1).any(dim=1).all())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("torchvision:resnet18", "has no segmentation network 'resnet18'"),
        ("torchvision:deeplabv3_resnet5", "did you mean 'deeplabv3_resnet50'"),
        ("torchvision:fcn_resnet50", "has weights for 21 classes and some has 5"),
        ("torchvision:fcn_resnet50,weights=none,size=32", "size=32 is for classifiers"),
    ],
)
def test_wrong_segmentation_networks_are_refused_in_a_line(spec: str, words: str) -> None:
    assert words in refusal(spec, STREETS)


def test_networks_with_classifiers_halfway_train_and_predict() -> None:
    for name in ("googlenet", "inception_v3"):
        module = registry.model(f"torchvision:{name},weights=none,size=96", SMALL)
        assert module.train()(torch.rand(2, 3, 32, 32)).shape == (2, 10)


# --- through the door -----------------------------------------------------------------------------------------


def bench(*arguments: object) -> None:
    with pytest.raises(SystemExit) as done:
        main([*map(str, arguments)])
    assert done.value.code == 0


def test_they_run_in_wrappers_and_ensembles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files: list[str] = []
    for seed in range(2):
        torch.manual_seed(seed)
        path = tmp_path / f"{seed}.safetensors"
        weights.save(timm.create_model("test_resnet", num_classes=10), path, {})
        files += ["--weights", str(path)]
    spec = "ensemble:(infer-dropout:(timm:test_resnet,pretrained=false,size=32),rate=0.2),size=2"
    bench("run", "--model", spec, *files, "--limit", 4, "--corruptions", "fog", "--severities", 1, "--json",
          "--out", tmp_path / "runs")  # fmt: skip
    record = json.loads(capsys.readouterr().out)
    expected = "ensemble:(infer-dropout:(timm:test_resnet,pretrained=false,size=32),rate=0.2),size=2"
    assert record["model"]["spec"] == expected
    assert record["draws"] == 8
    assert record["environment"]["packages"]["timm"] == timm.__version__


def test_they_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    bench("show", "timm:test_resnet,pretrained=false,size=64")
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("pretrained bool, default True", "size int or None", "0 input of conv1.0 3×64×64", "4 input of fc"):
        assert words in shown
    bench("show", "torchvision:squeezenet1_1,weights=none")
    assert "0 input of features.0 3×224×224" in " ".join(capsys.readouterr().out.split())
