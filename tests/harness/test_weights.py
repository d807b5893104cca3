"""Weights files: what is read, what is refused and in which words, and what a checksum stands for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from public_resnet20 import resnet20
from stressbench import weights
from stressbench.contracts import Classification, Dataset, InMemory
from stressbench.errors import UserError

PUBLIC = Path(__file__).parents[3] / "shared" / "weights" / "cifar10_resnet20_public.th"


def net(classes: int = 3, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def refusal(module: nn.Module, path: Path) -> str:
    """The one line that refuses a file; the module must be as it was."""
    before = weights.checksum(module)
    with pytest.raises(UserError) as caught:
        weights.load(module, path)
    assert weights.checksum(module) == before
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


class RunsCode:
    """What a malicious file does when it is unpickled."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.target,)


# --- what is read ---------------------------------------------------------------------------------------------


def test_saved_weights_are_read_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "w.safetensors"
    weights.save(net(seed=1), path, {"recipe": "fast", "seed": "1"})
    other = net(seed=2)
    weights.load(other, path)
    assert weights.checksum(other) == weights.checksum(net(seed=1))
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata() == {"recipe": "fast", "seed": "1"}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read_whatever_wraps_them(tmp_path: Path, key: str | None, prefix: str, zipped: bool) -> None:
    state = {prefix + name: tensor for name, tensor in net(seed=1).state_dict().items()}
    path = tmp_path / "w.pt"
    content = state if key is None else {key: state, "epoch": 200}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    other = net(seed=2)
    weights.load(other, path)
    assert weights.checksum(other) == weights.checksum(net(seed=1))


def test_a_count_of_batches_may_be_missing_and_nothing_else(tmp_path: Path) -> None:
    state = net(seed=1).state_dict()
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "old.pt")
    weights.load(net(), tmp_path / "old.pt")
    del state["1.running_var"]
    torch.save(state, tmp_path / "less.pt")
    assert "1 missing (1.running_var)" in refusal(net(), tmp_path / "less.pt")


@pytest.mark.skipif(not PUBLIC.exists(), reason=f"the public ResNet-20 is not at {PUBLIC}")
def test_the_public_resnet20_is_read() -> None:
    data = Dataset(
        "cifar10", "test", Classification(10), InMemory(torch.zeros(0, 3, 32, 32)), InMemory(torch.zeros(0)), (32, 32)
    )
    module = resnet20(data)
    weights.load(module, PUBLIC)
    theirs = torch.load(PUBLIC, weights_only=True, map_location="cpu")["state_dict"]
    assert torch.equal(module.state_dict()["linear.weight"], theirs["module.linear.weight"])
    assert torch.equal(module.state_dict()["layer3.2.bn2.running_var"], theirs["module.layer3.2.bn2.running_var"])


# --- what is refused ------------------------------------------------------------------------------------------


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "no weights file" in refusal(net(), tmp_path / "none.pt")
    assert "is a folder" in refusal(net(), tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a weights file"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\n<html>", "a web page"),
        (bytes(range(200, 256)), "not a weights file"),
        (b"\x10\0\0\0\0\0\0\0{ no json at all }", "not a whole safetensors file"),
        (b"PK\x03\x04" + bytes(100), "not a whole file of torch.save"),
        (b"\x80\x02garbage that follows", "damaged or holds more than tensors"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(content)
    assert words in refusal(net(), path)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "pickle"])
def test_a_file_that_was_cut_short(tmp_path: Path, kind: str, kept: float) -> None:
    path = tmp_path / "w"
    if kind == "safetensors":
        weights.save(net(), path, {})
    else:
        torch.save(net().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    refusal(net(), path)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_unpickled(tmp_path: Path, zipped: bool) -> None:
    target = tmp_path / "made by the file"
    content = {"state_dict": net().state_dict(), "extra": RunsCode(str(target))}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    text = refusal(net(), tmp_path / "w.pt")
    assert "refused" in text
    assert "safetensors" in text
    assert not target.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "w.pt")
    assert "refused" in refusal(net(), tmp_path / "w.pt")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], torch.zeros(3), {"a": torch.zeros(1), "b": "text"}])
