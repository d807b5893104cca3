"""Noise on weights and int8 against numpy, torch's own rounding and whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from stressbench import randomness, registry
from stressbench.cli import main
from stressbench.contracts import Segmentation
from stressbench.datasets.digits import digits
from stressbench.errors import UserError
from stressbench_plugins.layers import MCDropout
from stressbench_suites.analysis.directions import direction, step
from stressbench_suites.analysis.quantisation import int8, quantised_input, quantised_weight
from stressbench_suites.analysis.weight_noise import WeightNoiseSuite


def net(width: int = 4, extra: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, 10)]
    return nn.Sequential(*layers[:3], *([extra] if extra else []), *layers[3:]).eval()


def test_a_direction_has_each_filters_norm_and_leaves_vectors_alone() -> None:
    module = net()
    module[0].weight.data[2] = 0
    along = direction(module, 5)
    assert [one.shape for one in along] == [module[0].weight.shape, module[4].weight.shape]
    for weight, change in zip((module[0].weight, module[4].weight), along, strict=True):
        flat = weight.detach().flatten(1).numpy()
        np.testing.assert_allclose(np.linalg.norm(change.flatten(1), axis=1), np.linalg.norm(flat, axis=1), rtol=1e-5)
    assert not along[0][2].any()  # of a filter of zeros
    of_layers = direction(module, 5, "layer")
    assert float(of_layers[0].norm()) == pytest.approx(float(module[0].weight.detach().norm()), rel=1e-5)
    # One seed, one set of numbers: only the scale of each filter differs.
    ratio = of_layers[1] / along[1]
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-4)
    with pytest.raises(UserError, match="did you mean 'filter'"):
        direction(module, 5, "filer")  # type: ignore[arg-type]


def test_networks_of_one_architecture_share_a_direction_from_a_seed() -> None:
    one, other = direction(net(), 1), direction(net(extra=MCDropout(0.1)), 1)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], direction(net(), 2)[0])


def test_weights_and_inputs_are_rounded_as_torch_rounds_them() -> None:
    weight = torch.randn(5, 3, 3, 3)
    weight[1] = 0
    scale = weight.abs().flatten(1).amax(1).clamp(min=1e-12) / 127
    zero = torch.zeros(5, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)
    assert torch.allclose(quantised_weight(weight), expected, atol=1e-6)
    x = torch.cat([torch.randn(2, 4, 6, 6), 3 + torch.rand(1, 4, 6, 6), torch.zeros(1, 4, 6, 6)])
    found = quantised_input(x)
    for image, rounded in zip(x[:3], found, strict=False):
        low, high = min(float(image.min()), 0.0), max(float(image.max()), 0.0)
        scale_of = (high - low) / 255
        there = torch.fake_quantize_per_tensor_affine(image, scale_of, round(-low / scale_of), 0, 255)
        assert float((rounded - there).abs().max()) <= 1e-5
        assert len(rounded.unique()) <= 256
    assert not found[3].any()
    assert torch.equal(found[:1], quantised_input(x[:1]))  # whatever else is in the batch


@torch.no_grad()
def test_int8_predictions_are_those_of_integer_arithmetic() -> None:
    module, images = net(), torch.rand(3, 3, 8, 8)
    conv, norm, linear = (module[i] for i in (0, 1, 4))

    def integers(layer: nn.Module, x: Tensor, function: str, **options: int) -> Tensor:
        """A layer on one image, its products and sums in int64."""
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        levels = weight.abs().flatten(1).amax(1) / 127
        whole = (weight / levels.view(-1, *[1] * (weight.ndim - 1))).round().long()
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale = (high - low) / 255
        zero = round(-low / scale)
        codes = ((x.double() / scale).round() + zero).clamp(0, 255).long() - zero
        sums = getattr(nn.functional, function)(codes.double(), whole.double(), **options)
        shape = (1, -1, *[1] * (sums.ndim - 2))
        return sums * scale * levels.view(shape) + bias.view(shape)

    expected = []
    for image in images:
        x = integers(conv, image[None], "conv2d")
        x = nn.functional.batch_norm(
            x, norm.running_mean.double(), norm.running_var.double(), norm.weight.double(), norm.bias.double()
        )
        expected.append(integers(linear, x.relu().flatten(1), "linear"))
    with int8(module):
        found = module(images)
    assert torch.allclose(found.double(), torch.cat(expected), atol=2e-3)
    assert not any(layer._forward_pre_hooks for layer in module.modules())


def result(out: Path, *words: object) -> dict[str, dict[str, float]]:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", "weight-noise", "--limit", "30", "--out", str(out), *map(str, words)])
    assert not ended.value.code
    (path,) = out.glob("digits-weight-noise-*/record.json")
    record = json.loads(path.read_text())
    rows = {
        f"{row['condition']['weights']} {row['condition']['share']} {row['condition']['repeat']}": row["metrics"]
        for row in record["conditions"]
    }
    return rows | {"record": record["metrics"]}


def test_a_run_measures_the_network_with_noise_on_its_weights(tmp_path: Path) -> None:
    found = result(tmp_path, "--model", "tiny", "--shares", "0.5", "--shares", "0.1", "--repeats", 2)
    data = digits("test")
    module = registry.model("tiny", data).eval()
    images, labels = data.images.read(0, 30) / 255, data.targets.read(0, 30)
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    each = []
    for share in (0.1, 0.5):
        for repeat in (0, 1):
            module.load_state_dict(kept)
            step(module, direction(module, randomness.derive("weight-noise", repeat)), share)
            with torch.no_grad():
                nll = float(nn.functional.cross_entropy(module(images), labels))
            assert found[f"gaussian {share} {repeat}"]["nll"] == pytest.approx(nll, rel=1e-4)
            each.append(nll)
    assert found["record"]["mean_nll"] == pytest.approx(np.mean(each), rel=1e-4)
    module.load_state_dict(kept)
    with torch.no_grad():
        clean = float(nn.functional.cross_entropy(module(images), labels))
        with int8(module):
            rounded = float(nn.functional.cross_entropy(module(images), labels))
    assert found["record"]["clean_nll"] == pytest.approx(clean, rel=1e-5)
    assert found["record"]["int8_nll"] == pytest.approx(rounded, rel=1e-3)
    assert clean != pytest.approx(rounded, rel=1e-6)


@pytest.mark.parametrize(
    "model", ["ensemble:dropped+(tiny,width=4)", "infer-dropout:tiny,location=0", "mc-dropout:small"]
)
def test_it_runs_on_models_made_of_models(tmp_path: Path, model: str) -> None:
    words = ["--weights", tmp_path / "w"] if "small" in model else []
    if words:
        from safetensors.torch import save_file

        torch.manual_seed(1)
        save_file(registry.model("small", digits("test")).state_dict(), tmp_path / "w")
    found = result(tmp_path, "--model", model, "--shares", "0.1", "--repeats", 1, "--draws", 2, *words)
    assert all(value is not None for value in found["record"].values())


def test_dense_tasks_have_their_own_metrics() -> None:
    suite = WeightNoiseSuite().for_task("segmentation")
    names = [metric.name for metric in Segmentation.row_metrics]
    assert [metric.name for metric in suite.metrics] == [f"{w}_{n}" for w in ("mean", "clean", "int8") for n in names]
    table = pd.DataFrame({"pixels": [4, 4], "wrong": [1, 2], "nll": [1.0, 2.0]})
    table["calibration"] = [[8.0, 6.0, 5.0]] * 2
    table["overlap"] = [[3.0, 4.0]] * 2
    assert suite.score(suite.conditions()[:1], [table])[0]["error"] == pytest.approx(3 / 8)


@pytest.mark.parametrize(("options", "fault"), [({"shares": (0.0,)}, "share 0.0"), ({"repeats": 0}, "repeats=0")])
def test_invalid_options_are_refused(options: dict[str, object], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        WeightNoiseSuite(**options)  # type: ignore[arg-type]
