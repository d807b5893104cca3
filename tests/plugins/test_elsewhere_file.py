"""Models of a local file: found by name, typed by signature, and distinguished by content."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from model_family import dataset
from stressbench import registry
from stressbench.cli import main
from stressbench.errors import UserError
from stressbench_plugins import local_file, neighbours, recipes

SMALL = dataset(32)
FEW = ("--corruptions", "fog", "--severities", "1", "--limit", "8")

SOURCE = """
    from __future__ import annotations
    from dataclasses import dataclass
    from typing import TYPE_CHECKING, Literal
    from torch import nn

    if TYPE_CHECKING:
        from stressbench.contracts import Dataset

    @dataclass
    class Shape:
        width: int

    class Net(nn.Module):
        untrained = True

        def __init__(self, dataset: Dataset, width: int = 4, kind: Literal["max", "mean"] = "max") -> None:
            super().__init__()
            self.shape, self.kind = Shape(width), kind
            self.features = nn.Conv2d(3, width, 5, stride=4)
            self.head = nn.Linear(width * 49, dataset.classes)

        def forward(self, images):
            return self.head(self.features(images - 0.5).relu().flatten(1))

    def small(dataset, width: int = 4):
        return Net(dataset, width)

    constant = 3
"""


@pytest.fixture(autouse=True)
def _as_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process reads a file once; each test is one, with an empty store of weights, and trains for an epoch."""
    local_file._read.cache_clear()
    monkeypatch.setattr(recipes, "EMBEDDED_MOST_EPOCHS", 1)
    monkeypatch.setenv("STRESSBENCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    return write(tmp_path / "my files" / "nets.py")


def write(path: Path, source: str = SOURCE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    local_file._read.cache_clear()
    neighbours.read.cache_clear()
    return path


def digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def run(out: Path, *models: str) -> list[dict[str, Any]]:
    words = [word for model in models for word in ("--model", model)]
    with pytest.raises(SystemExit) as done:
        main(["run", *words, *FEW, "--out", str(out)])
    assert done.value.code == 0
    return [json.loads(path.read_text()) for path in sorted(out.glob("*/record.json"))]


def test_a_function_and_a_class_are_models_with_typed_options(nets: Path) -> None:
    module: Any = registry.model(f"file:{nets}:Net,width=6,kind=mean", SMALL)
    assert (module.shape.width, module.kind) == (6, "mean")
    assert registry.model(f"file:{nets}:small,width=5", SMALL).features.out_channels == 5  # type: ignore[union-attr]
    assert not (nets.parent / "__pycache__").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("{nets}:smal", "nets.py has no 'smal': did you mean 'small'? it has Shape, Net, small"),
        ("{nets}:nn_", "nets.py has no 'nn_': it has Shape, Net, small"),
        ("{nets}:constant", "'constant' is a int: name a network, or a class or function that makes one"),
        ("{nets}:small,widht=3", "has no option 'widht': did you mean 'width'"),
        ("{nets}:Net,kind=median", "option 'kind'"),
        ("{nets}:Shape,width=3", "it must return a Module"),
        ("{nets}", "names no network: write file:PATH.py:NAME"),
        ("{nets}:small.net", "names no network"),
        ("{nets}@000000000000:small", "has another content than"),
        ("{nets}x.py:small", "there is no file"),
        ("/dev:small", "names no network"),
    ],
)
def test_wrong_words_are_refused_in_a_line(nets: Path, words: str, expected: str) -> None:
    with pytest.raises(UserError) as error:
        registry.model("file:" + words.format(nets=nets), SMALL)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import no_such_package", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("def net(:", "cannot be imported: SyntaxError: invalid syntax"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("def net(dataset):\n    raise ValueError('no')", "failed while it was built: ValueError: no"),
        ("def net(dataset):\n    return 3", "returned a int; it must return a Module"),
        ("def net():\n    return 3", "returned a int; it must return a Module"),
        ("def net(dataset):\n    raise ValueError('no')", "ValueError: no; fix its code"),
        ("def net(num_classes, *, depth): ...", "needs a value: write file:nets.py:net,num_classes=VALUE,depth=VALUE"),
        ("import random", "imports 'random', which lies beside it and is a part of Python, too: rename"),
        ("def net():\n    import torch.nn", "imports 'torch', which lies beside it and is installed, too ("),
    ],
)
def test_a_file_at_fault_is_told_of_in_a_line(tmp_path: Path, source: str, expected: str) -> None:
    for name in ("random.py", "torch/__init__.py"):
        write(tmp_path / name, "")
    path = write(tmp_path / "nets.py", source)
    with pytest.raises(UserError) as error:
        registry.model(f"file:{path}:net", SMALL)
    assert expected in str(error.value)
    assert "nets.py" in str(error.value)
    assert "\n" not in str(error.value)


