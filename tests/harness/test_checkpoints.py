"""Checkpoints as training scripts leave them: names, containers, several sets in one file, and files that are none."""

from __future__ import annotations

import argparse
import io
import pathlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stressbench import weights
from stressbench.errors import UserError

State = dict[str, torch.Tensor]


class Net(nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.bn = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 3)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.fill_(value)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(self.conv(images)).mean(dim=(2, 3)))


class Inside(nn.Module):
    """A network whose one child is called `module`, as a wrapper with the normalisation inside often calls it."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.module = Net(value)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.module(images - 0.5)


def state(value: float, prefix: str = "") -> State:
    return {prefix + name: tensor for name, tensor in Net(value).state_dict().items()}


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "file.pt")
    return tmp_path / "file.pt"


def value_after(path: Path, module: nn.Module | None = None) -> float:
    """The value that all weights have after loading; the checksum is that of a network made with it."""
    net = Net() if module is None else module
    weights.load(net, path)
    values = {float(tensor) for p in net.parameters() for tensor in p.detach().flatten()}
    assert len(values) == 1
    if module is None:
        assert weights.checksum(net) == weights.checksum(Net(*values))
    return values.pop()


def refusal(path: Path, module: nn.Module | None = None) -> str:
    net = Net() if module is None else module
    before = weights.checksum(net)
    with pytest.raises(UserError) as caught:
        weights.load(net, path)
    assert weights.checksum(net) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- names ----------------------------------------------------------------------------------------------------

WRAPPERS: dict[str, Callable[[float], nn.Module]] = {
    "module": Inside,
    "DataParallel": lambda value: nn.DataParallel(Net(value)),
    "compile": lambda value: torch.compile(Net(value), backend="eager"),
    "compiled DataParallel": lambda value: torch.compile(nn.DataParallel(Net(value)), backend="eager"),
    "compiled child": lambda value: nn.Sequential(torch.compile(Net(value), backend="eager")),
}


@pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS)
def test_a_network_gets_back_what_was_saved_of_it(make: Callable[[float], nn.Module], tmp_path: Path) -> None:
    weights.save(make(2.0), tmp_path / "own.safetensors", {})
    assert value_after(tmp_path / "own.safetensors", make(0.0)) == 2


@pytest.mark.parametrize("make", [*WRAPPERS.values()][:4], ids=[*WRAPPERS][:4])
def test_weights_of_the_bare_network_fit_the_wrapped_one(make: Callable[[float], nn.Module], tmp_path: Path) -> None:
    assert value_after(saved(tmp_path, state(2)), make(0.0)) == 2


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.backbone.", "model.module."],
)
def test_a_prefix_of_the_whole_file_is_left_out(prefix: str, tmp_path: Path) -> None:
    assert value_after(saved(tmp_path, {"state_dict": state(2, prefix)})) == 2


def test_weights_that_torch_averaged(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(Net(2.0))
    assert value_after(saved(tmp_path, averaged.state_dict())) == 2


def test_a_prefix_beside_other_tensors_is_named_and_can_be_chosen(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": {**state(2, "model."), "loss.weight": torch.ones(3)}})
    assert f"{path}#model" in refusal(path)
    assert value_after(path.with_name("file.pt#model")) == 2


def test_two_prefixes_that_both_fit_are_never_chosen_between(tmp_path: Path) -> None:
    path = saved(tmp_path, {**state(1, "model."), **state(2, "model_ema.")})
    assert f"{path}#model or {path}#model_ema" in refusal(path)
    assert value_after(path.with_name("file.pt#model_ema")) == 2


def test_tensors_that_a_profiler_left_are_named(tmp_path: Path) -> None:
    text = refusal(saved(tmp_path, {**state(2), "total_ops": torch.zeros(1), "conv.total_params": torch.zeros(1)}))
    assert "2 unexpected" in text
    assert "total_ops" in text
    assert "remove the others" in text
    assert "architecture" not in text


def test_a_part_of_a_network_and_one_of_several_files(tmp_path: Path) -> None:
    part = {name: tensor for name, tensor in state(2).items() if name.startswith("fc")}
    assert "holds a part of the network" in refusal(saved(tmp_path, part))
    weights.save_tensors(part, tmp_path / "model-00001-of-00002.safetensors", {})
    assert "one of several files" in refusal(tmp_path / "model-00001-of-00002.safetensors")


class Tied(nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        nn.init.constant_(self.first.weight, value)


@pytest.mark.parametrize("kept", ["first.weight", "second.weight"])
def test_a_tied_tensor_may_be_there_once(kept: str, tmp_path: Path) -> None:
    assert value_after(saved(tmp_path, {kept: Tied(2.0).state_dict()[kept]}), Tied()) == 2


def test_a_tied_tensor_that_differs_is_refused(tmp_path: Path) -> None:
    text = refusal(saved(tmp_path, {"first.weight": torch.ones(3, 3), "second.weight": torch.zeros(3, 3)}), Tied())
    assert "uses one tensor as first.weight and second.weight" in text


def test_older_names_that_a_module_reads_itself(tmp_path: Path) -> None:
    old = {"weight_g": torch.full((3, 1), 2.0), "weight_v": torch.ones(3, 4), "bias": torch.full((3,), 2.0)}
    new = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    weights.load(new, saved(tmp_path, old))
    # w = g v / |v|, and |v| is the square root of 4
    assert torch.equal(new.weight, torch.ones(3, 4))


# --- containers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["net", "params", "params_ema", "state_dict", "model", "ema", "weights", "network"])
def test_the_only_set_is_read_under_any_key(key: str, tmp_path: Path) -> None:
    beside = {
        "acc": 95.5,
        "epoch": 199,
        "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 1}]},
    }
    assert value_after(saved(tmp_path, {key: state(2), **beside})) == 2


def test_what_training_scripts_put_beside_the_weights(tmp_path: Path) -> None:
    beside = {
        "args": argparse.Namespace(lr=0.1, model="net", out=pathlib.Path("runs/1"), betas=(0.9, 0.99)),
        "best_acc": np.float64(0.9),
        "metric": np.float32(0.5),
        "epoch": np.int64(3),
    }
    assert value_after(saved(tmp_path, {"state_dict": state(2), **beside})) == 2


def test_a_class_of_a_stranger_is_named_and_not_made(tmp_path: Path) -> None:
    text = refusal(saved(tmp_path, {"state_dict": state(2), "net": Net()}))
    assert f"{Net.__module__}.Net" in text
    assert "refused" in text


PAIRS: list[tuple[str, str]] = [("model", "model_ema"), ("state_dict", "state_dict_ema"), ("params", "params_ema")]


@pytest.mark.parametrize(("raw", "averaged"), PAIRS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_raw_and_averaged_weights_are_never_chosen_between(
    raw: str, averaged: str, prefix: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, {raw: state(1), averaged: state(2, prefix), "epoch": 3})
    text = refusal(path)
    assert f"2 sets of weights, under {raw}, {averaged}: choose one" in text
    assert f"{path}#{averaged}" in text
    assert value_after(path.with_name(f"file.pt#{raw}")) == 1
    assert value_after(path.with_name(f"file.pt#{averaged}")) == 2


def test_averaged_weights_without_names_are_a_second_set(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": state(1), "ema": {"decay": 0.9, "shadow_params": [torch.ones(2)]}})
    assert "under model, ema" in refusal(path)
    assert value_after(path.with_name("file.pt#model")) == 1


def test_averaged_weights_one_key_down(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": state(1), "ema": {"decay": 0.9, "shadow": state(2)}})
    assert "under model, ema.shadow" in refusal(path)
    assert value_after(path.with_name("file.pt#ema.shadow")) == 2


def test_a_set_of_another_network_is_no_choice(tmp_path: Path) -> None:
    path = saved(tmp_path, {"generator": state(2), "criterion": {"centres": torch.zeros(3)}})
    assert value_after(path) == 2


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": state(1), "model_ema": state(2)})
    assert "no weights under 'model_em': did you mean 'model_ema'?" in refusal(path.with_name("file.pt#model_em"))


def test_a_name_with_the_mark_is_a_name(tmp_path: Path) -> None:
    torch.save(state(2), tmp_path / "run#3.pt")
    assert value_after(tmp_path / "run#3.pt") == 2


# --- files that are not what they are called ------------------------------------------------------------------


def _scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def _archive(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _numpy(save: Callable[..., Any]) -> bytes:
    buffer = io.BytesIO()
    save(buffer, np.zeros(3))
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 44815136\n"
FILES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "pointer": (lambda: POINTER, "a Git LFS pointer", "git lfs pull"),
    "script": (_scripted, "a TorchScript archive", "state_dict()"),
    "npz": (lambda: _numpy(np.savez), "a NumPy archive", "arrays"),
    "npy": (lambda: _numpy(np.save), "a NumPy array", "arrays"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5", "arrays"),
    "keras": (lambda: _archive({"config.json": b"{}", "model.weights.h5": b""}), "Keras", "arrays"),
    "export": (
        lambda: _archive({"p/archive_format": b"pt2", "p/models/model.json": b""}),
        "torch.export",
        "state_dict()",
    ),
    "zip": (lambda: _archive({"net/file.pth": b""}), "a zip file", "unpack"),
    "onnx": (lambda: b"\x08\x08\x12\x07pytorch" + bytes(100), "an ONNX model", "exported from"),
    "index": (lambda: b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', "index of weights", "merge"),
    "config": (lambda: b'{"architecture": "resnet18"}', "JSON", "weights file"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(20), "gzip", "unpack"),
    "page": (lambda: b"<!DOCTYPE html><html>", "a web page", "/resolve/"),
    "empty": (lambda: b"", "empty", "download it again"),
}


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize(("content", "what", "cure"), FILES.values(), ids=FILES)
def test_a_file_that_is_something_else_is_named(
    content: Callable[[], bytes], what: str, cure: str, tmp_path: Path
) -> None:
    for name in ("model.safetensors", "model.pt"):
        (tmp_path / name).write_bytes(content())
        text = refusal(tmp_path / name)
        assert what in text
        assert cure in text
        assert "architecture" not in text
        assert ("again" in text) == (what == "empty")