def test_files_without_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert "holds no state dict" in refusal(net(), tmp_path / "w.pt")


def test_weights_of_another_architecture_are_told_by_count_and_name(tmp_path: Path) -> None:
    weights.save(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(2, 2)), tmp_path / "w", {})
    text = refusal(net(), tmp_path / "w")
    assert "6 missing (1.weight, 1.bias, 1.running_mean, …)" in text
    assert "2 unexpected (2.bias, 2.weight)" in text


def test_another_number_of_classes_is_told_by_the_shapes(tmp_path: Path) -> None:
    weights.save(net(classes=100), tmp_path / "w", {})
    text = refusal(net(classes=10), tmp_path / "w")
    assert "2 of another shape (3.weight (100, 4) for (10, 4), 3.bias (100,) for (10,))" in text
    assert "number of classes" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    state = net().state_dict()
    state["3.bias"][1] = value
    safetensors.torch.save_file(state, tmp_path / "w")
    assert "'3.bias'" in refusal(net(seed=1), tmp_path / "w")


# --- writing, places, checksums -------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write the weights"):
        weights.save(net(), tmp_path / "file" / "w.safetensors", {})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    weights.save(net(seed=1), path, {})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left"):
            weights.save(net(seed=2), path, {})
    other = net()
    weights.load(other, path)
    assert weights.checksum(other) == weights.checksum(net(seed=1))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_tied_weights_are_written(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    weights.save(tied, tmp_path / "w", {})
    weights.load(tied, tmp_path / "w")


def test_stored_names_one_file_for_a_dataset_a_model_and_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path))
    assert weights.stored("cifar10", "resnet18-smooth", 3) == (
        tmp_path / "weights" / "cifar10" / "resnet18-smooth" / "seed3.safetensors"
    )
    assert weights.stored("d", "a,x=1,y=2", 0) == weights.stored("d", "a,y=2,x=1", 0)
    specs = ["a:b", "a/b", "a-b", "a,b=c", "a-b=c", "../../a", "ä", "a" * 300, "a" * 301]
    paths = {weights.stored("d", spec, 0) for spec in specs}
    assert len(paths) == len(specs)
    for path in paths:
        assert path.resolve().parents[1] == (tmp_path / "weights" / "d").resolve()
        assert len(path.parent.name) < 128


def test_the_checksum_is_of_names_types_shapes_and_values() -> None:
    base = weights.checksum(net())
    assert base.startswith("sha256:")
    assert len(base) == 7 + 64
    assert weights.checksum(net()) == base
    assert weights.checksum(net().to(memory_format=torch.channels_last)) == base
    changed = net()
    with torch.no_grad():
        changed[3].bias[0] = torch.nextafter(changed[3].bias[0], torch.tensor(9.0))
    named = nn.Sequential(*net().children(), nn.Identity())
    named.add_module("x", named[3])
    flat = net()
    flat[3].bias = nn.Parameter(flat[3].bias.detach().view(1, -1))
    different = {weights.checksum(m) for m in (changed, named, flat, net().double(), net(seed=1))}
    assert len(different | {base}) == 6


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "quantised (float8_e4m3fn)"),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantised (qint8)"),
        (lambda tensor: tensor.to("meta"), "without its numbers"),
        (lambda tensor: tensor.to_sparse(), "in a sparse or nested layout"),
        (lambda tensor: (100 * tensor).to(torch.int8), "as int8, where the network has float32"),
        (lambda tensor: tensor.to(torch.complex64), "as complex64, where the network has float32"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_numbers_that_are_not_the_networks_are_refused(
    stored: Callable[[torch.Tensor], torch.Tensor], words: str, tmp_path: Path
) -> None:
    content = net(seed=1).state_dict()
    torch.save({**content, "3.weight": stored(content["3.weight"])}, tmp_path / "w.pt")
    line = refusal(net(), tmp_path / "w.pt")
    assert f"w.pt holds '3.weight' {words}" in line
    assert line.endswith(": save the state dict of the plain float network")