PEOPLES = """
    from functools import partial
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, num_classes=10, width=4.0):
            super().__init__()
            self.head, self.width = nn.Linear(3, num_classes), width

        def forward(self, images):
            return self.head(images.mean((2, 3)))

    class Bare(Net):
        def __init__(self, num_classes):
            super().__init__(num_classes)

    def plain():
        return Net()

    def of(data, /, width=2):
        return Net(data.classes, width)

    def any_options(**options):
        return Net(**options)

    wide, hundred = partial(Net, width=9.0), Net(100)
"""


@pytest.mark.parametrize(
    ("words", "classes", "width"),
    [
        ("Net", 10, 4.0), ("Net,num_classes=7,width=2.5", 7, 2.5), ("Bare,num_classes=7", 7, 4.0), ("plain", 10, 4.0),
        ("of", SMALL.classes, 2), ("of,width=3", SMALL.classes, 3), ("any_options", 10, 4.0), ("wide", 10, 9.0),
        ("hundred", 100, 4.0),
    ],
)  # fmt: skip
def test_networks_are_taken_as_people_write_them(tmp_path: Path, words: str, classes: int, width: float) -> None:
    path = write(tmp_path / "nets.py", PEOPLES)
    net: Any = registry.model(f"file:{path}:{words}", SMALL)
    assert (net.head.out_features, net.width) == (classes, width)
    assert type(net.width) is type(width)


def test_a_network_that_is_there_is_copied_for_each_member(tmp_path: Path) -> None:
    path = write(tmp_path / "nets.py", PEOPLES)
    one: Any = registry.model(f"file:{path}:hundred", SMALL)
    other: Any = registry.model(f"file:{path}:hundred", SMALL)
    assert one.head.weight is not other.head.weight
    assert one.head.weight.equal(other.head.weight)


def test_modules_beside_a_file_are_imported_and_a_part_of_its_digest(tmp_path: Path) -> None:
    """Wherever the import stands, and what they import in turn; what is not imported decides nothing."""
    folder, blocks = tmp_path / "nearby", "from torch import nn\n\ndef block(width):\n    return nn.Linear(3, width)\n"
    write(folder / "parts_a" / "__init__.py", "from . import inner_a")
    write(folder / "parts_a" / "inner_a.py", "from blocks_a import block")
    write(folder / "blocks_a.py", blocks)
    write(folder / "other_a.py", "WIDTH = 1")
    source = "def net(dataset):\n    from parts_a.inner_a import block\n    return block(5)"
    spec = f"file:{write(folder / 'nets.py', source)}:net"
    net: Any = registry.model(spec, SMALL)
    assert net.out_features == 5
    assert not list(tmp_path.rglob("__pycache__"))
    before = registry.resolve(spec).canonical
    write(folder / "other_a.py", "WIDTH = 2")
    assert registry.resolve(spec).canonical == before
    write(folder / "blocks_a.py", blocks + "# edited")
    assert registry.resolve(spec).canonical != before

    # Another folder's module of that name would be taken for the one that is loaded.
    write(tmp_path / "away" / "blocks_a.py", blocks)
    away = write(tmp_path / "away" / "nets.py", "from blocks_a import block")
    with pytest.raises(UserError, match="'blocks_a', which lies beside it and is loaded already from another folder"):
        registry.resolve(f"file:{away}:block,width=3")


def test_paths_may_be_relative_to_the_folder_or_the_home(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nets.parent)
    monkeypatch.setenv("HOME", str(nets.parents[1]))
    expected = f"file:nets.py@{digest(nets)}:small,width=3"
    for path in ("nets.py", "./nets.py", "~/my files/nets.py", str(nets)):
        assert registry.resolve(f"file:{path}:small,width=3").canonical == expected
        assert registry.resolve(f"infer-noise:(file:{path}:small,width=3)").canonical == f"infer-noise:({expected})"
    # What a record says can be given again, where the file is.
    assert registry.resolve(expected).canonical == expected
    with pytest.raises(UserError, match="is not an option: write option=value"):
        registry.resolve("file:my,nets.py:small")


def test_a_record_has_the_content_and_no_folder(nets: Path, tmp_path: Path) -> None:
    (record,) = run(tmp_path / "runs", f"file:{nets}:small,width=3")
    assert record["model"]["spec"] == f"file:nets.py@{digest(nets)}:small,width=3"
    assert (record["model"]["distribution"], record["model"]["version"]) == ("file", digest(nets))
    for path in tmp_path.glob("runs/*/*.json"):
        assert nets.parent.name not in path.read_text()
    assert nets.parent.name.replace(" ", "-") not in "".join(path.name for path in (tmp_path / "runs").iterdir())
    for path in (tmp_path / "home").rglob("*.safetensors"):
        assert nets.parent.name.encode() not in path.read_bytes()


def test_an_edited_file_is_another_model(nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It neither goes on with an old run nor gets weights that were trained with the old content."""
    spec = f"ensemble:(file:{nets}:small,width=3),size=2"
    assert len(run(tmp_path / "runs", spec)) == 1
    capsys.readouterr()
    assert len(run(tmp_path / "runs", spec)) == 1
    told = capsys.readouterr().err
    assert "2 of 2 conditions are already in" in told
    assert "training" not in told
    write(nets, SOURCE.replace("images - 0.5", "images - 0.25"))
    assert len(run(tmp_path / "runs", spec)) == 2
    told = capsys.readouterr().err
    assert "conditions are already in" not in told
    assert "(seed 1) has no weights for digits yet" in told


def test_files_of_one_name_and_other_content_are_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path / "a" / "nets.py"), write(tmp_path / "b" / "nets.py", SOURCE.replace("0.5", "0.25"))
    records = run(tmp_path / "runs", f"file:{a}:small", f"file:{b}:small")
    assert len({record["model"]["spec"] for record in records}) == 2
    assert len({record["model"]["weights_checksum"] for record in records}) == 2
    # And a copy in another folder is the same model.
    capsys.readouterr()
    assert len(run(tmp_path / "runs", f"file:{write(tmp_path / 'c' / 'nets.py')}:small")) == 2
    assert "already in" in capsys.readouterr().err


def test_bench_train_names_the_same_weights(nets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["train", "--model", f"file:{nets}:small", "--epochs", "1"])
    assert done.value.code == 0
    assert f"nets.py-{digest(nets)}-small" in capsys.readouterr().out
    run(tmp_path / "runs", f"file:{nets}:small")
    assert "training" not in capsys.readouterr().err
    with pytest.raises(SystemExit) as done:
        main(["show", f"file:{nets}:Net"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"model 'file:nets.py@{digest(nets)}:Net' of file {digest(nets)}, for digits" in shown
    assert "width int, default 4" in shown
    assert "kind max|mean, default max" in shown
